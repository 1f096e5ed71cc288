#!/usr/bin/env python3
"""The daemon as a service manager sees it: states, notifications, the watchdog, passed sockets, configuration in parts.

A socket of the test stands for systemd's. A model that takes as long to load as a test wants is one whose list of hot
experts is a pipe: the daemon waits to read it.
"""
import contextlib
import ctypes
import json
import os
import pathlib
import signal
import socket
import subprocess
import time
import unittest

from programs import BIN, PATIENCE_S, Daemon, TestWithFolder, slow_disk, wait_until

RAW = ("generate", "--raw", "--prompt", "hello", "--max-tokens", 10, "--json")
PTRACE_DETACH, PTRACE_SEIZE, PTRACE_INTERRUPT = 17, 0x4206, 0x4207


class Systemd:
    """What a service tells."""

    def __init__(self, folder):
        self.path = folder / "notify"
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self.socket.bind(str(self.path))
        self.told = []

    def lines(self):
        """All so far."""
        with contextlib.suppress(BlockingIOError):
            while True:
                self.told += self.socket.recv(65536).decode().splitlines()
        return self.told

    def close(self):
        self.socket.close()


class ServiceTest(TestWithFolder):
    def setUp(self):
        super().setUp()
        self.systemd = Systemd(self.folder)
        self.addCleanup(self.systemd.close)

    def service(self, model, extra_config="", arguments=("--service",), environment=None, shell=""):
        """A daemon that has been started, whatever has become of it. shell: in front of its command line."""
        daemon = Daemon(self.folder, model, extra_config)
        self.addCleanup(daemon.stop)
        command = [BIN / "siroccod", "--config", daemon.config, *arguments]
        with open(daemon.log, "ab") as log:
            daemon.process = subprocess.Popen(["bash", "-c", f'{shell} exec "$@"', "bash", *map(str, command)], stdin=subprocess.DEVNULL,
                                              stdout=log, stderr=log, pass_fds=getattr(self, "passed", ()),
                                              env={**os.environ, "NOTIFY_SOCKET": str(self.systemd.path), **(environment or {})})
        return daemon

    def wait_for_state(self, daemon, state):
        def there():
            self.assertIsNone(daemon.process.poll(), daemon.log.read_text())
            told = daemon.sirocco("status", "--json")
            return told.returncode == 0 and json.loads(told.stdout)["state"] == state
        wait_until(there, state)

    def check(self, daemon):
        """Exit code and line."""
        done = daemon.sirocco("status", "--check")
        self.assertEqual(done.stdout.decode().count("\n"), 1)
        return done.returncode, done.stdout.decode().rstrip("\n")

    def slow_model(self):
        """A model, its configuration, and the pipe whose other end must be opened for loading to end."""
        model = self.folder / "slow.gguf"
        subprocess.run([BIN / "sirocco", "model", "synth", model, "--preset", "tiny-moe", "--experts", "64", "--type", "F32"], check=True,
                       capture_output=True)
        whole = self.daemon(model, "memory: {kv_tokens: 2048}\n")
        charged = sum(line["bytes"] for line in whole.status()["memory"] if line["name"].startswith("* "))
        whole.stop()
        pipe = self.folder / "hot-set"
        os.mkfifo(pipe)
        return model, f"memory: {{kv_tokens: 2048, budget: {charged // 2**20 + 40}MiB, hot_set: {pipe}}}\n", pipe


class States(ServiceTest):
    def test_while_the_model_loads_status_is_answered_and_the_first_request_waits_for_it(self):
        model, config, pipe = self.slow_model()
        daemon = self.service(model, config)
        self.wait_for_state(daemon, "STARTING")
        self.assertEqual(self.check(daemon)[0], 1)
        self.assertRegex(self.check(daemon)[1], r"STARTING: loading slow\.gguf: .* of .*iB")
        request = daemon.start_sirocco(*RAW)
        wait_until(lambda: daemon.status()["requests_queued"] == 1, "the request waits")
        self.assertNotIn("READY=1", self.systemd.lines())
        wait_until(lambda: any(line.startswith("EXTEND_TIMEOUT_USEC=") for line in self.systemd.lines()), "progress is told")
        pipe.write_text("nothing\n")
        out, error = request.communicate(timeout=PATIENCE_S)
        self.assertEqual(request.returncode, 0, error)
        self.assertEqual(json.loads(out)["usage"]["generated_tokens"], 10)
        wait_until(lambda: "READY=1" in self.systemd.lines(), "it is told when it is up")
        told = self.systemd.lines()
        loading = [line for line in told if line.startswith("STATUS=Loading slow.gguf")]
        self.assertTrue(loading)
        self.assertLess(told.index(loading[0]), told.index("READY=1"))

    def test_sigterm_while_the_model_loads_ends_it_soon(self):
        model, config, pipe = self.slow_model()
        daemon = self.service(model, config)
        self.wait_for_state(daemon, "STARTING")
        request = daemon.start_sirocco(*RAW)
        wait_until(lambda: daemon.status()["requests_queued"] == 1, "the request waits")
        self.assertEqual(daemon.stop(), 0)
        self.assertIn("SHUTTING_DOWN", request.communicate(timeout=PATIENCE_S)[1].decode())
        self.assertIn("STOPPING=1", self.systemd.lines())
        self.assertFalse(daemon.socket.exists())
        self.assertTrue(pipe.exists())

    def test_as_a_service_a_model_that_cannot_be_loaded_is_the_state_failed_until_a_reload_can(self):
        model = self.synth()
        aside = model.rename(self.folder / "aside.gguf")
        daemon = self.service(model)
        self.wait_for_state(daemon, "FAILED")
        wait_until(lambda: "READY=1" in self.systemd.lines(), "systemd has been told")
        self.assertTrue(any(line.startswith(f"STATUS=Failed: {model}: ") for line in self.systemd.lines()), self.systemd.lines())
        code, line = self.check(daemon)
        self.assertEqual(code, 2)
        self.assertIn(f"FAILED: {model}: ", line)
        refused = daemon.sirocco(*RAW)
        self.assertEqual(refused.returncode, 1)
        self.assertIn(str(model), refused.stderr.decode())
        self.assertIn(str(model), daemon.sirocco("reload").stderr.decode())
        self.wait_for_state(daemon, "FAILED")
        aside.rename(model)
        daemon.process.send_signal(signal.SIGHUP)
        self.wait_for_state(daemon, "READY")
        self.assertEqual(self.check(daemon), (0, f"READY: {daemon.status()['model']['name']}"))
        self.assertEqual(daemon.sirocco(*RAW).returncode, 0)

    def test_otherwise_it_ends_the_daemon_with_the_reason(self):
        daemon = self.service(self.folder / "none.gguf", arguments=())
        self.assertEqual(daemon.process.wait(PATIENCE_S), 1)
        self.assertRegex(daemon.log.read_text(), r"(?m)^siroccod: .*none\.gguf: ")
        self.assertNotIn("READY=1", self.systemd.lines())
        self.assertEqual(self.check(daemon)[0], 2)

    def test_without_a_model_it_is_up_and_says_so(self):
        daemon = self.service('""')
        self.wait_for_state(daemon, "NO_MODEL")
        wait_until(lambda: "READY=1" in self.systemd.lines(), "systemd has been told")
        self.assertEqual(self.check(daemon), (2, "NO_MODEL"))


class Ending(ServiceTest):
    def told_while_it_ends(self, slow_ms, sessions, patience_s):
        """How often more time was asked for, by a daemon that ends with so many sessions to write to such a disk."""
        daemon = self.service(self.synth(), f"sessions: {{directory: {self.folder}/sessions}}\n",
                              environment={"LD_PRELOAD": str(slow_disk(self.folder)), "SLOW_DISK_MS": str(slow_ms)})
        self.wait_for_state(daemon, "READY")
        for number in range(sessions):
            done = daemon.sirocco("generate", "--raw", "--session", f"s{number}", "--prompt", "hello", "--max-tokens", 2)
            self.assertEqual(done.returncode, 0, done.stderr)
        daemon.process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            daemon.process.wait(patience_s)
        status = daemon.process.poll()
        daemon.process.kill()
        told = self.systemd.lines()
        return status, sum(line.startswith("EXTEND_TIMEOUT_USEC=") for line in told[told.index("STOPPING=1"):])

    def test_as_long_as_sessions_reach_the_disk_more_time_is_asked_for(self):
        status, asked = self.told_while_it_ends(slow_ms=500, sessions=3, patience_s=PATIENCE_S)
        self.assertEqual(status, 0)
        self.assertGreaterEqual(asked, 2)
        self.assertEqual(len(list((self.folder / "sessions").glob("*.session"))), 3)

    def test_but_not_of_a_disk_that_does_not_answer(self):
        status, asked = self.told_while_it_ends(slow_ms=600_000, sessions=3, patience_s=3.5)
        self.assertIsNone(status)
        self.assertLessEqual(asked, 1)  # for the engine's own end, which went well


class WatchdogTest(ServiceTest):
    def pings(self):
        return self.systemd.lines().count("WATCHDOG=1")

    def ping_comes(self):
        before = self.pings()
        wait_until(lambda: self.pings() > before, "a ping")

    def thread(self, daemon, name):
        for task in pathlib.Path(f"/proc/{daemon.process.pid}/task").iterdir():
            if (task / "comm").read_text().strip() == name:
                return int(task.name)
        self.fail(f"no thread {name}")

    @contextlib.contextmanager
    def frozen(self, thread):
        libc = ctypes.CDLL(None, use_errno=True)
        libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
        if libc.ptrace(PTRACE_SEIZE, thread, None, None) != 0:
            self.skipTest(f"ptrace: {os.strerror(ctypes.get_errno())}")
        libc.ptrace(PTRACE_INTERRUPT, thread, None, None)
        os.waitpid(thread, 0x40000000)  # __WALL
        yield
        libc.ptrace(PTRACE_DETACH, thread, None, None)

    def test_a_thread_that_is_frozen_stops_the_pings_of_a_daemon_that_answers(self):
        daemon = self.service(self.synth(), environment={"WATCHDOG_USEC": "1000000"})
        self.wait_for_state(daemon, "READY")
        self.ping_comes()
        for name, called in (("engine", "engine"), ("io", "I/O")):
            with self.frozen(self.thread(daemon, name)):
                time.sleep(1)  # what was on its way
                before = self.pings()
                time.sleep(2)
                self.assertEqual(self.pings(), before, name)
                if name == "engine":
                    self.assertEqual(daemon.status()["state"], "READY")
            self.ping_comes()
            self.assertIn(f"the {called} thread has shown no sign of life", daemon.log.read_text())

    def test_it_is_pinged_while_answers_are_given_and_while_a_model_is_loaded(self):
        model, config, pipe = self.slow_model()
        daemon = self.service(model, config + "engine: {backend: ref}\n", environment={"WATCHDOG_USEC": "2000000"})
        self.wait_for_state(daemon, "STARTING")
        self.ping_comes()
        pipe.write_text("nothing\n")
        answering = daemon.start_sirocco("generate", "--raw", "--prompt", "once", "--max-tokens", 400, "--json")
        while answering.poll() is None:
            self.ping_comes()
        self.assertEqual(answering.wait(), 0)
        answering.communicate()
        self.assertNotIn("no sign of life", daemon.log.read_text())

    def test_a_model_that_is_loaded_between_two_pings_and_rests_is_not_taken_for_one_that_hangs(self):
        model, config, pipe = self.slow_model()
        daemon = self.service(model, config, environment={"WATCHDOG_USEC": "2000000"})
        self.wait_for_state(daemon, "STARTING")
        self.ping_comes()
        pipe.write_text("nothing\n")
        self.wait_for_state(daemon, "READY")
        for _ in range(2):
            self.ping_comes()
        self.assertNotIn("no sign of life", daemon.log.read_text())

    def test_nobody_is_pinged_who_has_not_asked(self):
        daemon = self.service(self.synth())
        self.wait_for_state(daemon, "READY")
        time.sleep(1)
        self.assertEqual(self.pings(), 0)


class PassedSockets(ServiceTest):
    def listening(self, name):
        passed = socket.socket(socket.AF_UNIX)
        passed.bind(str(self.folder / name))
        passed.listen()
        self.addCleanup(passed.close)
        return passed

    def activated(self, model, sockets, extra_config=""):
        """As systemd starts a service for its sockets: from descriptor 3 on, named."""
        self.passed = [passed.fileno() for passed in sockets.values()]
        # Out of the way first, since one of them may be 3 already.
        shell = " ".join(f"exec {20 + i}<&{fd};" for i, fd in enumerate(self.passed))
        shell += " ".join(f"exec {3 + i}<&{20 + i} {20 + i}<&-;" for i in range(len(self.passed)))
        shell += f"export LISTEN_PID=$$ LISTEN_FDS={len(sockets)} LISTEN_FDNAMES={':'.join(sockets)};"
        return self.service(model, extra_config, shell=shell)

    def test_the_request_that_waits_in_a_passed_socket_is_answered_and_the_file_stays(self):
        client = self.listening("s.sock")
        early = subprocess.Popen([BIN / "sirocco", *map(str, RAW)], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                 env={**os.environ, "SIROCCO_SOCKET": str(self.folder / "s.sock")})
        daemon = self.activated(self.synth(), {"client": client}, '  mode: "0600"\n')
        out, error = early.communicate(timeout=PATIENCE_S)
        self.assertEqual(early.returncode, 0, error)
        self.assertEqual(json.loads(out)["usage"]["generated_tokens"], 10)
        self.assertIn("server.mode and server.group change nothing", daemon.log.read_text())
        self.assertEqual(daemon.sirocco("budget").returncode, 0)  # the other socket is made
        self.assertEqual(daemon.stop(), 0)
        self.assertTrue((self.folder / "s.sock").exists())
        self.assertFalse((self.folder / "s-admin.sock").exists())

    def test_both_may_be_passed(self):
        sockets = {"admin": self.listening("s-admin.sock"), "client": self.listening("s.sock")}
        daemon = self.activated(self.synth(), sockets)
        self.wait_for_state(daemon, "READY")
        self.assertEqual(daemon.sirocco("evict").returncode, 0)
        self.assertEqual(daemon.stop(), 0)
        self.assertTrue((self.folder / "s-admin.sock").exists())

    def test_what_is_not_expected_is_refused(self):
        daemon = self.activated(self.synth(), {"sirocco.socket": self.listening("s.sock")})
        self.assertEqual(daemon.process.wait(PATIENCE_S), 1)
        self.assertIn('a socket named "sirocco.socket"; allowed: client, admin', daemon.log.read_text())


class Configuration(ServiceTest):
    def check_config(self, config):
        return subprocess.run([BIN / "siroccod", "--check-config", "--config", config], capture_output=True, timeout=PATIENCE_S)

    def test_it_can_be_checked_before_a_restart_finds_out(self):
        config = self.folder / "siroccod.yaml"
        parts = self.folder / "siroccod.d"
        parts.mkdir()
        config.write_text("log: {level: info}\n")
        done = self.check_config(config)
        self.assertEqual((done.returncode, done.stdout, done.stderr), (0, b"ok\n", b""))
        (parts / "10-model.yaml").write_text(f"model: {{path: {self.folder}/none.gguf}}\n")
        done = self.check_config(config)
        self.assertEqual((done.returncode, done.stdout), (1, b""))
        self.assertIn("none.gguf: No such file", done.stderr.decode())
        (parts / "20-wrong.yaml").write_text("\nlog: {levl: info}\n")
        done = self.check_config(config)
        self.assertEqual(done.returncode, 1)
        self.assertIn(f"{parts}/20-wrong.yaml:2:7: log.levl: unknown key", done.stderr.decode())

    def test_a_reload_reads_its_parts_again(self):
        daemon = self.service(self.synth())
        self.wait_for_state(daemon, "READY")
        other = self.synth(name="other.gguf", seed=2)
        parts = self.folder / "siroccod.d"
        parts.mkdir()
        (parts / "10-model.yaml").write_text(f"model: {{path: {other}}}\n")
        done = daemon.sirocco("reload", "--json")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertTrue(json.loads(done.stdout)["loaded"])
        (parts / "20-wrong.yaml").write_text("log: {levl: info}\n")
        self.assertIn("20-wrong.yaml:1:7", daemon.sirocco("reload").stderr.decode())
        self.assertEqual(daemon.sirocco(*RAW).returncode, 0)


if __name__ == "__main__":
    unittest.main()

#!/usr/bin/env python3
"""What an administrator asks of a running daemon: drain, reload, evict; and what it does by itself when nobody asks."""
import json
import os
import pathlib
import signal
import socket
import subprocess
import threading
import time
import unittest

from programs import BIN, PATIENCE_S, TestWithFolder, wait_until

RAW = ("generate", "--raw", "--prompt", "hello", "--max-tokens", 40, "--json")
LONG = ("generate", "--raw", "--prompt", "once", "--max-tokens", 400, "--temperature", 1, "--seed", 5, "--json")
SLOW = "engine: {backend: ref, max_running: 4}\n"  # so that streams last for seconds


class AdminTest(TestWithFolder):
    def ids(self, daemon, arguments=RAW):
        done = daemon.sirocco(*arguments)
        self.assertEqual(done.returncode, 0, done.stderr)
        return json.loads(done.stdout)["ids"]

    def streams(self, daemon, count):
        """So many streams that have begun to answer."""
        started = [daemon.start_sirocco(*LONG) for _ in range(count)]
        wait_until(lambda: sum(r["state"] == "DECODE" for r in daemon.status()["active"]) == count, "streams run")
        return started

    def ended(self, started, expected):
        for process in started:
            out, error = process.communicate(timeout=PATIENCE_S)
            self.assertEqual(process.returncode, 0, error)
            self.assertEqual(json.loads(out)["ids"], expected)

    def logged(self, daemon, what):
        return [line for line in daemon.log.read_text().splitlines() if what in line]


class Drain(AdminTest):
    def test_running_requests_finish_and_new_ones_are_told(self):
        metrics = self.folder / "m.prom"
        daemon = self.daemon(self.synth(), SLOW + f"metrics: {{file: {metrics}, interval_s: 1}}\n")
        expected = self.ids(daemon, LONG)
        started = self.streams(daemon, 3)
        draining = daemon.start_sirocco("drain", "--json")
        wait_until(lambda: daemon.status()["state"] == "DRAINING", "it drains")
        self.assertRegex(" ".join(daemon.status()["reasons"]), r"draining: no new requests are taken, \d+ are left")
        refused = daemon.sirocco(*RAW)
        self.assertEqual(refused.returncode, 1)
        self.assertIn("SHUTTING_DOWN", refused.stderr.decode())
        self.assertIn("the daemon is draining", refused.stderr.decode())
        self.ended(started, expected)
        out, error = draining.communicate(timeout=PATIENCE_S)
        self.assertEqual((draining.returncode, json.loads(out)), (0, {"draining": True, "requests": 0}), error)
        self.assertEqual(daemon.sirocco("status", "--check").returncode, 1)
        wait_until(lambda: 'sirocco_state{state="DRAINING"} 1' in metrics.read_text(), "the metrics say so")
        undone = daemon.sirocco("drain", "--undo", "--json")
        self.assertEqual(json.loads(undone.stdout), {"draining": False, "requests": 0})
        self.assertEqual(daemon.status()["state"], "READY")
        self.assertEqual(self.ids(daemon, LONG), expected)
        self.assertTrue(self.logged(daemon, "Draining: draining"))

    def test_undone_while_it_waits_it_says_so(self):
        daemon = self.daemon(self.synth(), SLOW)
        expected = self.ids(daemon, LONG)
        started = self.streams(daemon, 1)
        draining = daemon.start_sirocco("drain")
        wait_until(lambda: daemon.status()["state"] == "DRAINING", "it drains")
        self.assertEqual(daemon.sirocco("drain", "--undo").returncode, 0)
        out, _ = draining.communicate(timeout=PATIENCE_S)
        self.assertEqual(draining.returncode, 1)
        self.assertIn("requests are taken", out.decode())
        self.ended(started, expected)

    def test_stop_ends_the_daemon_when_no_request_is_left(self):
        daemon = self.daemon(self.synth(), SLOW)
        expected = self.ids(daemon, LONG)
        started = self.streams(daemon, 2)
        draining = daemon.start_sirocco("drain", "--stop")
        self.ended(started, expected)
        out, error = draining.communicate(timeout=PATIENCE_S)
        self.assertEqual(draining.returncode, 0, error)
        self.assertIn("the daemon ends", out.decode())
        self.assertEqual(daemon.process.wait(PATIENCE_S), 0)

    def test_sigterm_while_it_drains_ends_it_at_once(self):
        daemon = self.daemon(self.synth(), SLOW)
        started = self.streams(daemon, 1)
        draining = daemon.start_sirocco("drain")
        wait_until(lambda: daemon.status()["state"] == "DRAINING", "it drains")
        self.assertEqual(daemon.stop(), 0)
        self.assertNotEqual(draining.wait(PATIENCE_S), 0)
        self.assertIn("SHUTTING_DOWN", started[0].communicate(timeout=PATIENCE_S)[1].decode())

    @unittest.skipIf(os.geteuid() != 0, "not root: cannot become another user")
    def test_others_may_not(self):
        daemon = self.daemon(self.synth(), "  admin_mode: \"0666\"\n")
        self.folder.chmod(0o755)
        for command in ("drain", "reload", "evict"):
            done = subprocess.run([BIN / "sirocco", command], capture_output=True, env=daemon.environment(), user=65534,
                                  group=65534, extra_groups=[])
            self.assertEqual(done.returncode, 1)
            self.assertIn("user 65534 may not administer this daemon", done.stderr.decode())
        self.assertEqual(daemon.status()["state"], "READY")


class Reload(AdminTest):
    def replaced_while_it_runs(self, extra_config):
        """Streams finish on the old model, requests that come meanwhile get the new one."""
        old = self.synth(name="old.gguf", seed=1)
        new = self.synth(name="new.gguf", seed=2)
        daemon = self.daemon(new, extra_config)
        of_new = self.ids(daemon)
        daemon.stop()
        daemon = self.daemon(old, extra_config)
        of_old, long_of_old = self.ids(daemon), self.ids(daemon, LONG)
        self.assertNotEqual(of_old, of_new)
        started = self.streams(daemon, 3)
        reloading = daemon.start_sirocco("reload", "--model", new, "--json")
        wait_until(lambda: daemon.status()["state"] == "DRAINING", "it reloads")
        self.assertIn("new.gguf is being loaded", " ".join(daemon.status()["reasons"]))
        meanwhile = [daemon.start_sirocco(*RAW) for _ in range(2)]
        self.assertIn("BUSY", daemon.sirocco("reload").stderr.decode())
        self.ended(started, long_of_old)
        out, error = reloading.communicate(timeout=PATIENCE_S)
        self.assertEqual(reloading.returncode, 0, error)
        self.assertTrue(json.loads(out)["loaded"])
        self.ended(meanwhile, of_new)
        self.assertEqual(daemon.status()["state"], "READY")
        self.assertEqual(self.ids(daemon), of_new)
        self.assertEqual(daemon.status()["requests_failed"], 0)
        # The one that was named stays, until another is.
        self.assertFalse(json.loads(daemon.sirocco("reload", "--json").stdout)["loaded"])
        self.assertEqual(self.ids(daemon), of_new)
        self.assertTrue(json.loads(daemon.sirocco("reload", "--model", old, "--json").stdout)["loaded"])
        self.assertEqual(self.ids(daemon), of_old)

    def test_a_new_model_with_memory_for_both(self):
        self.replaced_while_it_runs(SLOW)

    def test_a_new_model_in_the_place_of_the_old_one(self):
        self.replaced_while_it_runs(SLOW + "memory: {headroom: 100TiB, budget: 1GiB}\n")  # so nothing fits beside it

    def test_a_new_version_of_the_file_is_loaded_at_sighup(self):
        model = self.synth(name="model.gguf", seed=1)
        daemon = self.daemon(model)
        before = self.ids(daemon)
        daemon.process.send_signal(signal.SIGHUP)
        wait_until(lambda: self.logged(daemon, "reloaded"), "the configuration is read")
        self.assertEqual(self.ids(daemon), before)
        self.assertFalse(self.logged(daemon, "with another model"))
        self.synth(name="next.gguf", seed=2).rename(model)
        self.assertEqual(self.ids(daemon), before)  # the old one is held
        daemon.process.send_signal(signal.SIGHUP)
        wait_until(lambda: self.logged(daemon, "with another model"), "the model is loaded")
        self.assertNotEqual(self.ids(daemon), before)

    def test_a_model_that_cannot_be_served_changes_nothing(self):
        daemon = self.daemon(self.synth(), SLOW)
        expected, long_expected = self.ids(daemon), self.ids(daemon, LONG)
        started = self.streams(daemon, 2)
        broken = self.folder / "broken.gguf"
        broken.write_bytes((self.folder / "tiny-moe.gguf").read_bytes()[:5000])
        for model, why in ((broken, "broken.gguf"), (self.folder / "none.gguf", "No such file")):
            done = daemon.sirocco("reload", "--model", model)
            self.assertEqual(done.returncode, 1)
            self.assertIn(why, done.stderr.decode())
            self.assertEqual(daemon.status()["state"], "READY")
        self.assertTrue(self.logged(daemon, "everything stays as it was"))
        self.ended(started, long_expected)
        self.assertEqual(self.ids(daemon), expected)
        self.assertFalse(json.loads(daemon.sirocco("reload", "--json").stdout)["loaded"])

    def test_the_configuration_is_read_again(self):
        daemon = self.daemon(self.synth(), "log: {level: warning}\n")
        self.ids(daemon)
        self.assertFalse(self.logged(daemon, "MAX_TOKENS"))
        text = daemon.config.read_text()
        daemon.config.write_text(text.replace("warning", "info") + "clients: {default: {classes: interactive}}\n"
                                 "metrics: {interval_s: 3}\n")
        done = json.loads(daemon.sirocco("reload", "--json").stdout)
        self.assertEqual((done["loaded"], done["need_restart"]), (False, ["metrics"]))
        self.assertIn("but interactive", daemon.sirocco(*RAW, "--priority", "batch").stderr.decode())
        self.ids(daemon)
        self.assertTrue(self.logged(daemon, "MAX_TOKENS"))
        # One with an error changes nothing.
        daemon.config.write_text(text + "clints: {}\n")
        refused = daemon.sirocco("reload")
        self.assertEqual(refused.returncode, 1)
        self.assertRegex(refused.stderr.decode(), r"siroccod.yaml:\d+:1: clints: unknown key")
        self.assertIn("but interactive", daemon.sirocco(*RAW, "--priority", "batch").stderr.decode())
        # Another context means that the model is loaded again.
        daemon.config.write_text(text.replace("model:", "model:\n  context: 300"))
        self.assertTrue(json.loads(daemon.sirocco("reload", "--json").stdout)["loaded"])
        self.assertEqual(daemon.status()["model"]["context"], 300)

    def test_systemd_is_told(self):
        told = self.folder / "notify"
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.addCleanup(listening.close)
        listening.bind(str(told))
        listening.settimeout(PATIENCE_S)
        os.environ["NOTIFY_SOCKET"] = str(told)
        self.addCleanup(os.environ.pop, "NOTIFY_SOCKET")
        daemon = self.daemon(self.synth())

        def until(what):
            while what not in (message := listening.recv(4096).decode()):
                pass
            return message

        until("READY=1")
        before = time.clock_gettime(time.CLOCK_MONOTONIC)
        daemon.process.send_signal(signal.SIGHUP)
        began = dict(line.split("=", 1) for line in until("RELOADING=1").splitlines())
        self.assertGreaterEqual(int(began["MONOTONIC_USEC"]), before * 1e6)
        self.assertLessEqual(int(began["MONOTONIC_USEC"]), time.clock_gettime(time.CLOCK_MONOTONIC) * 1e6)
        self.assertIn("STATUS=Ready", until("READY=1"))
        daemon.sirocco("drain")
        until("STATUS=Draining: draining")
        daemon.sirocco("drain", "--undo")
        until("STATUS=Ready")


class Log(AdminTest):
    def test_a_request_is_one_line_of_keys_and_values_without_its_text(self):
        daemon = self.daemon(self.synth())
        self.ids(daemon)
        daemon.sirocco("generate", "--raw", "--prompt", "secret " * 2000)
        lines = self.logged(daemon, "request id=")
        self.assertEqual(len(lines), 2, lines)
        self.assertRegex(lines[0], r"info: request id=1 uid=\d+ pid=\d+ class=INTERACTIVE prompt_tokens=\d+ "
                         r"generated_tokens=40 age_ms=[\d.]+ finish=MAX_TOKENS cached_tokens=0 queued_ms=[\d.]+ prefill_ms=[\d.]+ decode_ms=[\d.]+$")
        self.assertRegex(lines[1], r'request id=0 .* finish=ERROR error=CONTEXT_OVERFLOW message=".*"$')
        self.assertNotIn("secret", daemon.log.read_text())
        self.assertNotIn("hello", daemon.log.read_text())

    def test_slow_steps_are_logged_with_their_reasons_and_not_all_of_them(self):
        daemon = self.daemon(self.synth(), SLOW + "log: {slow_step_ms: 1}\n")
        self.ids(daemon, ("generate", "--raw", "--prompt", "hello " * 100, "--max-tokens", "4", "--json"))  # steps of 64 rows
        lines = self.logged(daemon, "slow step=")
        self.assertEqual(len(lines), 1, lines)
        self.assertRegex(lines[0], r"warning: slow step=\d+ ms=\d+ expected_ms=\d+ sequences=1 decode_rows=\d+ prompt_rows=\d+ "
                         r"experts_read=0 read_bytes=0 disk_wait_ms=0 major_faults=\d+ preemptions=\d+$")


class Idle(AdminTest):
    def processor_ticks(self, daemon):
        fields = pathlib.Path(f"/proc/{daemon.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return int(fields[11]) + int(fields[12])

    def small(self, extra=""):
        """A daemon whose experts have fewer slots than there are experts."""
        model = self.folder / "small.gguf"
        subprocess.run([BIN / "sirocco", "model", "synth", model, "--preset", "tiny-moe", "--experts", "64", "--type", "F32"],
                       check=True, capture_output=True)
        whole = self.daemon(model, "memory: {kv_tokens: 2048}\n")
        expected = self.ids(whole)
        charged = sum(line["bytes"] for line in whole.status()["memory"] if line["name"].startswith("* "))
        whole.stop()
        daemon = self.daemon(model, f"memory: {{kv_tokens: 2048, budget: {charged // 2**20 + 40}MiB}}\n{extra}")
        self.assertIsNotNone(daemon.status()["experts"])
        self.assertEqual(self.ids(daemon), expected)
        return daemon, expected

    def test_no_processor_time_is_used_when_nobody_asks(self):
        model = self.synth()
        for extra in ("", "engine: {idle_after: 1s}\n"):
            daemon = self.daemon(model, extra)
            self.ids(daemon)
            time.sleep(1.5)
            before = self.processor_ticks(daemon)
            time.sleep(3)
            self.assertLessEqual(self.processor_ticks(daemon) - before, 1)
            daemon.stop()

    def test_after_idle_after_experts_leave_memory_and_the_next_request_takes_it_again(self):
        daemon, expected = self.small("engine: {idle_after: 1s}\n")
        slots = daemon.status()["experts"]["planned_slots"]
        wait_until(lambda: daemon.status()["memory_released"], "it rests")
        status = daemon.status()
        self.assertEqual((status["state"], status["experts"]["slots"]), ("READY", 2))
        self.assertIn("at rest", daemon.sirocco("status").stdout.decode())
        before = self.processor_ticks(daemon)
        time.sleep(2)
        self.assertLessEqual(self.processor_ticks(daemon) - before, 1)
        self.assertEqual(self.ids(daemon), expected)
        wait_until(lambda: daemon.status()["experts"]["slots"] == slots or daemon.status()["memory_released"], "slots are back")

    def test_evict_gives_memory_back_at_once_even_while_answers_are_given(self):
        daemon, expected = self.small()
        slots = daemon.status()["experts"]["slots"]
        released = json.loads(daemon.sirocco("evict", "--json").stdout)
        self.assertGreater(released["experts"], 10)
        self.assertGreater(released["bytes"], 2**20)
        self.assertEqual(daemon.status()["experts"]["slots"], 2)
        self.assertTrue(daemon.status()["memory_released"])
        long_expected = self.ids(daemon, LONG)
        wait_until(lambda: daemon.status()["experts"]["slots"] == slots, "slots are back")
        self.assertFalse(daemon.status()["memory_released"])
        answering = [daemon.start_sirocco(*LONG) for _ in range(3)]
        for _ in range(5):
            self.assertEqual(daemon.sirocco("evict").returncode, 0)
        self.ended(answering, long_expected)
        self.assertEqual(self.ids(daemon), expected)

    def test_a_model_with_slots_is_loaded_again_within_its_budget(self):
        daemon, expected = self.small()
        at_start = daemon.status()["memory"]
        os.link(self.folder / "small.gguf", self.folder / "again.gguf")
        for name in ("again.gguf", "small.gguf", "again.gguf"):
            done = daemon.sirocco("reload", "--model", self.folder / name, "--json")
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertTrue(json.loads(done.stdout)["loaded"])
            self.assertEqual(self.ids(daemon), expected)
            self.assertEqual(daemon.status()["memory"], at_start)  # no less than it had

    def test_evict_of_a_mapped_model_changes_no_answer(self):
        daemon = self.daemon(self.synth())
        expected = self.ids(daemon)
        self.assertEqual(json.loads(daemon.sirocco("evict", "--json").stdout)["experts"], 0)
        self.assertTrue(daemon.status()["memory_released"])
        self.assertEqual(self.ids(daemon), expected)
        self.assertFalse(daemon.status()["memory_released"])


if __name__ == "__main__":
    unittest.main()

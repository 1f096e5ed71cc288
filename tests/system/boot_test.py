#!/usr/bin/env python3
"""The packages in a real systemd: installed, started by a socket, reloaded, frozen, killed, starved, upgraded, removed.

A fresh Debian 12 is booted by systemd-nspawn (tests/support/booted_root.py); where that cannot be done, all of it is skipped.
"""
import json
import pathlib
import re
import subprocess
import sys
import time
import unittest

from booted_service import (CLIENT_PACKAGES, CONFIG, MODELS, PACKAGES, SLOW, Service, TestOfService, as_version, freeze, open_things,
                            packages, within)
from booted_root import BootedRoot, Unavailable, base_root, check_tools
from memory_group import MemoryGroup
from programs import BIN, DEMO_MODEL, PATIENCE_S, ROOT, slow_disk, wait_until

RESTARTS = 200
EXPOSURE = 10  # of systemd-analyze security, in tenths: 1.0
CAPITAL = "Name the capital of France."
DEBS = []         # of the daemon and the command
CLIENT_DEBS = []  # of the libraries for programs


class Running(TestOfService):
    """One root; each test begins with the service as it was installed, serving the model `one`."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.service = Service(DEBS)
        cls.addClassCleanup(cls.service.close)

    def setUp(self):
        self.service.as_installed()
        self.model = self.service.add_model(self.one)
        self.service.configure(self.model)
        self.service.restart()

    def test_units_are_verified_and_little_is_exposed(self):
        units = ("sirocco.service", "sirocco.socket", "sirocco-admin.socket")
        verified = self.service.root.run("systemd-analyze", "verify", "--man=no", *units)
        self.assertEqual(verified.stdout + verified.stderr, "")
        self.service.root.run("systemd-analyze", "security", f"--threshold={EXPOSURE}", "--no-pager", "sirocco.service")

    def test_the_first_request_to_the_socket_starts_the_service_and_is_answered(self):
        expected = self.service.answer()
        self.service.systemctl("stop", "sirocco.service")
        self.assertEqual((self.service.pid(), self.service.show("ActiveState", "sirocco.socket")), (0, "active"))
        self.assertEqual(self.service.answer(), expected)
        self.assertNotEqual(self.service.pid(), 0)

    def test_reload_serves_what_the_configuration_says_now_without_a_restart(self):
        before, pid = self.service.answer(), self.service.pid()
        self.service.configure(self.service.add_model(self.other))
        self.service.systemctl("reload", "sirocco.service")
        self.assertNotEqual(self.service.answer(), before)
        self.service.configure(self.model)
        self.service.systemctl("reload", "sirocco.service")
        self.assertEqual((self.service.answer(), self.service.pid()), (before, pid))

    def test_a_model_file_that_is_replaced_is_served_after_a_reload(self):
        self.service.configure(self.service.add_model(self.other))
        self.service.restart()
        of_other = self.service.answer()
        self.service.configure(self.model)
        self.service.restart()
        before = self.service.answer()
        self.service.root.run("mv", f"{MODELS}/other.gguf", self.model)
        self.assertEqual(self.service.answer(), before)
        self.service.systemctl("reload", "sirocco.service")
        self.assertEqual(self.service.answer(), of_other)

    def test_a_frozen_thread_is_noticed_and_the_service_started_again(self):
        limit = 4
        self.service.drop_in(f"[Service]\nWatchdogSec={limit}s\nRestartSec=100ms\n")
        self.service.restart()
        expected, idle = self.service.answer(), self.service.pid()
        time.sleep(2 * limit)
        for number, thread in enumerate(("engine", "io"), 1):
            pid = self.service.pid()
            helper = freeze(self.service.root.outside(pid), thread)
            within(4 * limit, lambda old=pid: self.service.pid() not in (0, old), "another process serves")
            self.assertEqual(helper.wait(PATIENCE_S), 0)
            self.assertEqual(self.service.show("NRestarts"), str(number))
            self.service.wait_ready()
            self.assertEqual(self.service.answer(), expected)
            if number == 1:
                self.assertEqual(pid, idle)  # who only waits is alive
        self.assertIn("Watchdog timeout", self.service.journal())

    def test_a_kill_in_mid_stream_is_a_clear_error_and_the_next_request_is_answered(self):
        self.service.configure(self.model, SLOW)
        self.service.restart()
        expected = self.service.answer()
        client = self.service.streaming()
        pid = self.service.pid()
        self.service.systemctl("kill", "--signal=KILL", "sirocco.service")
        out, error = client.communicate(timeout=PATIENCE_S)
        self.assertEqual((client.returncode, out), (1, ""))
        self.assertRegex(error, r"^sirocco: .*the daemon closed the connection")
        self.assertEqual(len(error.splitlines()), 1)
        self.assertEqual(self.service.answer(), expected)
        self.assertNotIn(self.service.pid(), (0, pid))

    def test_a_stop_tells_requests_that_run_and_is_no_failure(self):
        self.service.configure(self.model, SLOW)
        self.service.restart()
        client = self.service.streaming()
        self.service.systemctl("stop", "sirocco.service")
        _, error = client.communicate(timeout=PATIENCE_S)
        self.assertEqual(client.returncode, 1)
        self.assertRegex(error, r"^sirocco: .*SHUTTING_DOWN")
        self.assertEqual((self.service.show("Result"), self.service.show("ActiveState")), ("success", "inactive"))

    def test_a_stop_waits_for_a_slow_disk_as_long_as_sessions_reach_it(self):
        limit, sessions = 2, 6
        library = self.service.root.copy(slow_disk(self.folder), "/usr/local/lib")
        self.service.drop_in(f"[Service]\nTimeoutStopSec={limit}s\nEnvironment=LD_PRELOAD={library} SLOW_DISK_MS=350\n")
        self.service.restart()
        for number in range(sessions):
            self.service.turn(f"slow-{number}", "hello")
        began = time.monotonic()
        self.service.systemctl("stop", "sirocco.service")
        self.assertGreater(time.monotonic() - began, 1.5 * limit)
        self.assertEqual(self.service.show("Result"), "success", self.service.journal())
        saved = self.service.root.run("ls", "/var/lib/sirocco/sessions").stdout.split()
        self.assertEqual([name for name in saved if "slow-" in name], [f"0-slow-{number}.session" for number in range(sessions)])

    def test_a_full_disk_costs_the_saved_sessions_and_nothing_else(self):
        self.service.systemctl("stop", "sirocco.service")
        folder = "/var/lib/sirocco/sessions"
        self.service.root.run("mkdir", "-p", folder)
        self.service.root.run("mount", "-t", "tmpfs", "-o", "size=4k,mode=0700,uid=sirocco,gid=sirocco", "tmpfs", folder)
        self.addCleanup(self.service.root.run, "umount", folder)
        self.addCleanup(self.service.systemctl, "stop", "sirocco.service")
        self.service.restart()
        self.service.turn("long", "the quick brown fox " * 40)
        expected = self.service.answer()
        self.service.systemctl("stop", "sirocco.service")
        self.assertEqual(self.service.show("Result"), "success")
        self.assertIn("No space left on device", self.service.journal())
        self.service.restart()
        self.assertEqual(self.service.answer(), expected)

    def test_a_model_that_may_not_be_read_is_the_state_failed_and_doctor_says_why(self):
        expected = self.service.answer()
        self.service.root.run("chmod", "600", self.model)
        self.service.systemctl("restart", "sirocco.service")
        wait_until(lambda: self.service.status()["state"] == "FAILED", "it has failed")
        self.assertEqual(self.service.show("ActiveState"), "active")
        reasons = " ".join(self.service.status()["reasons"])
        self.assertIn(self.model, reasons)
        self.assertIn("ermission denied", reasons)
        self.assertEqual(self.service.sirocco("status", "--check").returncode, 2)
        refused = self.service.sirocco("generate", "--raw", "--prompt", "hello")
        self.assertEqual(refused.returncode, 1)
        self.assertIn("ermission denied", refused.stderr)
        doctor = self.service.sirocco("doctor")
        self.assertEqual(doctor.returncode, 1, doctor.stdout)
        self.assertRegex(doctor.stdout, rf"(?m)^.*error.*{self.model}")
        self.service.root.run("chmod", "644", self.model)
        self.service.systemctl("reload", "sirocco.service")
        self.service.wait_ready()
        self.assertEqual(self.service.answer(), expected)

    def test_two_hundred_restarts_are_all_ready_and_leave_nothing_behind(self):
        self.service.drop_in("[Unit]\nStartLimitIntervalSec=0\n")
        self.service.restart()
        expected, before = self.service.answer(), open_things(self.service)
        loop = "systemctl restart sirocco.service && sirocco status --check >/dev/null || exit 1"
        self.service.root.run("sh", "-c", f"for i in $(seq {RESTARTS}); do {loop}; done", timeout=5 * PATIENCE_S)
        self.assertEqual(self.service.answer(), expected)
        self.assertEqual(open_things(self.service), before)
        self.assertEqual(self.service.systemctl("--failed", "--no-legend").stdout, "")

    def test_who_is_not_in_the_group_is_refused_and_who_is_may_ask_but_not_administer(self):
        self.service.root.run("useradd", "--create-home", "stranger")
        self.service.root.run("useradd", "--create-home", "--groups=sirocco", "member")
        self.addCleanup(self.service.root.run, "sh", "-c", "userdel -r stranger; userdel -r member; true")
        refused = self.service.sirocco("generate", "--raw", "--prompt", "hello", user="stranger")
        self.assertEqual(refused.returncode, 1)
        self.assertIn("ermission denied", refused.stderr)
        self.assertEqual(self.service.answer(user="member"), self.service.answer())
        for command in (("drain",), ("reload",), ("evict",), ("budget", "1GiB")):
            refused = self.service.sirocco(*command, user="member")
            self.assertEqual(refused.returncode, 1, command)
            self.assertIn("ermission denied", refused.stderr, command)
        self.service.turn("private", "hello")
        self.assertEqual(self.service.sirocco("session", "close", "--save", "private").returncode, 0)
        seen = self.service.root.run("ls", "/var/lib/sirocco/sessions", user="member", check=False)
        self.assertNotEqual((seen.returncode, seen.stdout), (0, ""))
        self.assertIn("ermission denied", seen.stderr)

    def test_a_client_cannot_replace_the_model(self):
        self.service.root.run("useradd", "--groups=sirocco", "member")
        self.addCleanup(self.service.root.run, "userdel", "member")
        for attempt in (("rm", "-f", self.model), ("cp", "/etc/hostname", self.model), ("cp", "/etc/hostname", f"{MODELS}/new")):
            refused = self.service.root.run(*attempt, user="member", check=False)
            self.assertNotEqual(refused.returncode, 0, attempt)
            self.assertIn("ermission denied", refused.stderr)
        self.service.answer(user="member")


class Installing(TestOfService):
    """Each test has a root of its own."""

    def service(self, debs, memory=None, base=None):
        service = Service(debs, memory, base)
        self.addCleanup(service.close)
        return service

    def test_the_three_commands_of_the_readme_lead_to_an_answer_and_programs_get_the_same_one(self):
        service = self.service([], base=base_root(DEBS + CLIENT_DEBS, "sudo"))
        for deb in DEBS + CLIENT_DEBS:
            service.root.copy(deb, "/home")
        service.root.copy(DEMO_MODEL, "/home")
        service.root.run("mv", f"/home/{DEMO_MODEL.name}", "/home/FILE.gguf")
        install, setup, chat = readme_commands()
        service.root.run("sh", "-c", f"cd /home && {install}", stdin="y\n")
        self.assertEqual((service.show("ActiveState"), service.show("UnitFileState")), ("active", "enabled"))
        service.root.run("sh", "-c", f"cd /home && {setup}", stdin="y\n")
        said = service.root.run("sh", "-c", f"cd /home && {chat}", stdin=f"{CAPITAL}\n").stdout
        self.assertIn(service.status()["state"], ("READY", "DEGRADED"))
        self.assertEqual(service.processes("siroccod"), ["siroccod"])
        service.root.run("systemd-analyze", "security", f"--threshold={EXPOSURE}", "--no-pager", "sirocco.service")
        told = json.loads(service.sirocco("generate", "--prompt", CAPITAL, "--max-tokens", 40, "--json").stdout)["text"]
        self.assertIn("Paris", told)
        self.assertRegex(said, r"\w+")  # chat draws its answers; these are not always the capital
        self.ask_by_the_libraries(service, told)

    def ask_by_the_libraries(self, service, told):
        """As a user who has joined the group, and installed the packages."""
        service.root.run("sh", "-c", "cd /home && apt install --yes " + " ".join(f"./{name}_*.deb" for name in CLIENT_PACKAGES))
        service.root.run("useradd", "--groups=sirocco", "member")
        program = pathlib.Path(self.folder) / "c_client"
        subprocess.run(["cc", "-std=gnu99", f"-I{ROOT / 'ipc/client'}", ROOT / "tests/system/c_client.c", "-o", program,
                        f"-L{BIN.parent / 'lib'}", "-lsirocco", "-pthread"], check=True)
        in_c = service.root.run(service.root.copy(program, "/usr/local/bin"), "answer", CAPITAL, 40, user="member").stdout
        self.assertEqual(in_c.rsplit("\n", 2)[0], told)
        source = f"import sirocco\nwith sirocco.Client() as client: print(client.generate(prompt={CAPITAL!r}, max_tokens=40).read(), end='')"
        self.assertEqual(service.root.run("python3", "-X", "dev", "-c", source, user="member").stdout, told)

    def test_without_a_model_it_is_up_and_setup_lists_what_fits_and_imports_a_file(self):
        service = self.service(DEBS)
        self.assertEqual(service.status()["state"], "NO_MODEL")
        self.assertEqual((service.show("ActiveState"), service.show("StatusText")), ("active", "No model is configured (model.path)"))
        self.assertEqual(service.sirocco("status", "--check").returncode, 2)
        self.assertEqual(service.systemctl("--failed", "--no-legend").stdout, "")
        listed = service.setup()
        self.assertEqual((service.show("NRestarts"), listed["models"]), ("0", []))
        self.assertGreater(len(listed["sizes"]), 1)
        model = service.root.copy(self.one, "/root/downloads")
        listed = service.setup("--folder", "/root/downloads")["models"]
        self.assertEqual([(one["file"], one["runs"]) for one in listed], [(model, True)])
        broken = service.root.copy(self.one, "/root/broken")
        service.root.run("truncate", "--size=-1000", broken)
        self.assertEqual(service.sirocco("setup", broken).returncode, 1)
        service.root.run("useradd", "stranger")
        refused = service.sirocco("setup", service.root.copy(self.other, "/srv"), user="stranger")
        self.assertEqual(refused.returncode, 1)
        self.assertIn("run this as root", refused.stderr)
        self.assertEqual((service.status()["state"], service.root.run("ls", MODELS).stdout), ("NO_MODEL", ""))
        imported = service.setup(model)
        self.assertEqual((imported["model"], imported["daemon_running"]), (f"{MODELS}/{self.one.name}", True))
        expected = service.answer()
        self.assertEqual(len(expected), 20)
        self.assertEqual(service.sirocco("setup", broken).returncode, 1)
        service.restart()
        self.assertEqual(service.answer(), expected)
        self.assertEqual([one["file"] for one in service.setup()["models"]], [imported["model"]])

    def test_an_upgrade_goes_on_with_saved_sessions(self):
        service = self.service(as_version(DEBS, "0.0.1~previous", self.folder))
        service.configure(service.add_model(self.one))
        service.restart()
        first = "the quick brown fox jumps over the lazy dog " * 8
        whole = [service.turn("unbroken", text)["ids"] for text in (first, "and then")]
        self.assertEqual(service.turn("broken", first)["ids"], whole[0])
        pid = service.pid()
        service.install(DEBS)
        self.assertNotIn(service.pid(), (0, pid))
        service.wait_ready()
        second = service.turn("broken", "and then")
        self.assertEqual(second["ids"], whole[1])
        self.assertGreater(second["usage"]["cached_tokens"], 0.9 * second["usage"]["prompt_tokens"])

    def test_what_is_removed_stops_and_what_is_purged_leaves_only_the_users_models(self):
        service = self.service(DEBS)
        model = service.add_model(self.one)
        service.configure(model)
        service.restart()
        service.turn("kept", "hello")
        service.root.run("apt-get", "remove", "--yes", "siroccod")
        self.assertEqual(service.show("LoadState"), "not-found")
        self.assertEqual(service.processes("siroccod"), [])
        for gone in ("/run/sirocco/sirocco.sock", "/usr/bin/siroccod"):
            self.assert_gone(service, gone)
        for kept in ("/etc/sirocco/siroccod.yaml", f"{CONFIG}/model.yaml", "/var/lib/sirocco/sessions/0-kept.session", model):
            self.assert_there(service, kept)
        service.root.run("apt-get", "purge", "--yes", "siroccod")
        for gone in ("/etc/sirocco", "/var/log/sirocco", "/run/sirocco"):
            self.assert_gone(service, gone)
        left = service.root.run("find", "/var/lib/sirocco", "-mindepth", 1).stdout.split()
        self.assertEqual(sorted(left), [MODELS, model])
        self.assertEqual(service.systemctl("--failed", "--no-legend").stdout, "")

    def test_in_less_memory_than_the_model_the_answer_is_the_same(self):
        question = ("generate", "--prompt", "Name the capital of France.", "--max-tokens", 30, "--json")
        limited = "memory: {kv_tokens: 2048, headroom: 64MiB}\n"
        answers = []
        for limit in (None, 480 * 2**20):  # the whole system's; the model has 427 MiB
            group = MemoryGroup.make(limit) if limit else None
            if limit and group is None:
                self.skipTest("no memory cgroup can be made here")
            service = self.service(DEBS, group)
            service.configure(service.add_model(DEMO_MODEL), limited)
            service.restart()
            experts = service.status()["experts"]
            answers.append(json.loads(service.sirocco(*question).stdout)["ids"])
            service.close()
            if group:
                self.assertLess(experts["slots"], experts["experts"])
                self.assertEqual(group.oom_kills(), 0)
                group.path.rmdir()
        self.assertEqual(answers[1], answers[0])


def readme_commands():
    """Those of its section Install: how a person with the packages and a model file gets an answer."""
    section = (ROOT / "README.md").read_text().split("\n## Install\n")[1].split("\n## ")[0]
    return re.findall(r"^    (.*?)(?: {2,}.*)?$", section, re.M)[:3]


def main():
    try:
        check_tools()
        found = packages()
        DEBS.extend(found[name] for name in PACKAGES)
        CLIENT_DEBS.extend(found[name] for name in CLIENT_PACKAGES)
        BootedRoot(base_root(DEBS)).close()
    except Unavailable as why:
        print(f"no root can be booted here: {why}")
        return 77
    return unittest.main(verbosity=2)


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/env python3
"""sirocco doctor and sirocco setup, with and without a daemon; and the engine's duty, as an administrator sets it."""
import json
import os
import pathlib
import subprocess
import time
import unittest

from programs import BIN, Daemon, TestWithFolder, wait_until

NOBODY = 65534
RAW = ("generate", "--raw", "--prompt", "hello", "--max-tokens", 20, "--json")


def run(*arguments, user=None):
    return subprocess.run([BIN / "sirocco", *map(str, arguments)], stdin=subprocess.DEVNULL, capture_output=True, timeout=120,
                          preexec_fn=None if user is None else lambda: (os.setgroups([]), os.setgid(user), os.setuid(user)))


def levels(ran):
    """{check: level} of a report as JSON; of several with one name the worst."""
    found = {}
    for check in json.loads(ran.stdout)["checks"]:
        order = ["ok", "warning", "error"]
        found[check["check"]] = max(found.get(check["check"], "ok"), check["level"], key=order.index)
    return found


class Doctor(TestWithFolder):
    def doctor(self, *arguments, user=None):
        return run("doctor", "--json", "--config-dir", self.folder, "--socket", self.folder / "s.sock", *arguments, user=user)

    def test_with_a_daemon_it_looks_at_it(self):
        model = self.synth()
        daemon = self.daemon(model)
        ran = self.doctor()
        found = levels(ran)
        self.assertEqual(ran.returncode, 1 if "error" in found.values() else 0)
        self.assertEqual((found["socket"], found["daemon"], found["version"], found["model"]), ("ok",) * 4, ran.stdout)
        told = [c for c in json.loads(ran.stdout)["checks"] if c["check"] == "state"][0]
        self.assertTrue(told["found"].startswith(daemon.status()["state"]), told)
        self.assertIn(str(model), ran.stdout.decode())  # as siroccod.yaml names it
        text = run("doctor", "--config-dir", self.folder, "--socket", daemon.socket)
        self.assertRegex(text.stdout.decode(), r"(?m)^ok +daemon +answers within \d+ ms$")
        self.assertRegex(text.stdout.decode(), r"locked memory +the daemon's")

    def test_without_a_daemon_that_alone_is_the_error(self):
        ran = self.doctor("--model", self.synth())
        self.assertEqual(ran.returncode, 1)
        self.assertEqual({check for check, level in levels(ran).items() if level == "error"}, {"socket"}, ran.stdout)
        self.assertEqual(ran.stderr, b"")

    def test_a_daemon_without_a_model_says_so(self):
        daemon = Daemon(self.folder, '""')
        daemon.process = subprocess.Popen([BIN / "siroccod", "--config", daemon.config], stdin=subprocess.DEVNULL,
                                          stderr=subprocess.DEVNULL)
        self.addCleanup(daemon.stop)
        wait_until(lambda: daemon.sirocco("status").returncode == 0, "the daemon answers")
        self.assertEqual(levels(self.doctor())["state"], "warning")
        self.assertIn(b"NO_MODEL", self.doctor().stdout)

    @unittest.skipUnless(os.geteuid() == 0, "only root can become somebody else")
    def test_another_user_is_told_that_it_may_not_connect(self):
        model = self.synth()
        self.daemon(model)
        os.chmod(self.folder, 0o755)
        os.chmod(model, 0o600)
        ran = self.doctor("--model", model, user=NOBODY)
        self.assertEqual(ran.returncode, 1, ran.stderr)
        found = levels(ran)
        self.assertEqual(found["socket"], "error")
        self.assertNotEqual(found["model"], "ok")
        self.assertNotIn("daemon", found)


class Setup(TestWithFolder):
    def setup(self, *arguments):
        return run("setup", *arguments, "--config-dir", self.folder, "--models-dir", self.folder / "models",
                   "--socket", self.folder / "s.sock")

    def kept(self):
        models = self.folder / "models"
        return sorted(p.name for p in models.iterdir()) if models.exists() else []

    def test_the_running_daemon_serves_the_model_from_there_on(self):
        daemon = self.daemon(self.synth(seed=1))
        before = json.loads(daemon.sirocco(*RAW).stdout)["ids"]
        other = self.synth("tiny", "other.gguf", seed=2)
        ran = self.setup(other, "--copy", "--json")
        self.assertEqual(ran.returncode, 0, ran.stderr)
        self.assertEqual(json.loads(ran.stdout)["daemon_running"], True)
        self.assertEqual(self.kept(), ["other.gguf"])
        self.assertTrue(other.exists())
        self.assertIn("tiny shape", daemon.status()["model"]["name"])
        self.assertNotEqual(json.loads(daemon.sirocco(*RAW).stdout)["ids"], before)
        self.assertIn(str(self.folder / "models/other.gguf"), (self.folder / "siroccod.d/model.yaml").read_text())

    def test_what_the_daemon_refuses_changes_nothing(self):
        daemon = Daemon(self.folder, self.synth("tiny-moe"))
        self.addCleanup(daemon.stop)
        daemon.config.write_text(daemon.config.read_text().replace("model:\n", "model:\n  context: 1024\n"))
        daemon.start()
        short = pathlib.Path(__file__).resolve().parents[1] / "golden/model/tiny-mixtral.gguf"  # made for fewer tokens
        ran = self.setup(short, "--copy")
        self.assertEqual(ran.returncode, 1, ran.stdout)
        self.assertIn("the daemon refuses the model", ran.stderr.decode())
        self.assertIn("context", ran.stderr.decode())
        self.assertEqual(self.kept(), [])
        self.assertFalse((self.folder / "siroccod.d").exists())
        self.assertIn("tiny-moe", daemon.status()["model"]["name"])
        self.assertEqual(daemon.sirocco(*RAW).returncode, 0)

    @unittest.skipUnless(os.geteuid() == 0, "only root can mount a small disk")
    def test_on_a_full_disk_nothing_is_left(self):
        model = self.synth()
        disk = self.folder / "models"
        disk.mkdir()
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", disk], capture_output=True)
        if mounted.returncode != 0:
            self.skipTest("nothing can be mounted here")
        self.addCleanup(subprocess.run, ["umount", disk], check=True)
        ran = self.setup(model, "--copy")
        self.assertEqual(ran.returncode, 1)
        self.assertIn("there is no room for", ran.stderr.decode())
        self.assertEqual(self.kept(), [])
        self.assertFalse((self.folder / "siroccod.d").exists())

    @unittest.skipUnless(os.geteuid() == 0, "only root can become somebody else")
    def test_who_is_not_root_is_told_so(self):
        model = self.synth()
        os.chmod(self.folder, 0o755)
        os.chmod(model, 0o644)
        ran = run("setup", model, "--config-dir", self.folder, "--models-dir", self.folder / "models", "--socket",
                  self.folder / "s.sock", user=NOBODY)
        self.assertEqual(ran.returncode, 1)
        self.assertIn("run this as root", ran.stderr.decode())

    def test_without_a_file_it_lists_what_fits(self):
        self.synth()
        ran = run("setup", "--folder", self.folder, "--models-dir", self.folder / "none", "--json")
        self.assertEqual(ran.returncode, 0, ran.stderr)
        self.assertEqual([m["runs"] for m in json.loads(ran.stdout)["models"]], [True])


class Power(TestWithFolder):
    def test_the_duty_is_the_configurations_and_follows_a_reload(self):
        daemon = self.daemon(self.synth(), "power: {max_duty: 0.5}\n")
        expected = json.loads(daemon.sirocco(*RAW).stdout)["ids"]
        self.assertEqual(daemon.status()["power"]["duty"], 0.5)
        self.assertIn(b"steps take at most 50 % of the time", daemon.sirocco("status").stdout)
        self.assertFalse([r for r in daemon.status()["reasons"] if "power" in r])
        daemon.config.write_text(daemon.config.read_text().replace("0.5", "1"))
        self.assertEqual(daemon.sirocco("reload").returncode, 0)
        self.assertEqual(daemon.status()["power"]["duty"], 1)
        self.assertEqual(json.loads(daemon.sirocco(*RAW).stdout)["ids"], expected)

    def test_a_rest_does_not_hold_up_a_cancel(self):
        daemon = self.daemon(self.synth(), "power: {max_duty: 0.05}\nengine: {backend: ref}\n")
        process = daemon.start_sirocco("generate", "--raw", "--prompt", "once", "--max-tokens", 400)
        wait_until(lambda: any(r["state"] == "DECODE" for r in daemon.status()["active"]), "it answers")
        process.kill()
        process.communicate()
        began = time.monotonic()
        wait_until(lambda: not daemon.status()["active"], "it is cancelled")
        self.assertLess(time.monotonic() - began, 30)


if __name__ == "__main__":
    unittest.main()

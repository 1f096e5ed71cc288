#!/usr/bin/env python3
"""The demo model in less memory than it has: the same answers, within the limit.

`./dev test system` makes the model (build/models/).
"""
import json
import os
import pathlib
import subprocess
import sys
import time
import unittest

from memory_group import MemoryGroup
from programs import BIN, DEMO_MODEL, TestWithFolder, wait_until

QUESTION = "Write a short story about a ship."
MIB = 2**20
# 425 MiB of weights; the program, its KV cache and its scratch take about a third of this.
SMALL = "memory: {budget: 300MiB, kv_tokens: 2048}\n"


class LargerThanMemory(TestWithFolder):
    @classmethod
    def setUpClass(cls):
        if not DEMO_MODEL.exists():
            raise AssertionError(f"{DEMO_MODEL} is missing: run this through ./dev test system")

    def answer(self, daemon):
        result = daemon.sirocco("generate", "--prompt", QUESTION, "--max-tokens", 120, "--temperature", 0.8, "--seed", 7,
                                "--json")
        self.assertEqual(result.returncode, 0, result.stderr)
        document = json.loads(result.stdout)
        return document["text"]

    def test_an_answer_does_not_depend_on_the_memory(self):
        whole = self.daemon(DEMO_MODEL)
        self.assertIsNone(whole.status()["experts"])
        self.assertIn("64 rows a step", whole.sirocco("status").stdout.decode())
        fit = subprocess.run([BIN / "sirocco", "model", "fit", DEMO_MODEL, "--memory", "400MiB"], capture_output=True, text=True)
        self.assertIn("256 rows a step", fit.stdout)
        told = whole.sirocco("budget", "200MiB")
        self.assertEqual(told.returncode, 1)
        self.assertIn("all of the model is in memory", told.stderr.decode())
        self.assertIn("memory budget", whole.sirocco("budget").stdout.decode())
        expected = self.answer(whole)
        self.assertGreater(len(expected), 200)
        whole.stop()
        for policy in ("lfru", "layer-lru"):
            small = self.daemon(DEMO_MODEL, SMALL.replace("}", f", eviction: {policy}}}"))
            self.assertEqual(self.answer(small), expected, policy)
            status = small.status()
            experts = status["experts"]
            self.assertLess(experts["slots"], experts["experts"])
            self.assertGreater(experts["misses"], experts["slots"])
            self.assertGreater(experts["evictions"], 0)
            self.assertEqual(experts["failures"], 0)
            self.assertRegex(experts["reads"], r"^(io_uring|threads), \d+ x \d+ KiB$")
            charged = sum(line["bytes"] for line in status["memory"] if line["name"].startswith("* "))
            self.assertLessEqual(charged, 300 * MIB)
            resident = int(pathlib.Path(f"/proc/{small.process.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")
            self.assertLessEqual(resident, 1.02 * 300 * MIB)
            small.stop()

    def test_a_lossy_mode_is_reported_in_status_and_in_each_answer_that_it_touched(self):
        for mode, counted in (("skip_below: 1", "skipped"), ("substitute: true", "substituted")):
            daemon = self.daemon(DEMO_MODEL, SMALL + f"lossy: {{{mode}}}\n")
            told = daemon.status()
            self.assertEqual(told["state"], "DEGRADED")
            self.assertTrue(any(mode.split(":")[0] in reason for reason in told["reasons"]), told["reasons"])
            result = daemon.sirocco("generate", "--prompt", QUESTION, "--max-tokens", 20, "--json")
            self.assertEqual(result.returncode, 0, result.stderr)
            touched = json.loads(result.stdout)["lossy_experts"]
            experts = daemon.status()["experts"]
            self.assertGreater(touched, 0)
            self.assertEqual(experts[counted], touched)
            self.assertEqual(experts["skipped"] + experts["substituted"], touched)
            text = daemon.sirocco("generate", "--prompt", QUESTION, "--max-tokens", 20)
            self.assertRegex(text.stderr.decode(), r"sirocco: \d+ experts were skipped or replaced, this answer is not exact")
            daemon.stop()

    def test_the_experts_in_memory_are_there_again_after_a_restart(self):
        config = SMALL.replace("}", f", hot_set: {self.folder}/hot}}")
        first = self.daemon(DEMO_MODEL, config)
        self.answer(first)
        had = first.status()["experts"]
        self.assertEqual(first.stop(), 0)
        self.assertIn("sirocco hot set 1", (self.folder / "hot").read_text())
        second = self.daemon(DEMO_MODEL, config)
        wait_until(lambda: second.status()["experts"]["bytes_read"] >= had["slots"] * (1 << 20), "the experts are read")
        self.assertEqual(second.status()["experts"]["misses"], 0)  # nobody has asked yet
        second.stop()
        (self.folder / "hot").write_text("nonsense")
        third = self.daemon(DEMO_MODEL, config)
        self.assertIn("hot: not a list of experts of this version; it is ignored", third.log.read_text())

    def test_bench_writes_a_timeline_of_computing_waiting_and_reading(self):
        trace = self.folder / "trace.json"
        done = subprocess.run([BIN / "sirocco", "bench", "--model", DEMO_MODEL, "--memory", "300MiB", "--prompt", "20",
                               "--generate", "4", "--repeat", "1", "--trace", trace, "--json"], capture_output=True, text=True)
        self.assertEqual(done.returncode, 0, done.stderr)
        report = json.loads(done.stdout)["timeline"]
        document = json.loads(trace.read_text())
        self.assertEqual(document["otherData"]["events_left_out"], 0)
        spans = [event for event in document["traceEvents"] if event["ph"] == "X"]
        self.assertEqual(len(spans), report["events"])
        self.assertEqual({span["cat"] for span in spans}, {"compute", "wait", "read", "other"})
        self.assertEqual(sum(span["name"] == "step" for span in spans), 1 + 4)
        names = {span["name"] for span in spans if span["cat"] == "compute"}
        self.assertLessEqual({"attention", "route", "gate, up", "down", "sum", "logits"}, names)
        layers = {span["args"]["layer"] for span in spans if span["name"] == "attention"}
        self.assertEqual(len(layers), 30)
        for span in spans:
            if span["cat"] == "read":
                self.assertGreater(span["args"]["bytes"], 0)
                self.assertIn(span["args"]["layer"], layers)
        for phase in ("prefill", "decode"):
            self.assertAlmostEqual(sum(report[phase][part] for part in ("computing", "waiting", "other")), 1, 3)
            self.assertLessEqual(report[phase]["disk_idle"], 1)
            self.assertGreater(report[phase]["read_gb_s"], 0)

    def test_a_budget_that_cannot_work_is_refused_with_one_that_can(self):
        with self.assertRaises(AssertionError) as refused:
            self.daemon(DEMO_MODEL, SMALL.replace("300MiB", "40MiB"))
        self.assertRegex(str(refused.exception), r"the memory budget is 40\.0 MiB")

    def test_the_budget_changes_while_it_runs(self):
        daemon = self.daemon(DEMO_MODEL, SMALL)
        expected = self.answer(daemon)
        at_start = json.loads(daemon.sirocco("budget", "--json").stdout)
        self.assertEqual(at_start["bytes"], 300 * MIB)
        resident = lambda: int(pathlib.Path(f"/proc/{daemon.process.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")
        before = resident()
        # While an answer is being given.
        answering = daemon.start_sirocco("generate", "--prompt", QUESTION, "--max-tokens", 120, "--temperature", 0.8, "--seed",
                                         7, "--json")
        least = daemon.small_budget()
        budgets = [least + 5, least + 20, least, 300, least + 5]
        for budget in budgets:
            changed = daemon.sirocco("budget", f"{budget}MiB", "--json")
            self.assertEqual(changed.returncode, 0, changed.stderr)
            report = json.loads(changed.stdout)
            self.assertEqual(report["bytes"], budget * MIB)
            self.assertEqual(report["slots"], report["planned_slots"])
            self.assertLess(report["slots"], report["experts"])
        self.assertLess(report["slots"], at_start["slots"])
        self.assertLess(resident(), before - 30 * MIB)
        self.assertLessEqual(resident(), 1.02 * budgets[-1] * MIB)
        out, error = answering.communicate(timeout=120)
        self.assertEqual(answering.returncode, 0, error)
        self.assertEqual(json.loads(out)["text"], expected)
        status = daemon.status()
        self.assertEqual(status["memory"][0]["bytes"], budgets[-1] * MIB)
        self.assertLessEqual(sum(line["bytes"] for line in status["memory"] if line["name"].startswith("* ")),
                             budgets[-1] * MIB)
        self.assertEqual(sum(layer["misses"] for layer in status["experts"]["layers"]), status["experts"]["misses"])
        self.assertEqual(self.answer(daemon), expected)
        # One that cannot work changes nothing.
        refused = daemon.sirocco("budget", "40MiB")
        self.assertEqual(refused.returncode, 1)
        self.assertRegex(refused.stderr.decode(), r"this model needs at least \d")
        self.assertEqual(json.loads(daemon.sirocco("budget", "--json").stdout)["slots"], report["slots"])
        back = json.loads(daemon.sirocco("budget", "start", "--json").stdout)
        self.assertEqual(back, at_start)
        self.assertEqual(self.answer(daemon), expected)
        self.assertEqual((daemon.folder / "s-admin.sock").stat().st_mode & 0o777, 0o600)
        self.assertEqual(daemon.stop(), 0)
        self.assertFalse((daemon.folder / "s-admin.sock").exists())

    def test_slots_give_way_when_others_need_the_memory(self):
        group = MemoryGroup.make(420 * MIB)
        if group is None:
            self.skipTest("no memory cgroup can be made here")
        self.addCleanup(group.path.rmdir)
        daemon = self.daemon(DEMO_MODEL, "memory: {headroom: 64MiB, kv_tokens: 2048}\n", group.enter)
        expected = self.answer(daemon)
        planned = daemon.status()["experts"]["slots"]
        self.assertGreater(planned, 40)
        # Another process of the group takes what the daemon has left free, 8 MiB for each line it is sent.
        hog = subprocess.Popen([sys.executable, "-c", "import sys\nheld = [bytearray(b'x' * (8 << 20)) for line in sys.stdin]"],
                               preexec_fn=group.enter, stdin=subprocess.PIPE)
        self.addCleanup(hog.wait)
        self.addCleanup(hog.kill)

        def slots_after_more():
            hog.stdin.write(b"more\n")
            hog.stdin.flush()
            time.sleep(0.7)  # the daemon looks twice a second
            return daemon.status()["experts"]["slots"]

        wait_until(lambda: slots_after_more() < planned, "slots give way")
        status = daemon.status()
        self.assertEqual(status["state"], "DEGRADED")
        self.assertIn("memory is short", " ".join(status["reasons"]))
        self.assertEqual(self.answer(daemon), expected)
        hog.communicate()
        wait_until(lambda: daemon.status()["experts"]["slots"] == planned, "slots come back")
        self.assertEqual(self.answer(daemon), expected)
        self.assertEqual(daemon.stop(), 0)
        self.assertEqual(group.oom_kills(), 0)

    def test_the_limit_of_a_cgroup_is_the_budget(self):
        group = MemoryGroup.make(320 * MIB)
        if group is None:
            self.skipTest("no memory cgroup can be made here")
        self.addCleanup(group.path.rmdir)  # after the daemon has ended
        daemon = self.daemon(DEMO_MODEL, "memory: {headroom: 16MiB, kv_tokens: 2048}\n", group.enter)
        self.assertLess(daemon.status()["memory"][0]["bytes"], 320 * MIB)
        self.assertGreater(len(self.answer(daemon)), 200)
        self.assertLess(daemon.status()["experts"]["slots"], daemon.status()["experts"]["experts"])
        self.assertEqual(daemon.stop(), 0)
        self.assertEqual(group.oom_kills(), 0)


if __name__ == "__main__":
    unittest.main()

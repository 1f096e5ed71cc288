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

from programs import DEMO_MODEL, TestWithFolder, wait_until

QUESTION = "Write a short story about a ship."
MIB = 2**20
# 425 MiB of weights; the program, its KV cache and its scratch take about a third of this.
SMALL = "memory: {budget: 300MiB, kv_tokens: 2048}\n"


class MemoryGroup:
    """A memory cgroup, v1 or v2; None where we may not make one."""

    def __init__(self, path, version):
        self.path = path
        self.version = version

    @staticmethod
    def make(limit):
        for root, version, name in ((pathlib.Path("/sys/fs/cgroup/memory"), 1, "memory.limit_in_bytes"),
                                    (pathlib.Path("/sys/fs/cgroup"), 2, "memory.max")):
            path = root / f"sirocco-test-{os.getpid()}"
            try:
                path.mkdir()
            except OSError:
                continue
            try:
                (path / name).write_text(str(limit))
                return MemoryGroup(path, version)
            except OSError:
                path.rmdir()
        return None

    def enter(self):
        (self.path / "cgroup.procs").write_text(str(os.getpid()))

    def oom_kills(self):
        name = "memory.oom_control" if self.version == 1 else "memory.events"
        return sum(int(line.split()[1]) for line in (self.path / name).read_text().splitlines()
                   if line.split()[0] == "oom_kill")


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

    def test_a_budget_that_cannot_work_is_refused_with_one_that_can(self):
        with self.assertRaises(AssertionError) as refused:
            self.daemon(DEMO_MODEL, SMALL.replace("300MiB", "40MiB"))
        self.assertRegex(str(refused.exception), r"the memory budget is 40\.0 MiB")

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

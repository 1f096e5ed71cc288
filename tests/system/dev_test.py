#!/usr/bin/env python3
"""What ./dev run and ./dev gpu do around the programs."""
import json
import os
import subprocess
import unittest

from programs import BIN, PATIENCE_S, ROOT, TestWithFolder

# The functions of ./dev, in a folder of their own that looks like the repository.
START_DAEMON = """
set -euo pipefail
die() { printf './dev: %s\\n' "$*" >&2; exit 1; }
source dev.d/packages.sh
source dev.d/demo.sh
DEMO_MODEL=$1
start_daemon
kill -0 "$daemon" && echo ours
"""


class StartDaemon(TestWithFolder):
    def setUp(self):
        super().setUp()
        (self.folder / "build/release").mkdir(parents=True)
        (self.folder / "build/release/bin").symlink_to(BIN)
        (self.folder / "dev.d").symlink_to(ROOT / "dev.d")
        self.model = self.synth()

    def start_daemon(self):
        return subprocess.run(["bash", "-c", START_DAEMON, "bash", self.model], cwd=self.folder, capture_output=True, text=True,
                              env={**os.environ, "SIROCCO_SOCKET": str(self.folder / "s.sock")}, timeout=2 * PATIENCE_S)

    def test_it_returns_when_the_daemon_answers_and_ends_it_with_the_script(self):
        started = self.start_daemon()
        self.assertEqual((started.returncode, started.stdout), (0, "ours\n"), started.stderr)
        self.assertFalse((self.folder / "s.sock").exists())

    def test_a_daemon_of_an_earlier_run_is_not_taken_for_ours(self):
        earlier = self.daemon(self.model)
        started = self.start_daemon()
        self.assertEqual(started.returncode, 1)
        self.assertIn(f"another siroccod is serving {earlier.socket} (pid {earlier.process.pid})", started.stderr)
        self.assertIn("./dev: the daemon ended before it was ready", started.stderr)
        self.assertEqual(earlier.status()["state"], "READY")


NVIDIA_SMI = """#!/bin/bash
if [[ $1 == -L ]]; then echo "GPU 0: Imagined (UUID: 1)"; else echo "Imagined, 580.0"; fi
"""
CUDA_TEST = """#!/bin/bash
for argument in "$@"; do
  if [[ $argument == --gtest_output=json:* ]]; then printf '{"tests": 3}\n' >"${argument#--gtest_output=json:}"; fi
done
"""


class Gpu(TestWithFolder):
    """With programs that only say what they were asked for."""

    def setUp(self):
        super().setUp()
        (self.folder / "dev").symlink_to(ROOT / "dev")
        (self.folder / "dev.d").symlink_to(ROOT / "dev.d")
        self.write("bin/nvidia-smi", NVIDIA_SMI)
        self.write("bin/compute-sanitizer", "#!/bin/bash\n")
        self.write("programs/cuda_test", CUDA_TEST)
        self.write("programs/cuda_bench", "#!/bin/bash\necho '{\"read_gb_s\": 5}'\n")

    def write(self, name, text):
        path = self.folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        path.chmod(0o755)

    def run_gpu(self):
        return subprocess.run([self.folder / "dev", "gpu", "--prebuilt", "programs"], capture_output=True, text=True, timeout=PATIENCE_S,
                              env={**os.environ, "CUDA_HOME": str(self.folder), "PATH": f"{self.folder}/bin:{os.environ['PATH']}"})

    def report(self):
        return json.loads((self.folder / "build/gpu/report.json").read_text())

    def outcomes(self, report):
        return {step["name"]: step["outcome"] for step in report["steps"]}

    def test_the_report_has_every_step_and_its_results(self):
        run = self.run_gpu()
        report = self.report()
        self.assertEqual(run.returncode, 0, run.stdout + run.stderr)
        self.assertEqual((report["device"], report["driver"]), ("Imagined", "580.0"))
        self.assertEqual(self.outcomes(report), dict.fromkeys(("tests", "memcheck", "racecheck", "benchmarks"), "passed"))
        self.assertEqual((report["tests"], report["benchmarks"]), ({"tests": 3}, {"read_gb_s": 5}))

    def test_a_failed_step_is_reported_and_the_others_are_run(self):
        self.write("bin/compute-sanitizer", "#!/bin/bash\nexit 1\n")
        self.write("programs/cuda_bench", "#!/bin/bash\necho '{\"cases\": ['\nexit 1\n")
        run = self.run_gpu()
        report = self.report()
        self.assertEqual(run.returncode, 1)
        self.assertIn("3 of the steps failed", run.stderr)
        self.assertEqual(self.outcomes(report)["tests"], "passed")
        self.assertEqual(self.outcomes(report)["racecheck"], "failed")
        self.assertIsNone(report["benchmarks"])

    def test_tests_that_found_no_gpu_are_no_success(self):
        self.write("programs/cuda_test", "#!/bin/bash\necho 'no NVIDIA GPU on this machine (cudaGetDeviceCount)'\n")
        run = self.run_gpu()
        self.assertEqual(run.returncode, 1)
        self.assertIn("driver 580 or newer", run.stderr)


if __name__ == "__main__":
    unittest.main()

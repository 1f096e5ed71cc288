#!/usr/bin/env python3
"""What ./dev run does around the programs."""
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


if __name__ == "__main__":
    unittest.main()

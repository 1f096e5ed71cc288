"""The built programs, as the system tests start them."""
import json
import os
import pathlib
import shutil
import signal
import subprocess
import tempfile
import time
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
BIN = pathlib.Path(os.environ.get("SIROCCO_BIN", ROOT / "build/release/bin"))
DEMO_MODEL = ROOT / "build/models/demo-moe.gguf"
DENSE_MODEL = ROOT / "build/models/smollm2-135m-instruct.gguf"
PATIENCE_S = 60  # for anything that must happen; two busy cores under a sanitizer are slow


def wait_until(condition, what):
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {PATIENCE_S} s: {what}")
        time.sleep(0.02)


def slow_disk(folder):
    """A library for LD_PRELOAD that makes the disk slow (slow_disk.c)."""
    library = pathlib.Path(folder) / "slow_disk.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror", ROOT / "tests/system/slow_disk.c", "-o",
                    library], check=True)
    return library


class Daemon:
    """A siroccod in a folder of its own."""

    def __init__(self, folder, model, extra_config=""):
        self.folder = pathlib.Path(folder)
        self.socket = self.folder / "s.sock"
        self.config = self.folder / "siroccod.yaml"
        self.log = self.folder / "siroccod.log"
        self.config.write_text(f"model:\n  path: {model}\nserver:\n  socket: {self.socket}\n{extra_config}")
        self.process = None

    def start(self, preexec_fn=None):
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen([BIN / "siroccod", "--config", self.config], stdin=subprocess.DEVNULL, stdout=log,
                                            stderr=log, preexec_fn=preexec_fn)

        def ready():
            if self.process.poll() is not None:
                raise AssertionError(f"siroccod ended with {self.process.returncode}: {self.log.read_text()}")
            told = self.sirocco("status", "--json")
            return told.returncode == 0 and json.loads(told.stdout)["state"] in ("READY", "DEGRADED")

        wait_until(ready, "the daemon answers")
        return self

    def stop(self, how=signal.SIGTERM):
        """The exit status; the process is always gone afterwards."""
        if self.process.poll() is None:
            self.process.send_signal(how)
            try:
                self.process.wait(PATIENCE_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        return self.process.returncode

    def environment(self):
        return {**os.environ, "SIROCCO_SOCKET": str(self.socket), "XDG_STATE_HOME": str(self.folder / "state")}

    def sirocco(self, *arguments, stdin=b""):
        """Runs the client to its end; output as bytes."""
        return subprocess.run([BIN / "sirocco", *map(str, arguments)], input=stdin, capture_output=True, timeout=2 * PATIENCE_S,
                              env=self.environment())

    def start_sirocco(self, *arguments):
        return subprocess.Popen([BIN / "sirocco", *map(str, arguments)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE, env=self.environment())

    def status(self):
        return json.loads(self.sirocco("status", "--json").stdout)

    def small_budget(self):
        """A memory budget, MiB, that this daemon's plan leaves some slots for experts with."""
        fixed = sum(line["bytes"] for line in self.status()["memory"]
                    if line["name"].startswith("* ") and line["name"] != "* expert slots")
        return fixed // 2**20 + 15


class TestWithFolder(unittest.TestCase):
    """Each test has a folder, short enough for a socket's path, and ends the daemons that it started."""

    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="sirocco-", dir="/tmp"))
        self.addCleanup(shutil.rmtree, self.folder)

    def daemon(self, model, extra_config="", preexec_fn=None):
        daemon = Daemon(self.folder, model, extra_config)
        self.addCleanup(daemon.stop)
        return daemon.start(preexec_fn)

    def synth(self, preset="tiny-moe", name=None, seed=1):
        model = self.folder / (name or f"{preset}.gguf")
        subprocess.run([BIN / "sirocco", "model", "synth", model, "--preset", preset, "--seed", str(seed)], check=True,
                       capture_output=True)
        return model

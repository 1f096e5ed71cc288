"""The packages installed in a booted root (tests/support/booted_root.py), and what the tests do to their service."""
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
import unittest

from programs import BIN, ROOT, wait_until

sys.path.insert(0, str(ROOT / "tests/support"))
from booted_root import BootedRoot, base_root, field  # noqa: E402

PACKAGES = ("siroccod", "sirocco")
CLIENT_PACKAGES = ("libsirocco0", "python3-sirocco")
MODELS = "/var/lib/sirocco/models"
CONFIG = "/etc/sirocco/siroccod.d"
DROP_INS = "/run/systemd/system/sirocco.service.d"
SLOW = "engine: {backend: ref, max_running: 4}\npower: {max_duty: 0.05}\n"  # so that a stream lasts for seconds
SHORT_ANSWER = ("generate", "--raw", "--prompt", "hello", "--max-tokens", 20, "--json")
LONG_ANSWER = ("generate", "--raw", "--prompt", "once", "--max-tokens", 400, "--temperature", 1, "--seed", 5, "--json")


def packages():
    """The .debs by their names, from $SIROCCO_DEBS or made by ./dev package."""
    folder = pathlib.Path(os.environ.get("SIROCCO_DEBS", ROOT / "build/packages"))
    if "SIROCCO_DEBS" not in os.environ:
        subprocess.run([ROOT / "dev", "package"], check=True)
    found = {field(deb, "Package"): deb for deb in sorted(folder.glob("*.deb"))}
    missing = [name for name in PACKAGES + CLIENT_PACKAGES if name not in found]
    if missing:
        raise AssertionError(f"{folder} has no package {', '.join(missing)}")
    return found


def as_version(debs, version, folder):
    """The same packages under another version."""
    made = []
    for deb in debs:
        tree = pathlib.Path(folder) / f"{deb.stem}-{version}"
        subprocess.run(["dpkg-deb", "--raw-extract", deb, tree], check=True)
        control = tree / "DEBIAN/control"
        control.write_text(control.read_text().replace(field(deb, "Version"), version))
        made.append(pathlib.Path(folder) / f"{field(deb, 'Package')}_{version}.deb")
        subprocess.run(["dpkg-deb", "--root-owner-group", "-Znone", "--build", tree, made[-1]], check=True, capture_output=True)
    return made


def synth(folder, name, seed):
    """A tiny model, in a folder of this machine."""
    model = pathlib.Path(folder) / f"{name}.gguf"
    subprocess.run([BIN / "sirocco", "model", "synth", model, "--preset", "tiny-moe", "--seed", str(seed)], check=True,
                   capture_output=True)
    return model


class Service:
    """A booted root with the packages in it. base: the root that they are installed in, if not one with what they need."""

    def __init__(self, debs, memory=None, base=None):
        self.root = BootedRoot(base or base_root(debs), memory)
        try:
            self.install(debs)
        except BaseException:
            self.close()
            raise

    def close(self):
        self.root.close()

    def install(self, debs):
        inside = [self.root.copy(deb, "/root/packages") for deb in debs]
        self.root.run("apt-get", "install", "--yes", *inside)

    def systemctl(self, *arguments, check=True):
        return self.root.run("systemctl", *arguments, check=check)

    def show(self, name, unit="sirocco.service"):
        return self.systemctl("show", "--value", f"--property={name}", unit).stdout.strip()

    def pid(self):
        return int(self.show("MainPID"))

    def processes(self, name=""):
        """Those of this name, or all."""
        names = self.root.run("sh", "-c", "cat /proc/[0-9]*/comm 2>/dev/null; true").stdout.splitlines()
        return [one for one in names if name in one]

    def sirocco(self, *arguments, user=None):
        return self.root.run("sirocco", *arguments, user=user, check=False)

    def setup(self, *arguments):
        """What `sirocco setup` tells."""
        done = self.sirocco("setup", *arguments, "--json")
        if done.returncode != 0:
            raise AssertionError(f"sirocco setup: {done.stderr}")
        return json.loads(done.stdout)

    def status(self):
        told = self.sirocco("status", "--json")
        return json.loads(told.stdout) if told.returncode == 0 else {"state": "", "reasons": [told.stderr]}

    def answer(self, *arguments, user=None):
        """The token ids of an answer."""
        done = self.sirocco(*(arguments or SHORT_ANSWER), user=user)
        if done.returncode != 0:
            raise AssertionError(f"no answer: {done.stderr}\n{self.journal()}")
        return json.loads(done.stdout)["ids"]

    def turn(self, session, prompt):
        done = self.sirocco("generate", "--raw", "--session", session, "--prompt", prompt, "--max-tokens", 12, "--json")
        if done.returncode != 0:
            raise AssertionError(f"no answer: {done.stderr}\n{self.journal()}")
        return json.loads(done.stdout)

    def streaming(self):
        """A client whose long answer has begun."""
        client = self.root.start("sirocco", *LONG_ANSWER)
        wait_until(lambda: any(r["state"] == "DECODE" for r in self.status().get("active", [])), "a stream runs")
        return client

    def journal(self):
        return self.root.run("journalctl", "--unit=sirocco.service", "--no-pager", "--lines=100", "--output=cat").stdout

    def add_model(self, model, mode=0o644):
        path = self.root.copy(model, MODELS)
        self.root.run("chmod", f"{mode:o}", path)
        return path

    def configure(self, model, more=""):
        self.root.put(f"{CONFIG}/model.yaml", f"model: {{path: {model}}}\n{more}")

    def drop_in(self, text):
        self.root.put(f"{DROP_INS}/50-test.conf", text)
        self.systemctl("daemon-reload")

    def as_installed(self):
        """Whatever a test before has changed."""
        self.root.run("rm", "-rf", CONFIG, DROP_INS)
        self.systemctl("daemon-reload")
        self.systemctl("reset-failed")

    def restart(self):
        self.systemctl("restart", "sirocco.service")
        self.wait_ready()

    def wait_ready(self):
        wait_until(lambda: self.status()["state"] in ("READY", "DEGRADED"), f"the service is ready: {self.journal()}")


class TestOfService(unittest.TestCase):
    """What tests of one root have in common: tiny models, made once."""

    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory(prefix="sirocco-")
        cls.addClassCleanup(folder.cleanup)
        cls.folder = folder.name
        cls.one = synth(folder.name, "one", seed=1)
        cls.other = synth(folder.name, "other", seed=2)

    def assert_gone(self, service, path):
        self.assertNotEqual(service.root.run("test", "-e", path, check=False).returncode, 0, path)

    def assert_there(self, service, path):
        self.assertEqual(service.root.run("test", "-e", path, check=False).returncode, 0, path)


def freeze(pid, name):
    """Stops the thread of this name of a process; the helper that does it, which ends with the thread."""
    for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
        if (task / "comm").read_text().strip() == name:
            helper = subprocess.Popen([sys.executable, ROOT / "tests/system/freeze_thread.py", task.name],
                                      stdout=subprocess.PIPE, text=True)
            with helper.stdout:
                if helper.stdout.readline() != "frozen\n":
                    raise AssertionError(f"thread {name} of {pid} could not be stopped")
            return helper
    names = sorted((task / "comm").read_text().strip() for task in pathlib.Path(f"/proc/{pid}/task").iterdir())
    raise AssertionError(f"process {pid} has no thread {name}, only {names}")


def open_things(service):
    """How much of what could leak there is: what PID 1 and the daemon hold open, processes, mounts, temporary folders."""
    count = ("ls /proc/1/fd | wc -l; wc -l </proc/1/mountinfo; ls -d /tmp/systemd-private-* | wc -l;"
             "ls /run/sirocco /run/credentials 2>/dev/null | wc -l; ls /dev/shm | wc -l;"
             f"ls /proc/{service.pid()}/fd | wc -l; systemctl list-units --all --no-legend | wc -l")
    return service.root.run("sh", "-c", count).stdout.split()


def within(limit, condition, what):
    """Waits for it, so many seconds."""
    deadline = time.monotonic() + limit
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {limit} s: {what}")
        time.sleep(0.05)


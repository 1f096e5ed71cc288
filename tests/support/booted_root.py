"""A fresh Debian 12 with systemd as PID 1, in which system tests install packages as a user does.

A base root is made once by debootstrap, with what the packages depend on, and kept in build/booted-root/. Each BootedRoot is a
layer over it (overlayfs) that systemd-nspawn boots in about a second, without a network, and that is gone afterwards. Its
processes are this machine's, too: a test may look at them, stop their threads and kill them. Needs root.

    with BootedRoot(base_root(debs)) as root:
        root.run("systemctl", "is-system-running")
"""
import atexit
import hashlib
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
KEPT = ROOT / "build/booted-root"
TOOLS = {"systemd-nspawn": "systemd-container", "debootstrap": "debootstrap"}
BASE_PACKAGES = ("ca-certificates", "systemd", "systemd-sysv", "dbus")
BOOT_S = 60
APT_SETTINGS = ("sources.list", "sources.list.d", "apt.conf.d", "preferences.d", "trusted.gpg.d")
ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "LANG": "C.UTF-8",
               "DEBIAN_FRONTEND": "noninteractive"}


class Unavailable(Exception):
    """This machine cannot boot a root; the message says why, and what would help."""


def require(condition, why):
    if not condition:
        raise Unavailable(why)


def check_tools():
    require(os.geteuid() == 0, "booting a root needs root's rights: run as root")
    for tool, package in TOOLS.items():
        require(shutil.which(tool), f"{tool} is not installed: apt-get install {package}")


def mirror():
    """Where this machine's apt gets Debian 12 from."""
    for file in (pathlib.Path("/etc/apt/sources.list.d/debian.sources"), pathlib.Path("/etc/apt/sources.list")):
        found = re.search(r"^(?:URIs: *|deb (?:\[.*?\] )?)(\S+)", file.read_text(), re.M) if file.exists() else None
        if found:
            return found[1]
    raise Unavailable("/etc/apt names no Debian mirror to make a root from")


def base_root(debs, *more):
    """The folder of a root in which everything is installed that the packages `debs` depend on, but not they; and packages of
    Debian's that a test wants."""
    check_tools()
    needs = ", ".join(filter(None, (dependencies(debs), *more)))
    bare = made_once(KEPT / "bookworm", bootstrap)
    if not needs:
        return bare
    return made_once(KEPT / f"with-{hashlib.sha256(needs.encode()).hexdigest()[:12]}",
                     lambda root: install_dependencies(bare, root, needs))


def made_once(folder, make):
    """`folder`, made by make(unfinished folder) unless it is there."""
    if not folder.exists():
        KEPT.mkdir(parents=True, exist_ok=True)
        unfinished = pathlib.Path(tempfile.mkdtemp(prefix="unfinished-", dir=KEPT))
        unfinished.chmod(0o755)
        try:
            make(unfinished)
            unfinished.rename(folder)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
    return folder


def bootstrap(root):
    log = KEPT / "debootstrap.log"
    with log.open("wb") as out:
        made = subprocess.run(["debootstrap", "--variant=minbase", f"--include={','.join(BASE_PACKAGES)}", "bookworm", root,
                               mirror()], stdout=out, stderr=subprocess.STDOUT)
    require(made.returncode == 0, f"debootstrap failed (see {log}): is there a way to {mirror()}?")


def dependencies(debs):
    """What the packages need of others, as apt writes it."""
    own = {field(deb, "Package") for deb in debs}
    needed = set()
    for deb in debs:
        for line in ("Pre-Depends", "Depends"):
            needed |= {need.strip() for need in field(deb, line).split(",") if need.strip()}
    return ", ".join(sorted(need for need in needed if need.split()[0].split(":")[0] not in own))


def field(deb, name):
    return subprocess.run(["dpkg-deb", "--field", deb, name], check=True, capture_output=True, text=True).stdout.strip()


def install_dependencies(bare, root, needs):
    """By apt in a copy of the bare root, with this machine's settings for it."""
    subprocess.run(["cp", "--archive", "--reflink=auto", f"{bare}/.", root], check=True)
    for name in APT_SETTINGS:
        ours, theirs = pathlib.Path("/etc/apt") / name, root / "etc/apt" / name
        if ours.is_dir():
            shutil.copytree(ours, theirs, dirs_exist_ok=True)
        elif ours.exists():
            shutil.copy(ours, theirs)
        elif theirs.is_file():
            theirs.unlink()
    shutil.copy("/etc/resolv.conf", root / "etc/resolv.conf")
    certificates = pathlib.Path("/usr/local/share/ca-certificates")
    if certificates.is_dir():
        shutil.copytree(certificates, root / certificates.relative_to("/"), dirs_exist_ok=True)
    proxies = {name: value for name, value in os.environ.items() if name.lower().endswith("_proxy")}

    def in_root(script):
        return subprocess.run(["chroot", root, "sh", "-c", script, needs], capture_output=True, text=True,
                              env={**ENVIRONMENT, **proxies})

    lists = in_root("update-ca-certificates >/dev/null 2>&1; apt-get -qq update --error-on=any")
    require(lists.returncode == 0, f"no package lists for a root: {lists.stderr.strip()[-500:]}")
    installed = in_root('apt-get -qq -y --no-install-recommends satisfy "$0"')
    if installed.returncode != 0:  # the packages' fault, not this machine's
        raise AssertionError(f"what the packages depend on cannot be installed: {needs}: {installed.stderr.strip()[-500:]}")


class BootedRoot:
    """memory: a MemoryGroup that the whole system runs in."""

    def __init__(self, base, memory=None):
        KEPT.mkdir(parents=True, exist_ok=True)
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="run-", dir=KEPT))
        self.path = self.folder / "root"
        self.log = self.folder / "boot.log"
        self.nspawn = None
        self.leader = None
        atexit.register(self.close)  # an interrupted test leaves no system running
        try:
            self._lay_over(base)
            self._boot(memory)
        except BaseException:
            self.close()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def _lay_over(self, base):
        for name in ("root", "changed", "work"):
            (self.folder / name).mkdir()
        options = f"lowerdir={base},upperdir={self.folder}/changed,workdir={self.folder}/work"
        mounted = subprocess.run(["mount", "-t", "overlay", "overlay", "-o", options, self.path], capture_output=True, text=True)
        require(mounted.returncode == 0, f"no overlayfs in {self.folder}: {mounted.stderr.strip()}")
        self.path.chmod(0o755)

    def _boot(self, memory):
        command = ["systemd-nspawn", "--quiet", "--boot", "--register=no", "--keep-unit", "--private-network", "--resolv-conf=off",
                   "--timezone=off", "--console=read-only", "--link-journal=no", f"--directory={self.path}",
                   f"--machine=sirocco-{re.sub('[^a-z0-9]', '', self.folder.name)}"]
        with self.log.open("wb") as out:
            self.nspawn = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT,
                                           preexec_fn=memory.enter if memory else None)
        deadline = time.monotonic() + BOOT_S
        while not self._is_up():
            if self.nspawn.poll() is not None or time.monotonic() > deadline:
                raise Unavailable(f"systemd-nspawn does not boot here: {self.log.read_text(errors='replace').strip()[-500:]}")
            time.sleep(0.05)

    def _is_up(self):
        self.leader = self.leader or self._find_leader()
        if self.leader is None:
            return False
        state = self.run("systemctl", "is-system-running", check=False).stdout.strip()
        if state == "degraded":
            failed = self.run("systemctl", "--failed", "--no-legend", "--plain").stdout
            raise Unavailable(f"the booted root is degraded: {failed.strip()}")
        return state == "running"

    def _find_leader(self):
        """The PID, on this machine, of the root's PID 1; None before it is systemd."""
        try:
            children = pathlib.Path(f"/proc/{self.nspawn.pid}/task/{self.nspawn.pid}/children").read_text().split()
            for child in children:
                if namespace_pids(child)[-1] == "1" and pathlib.Path(f"/proc/{child}/comm").read_text() == "systemd\n":
                    return int(child)
        except OSError:
            pass
        return None

    def close(self):
        """Powers it off."""
        if self.nspawn is not None and self.nspawn.poll() is None:
            self.nspawn.send_signal(signal.SIGTERM)  # an orderly shutdown
            try:
                self.nspawn.wait(BOOT_S)
            except subprocess.TimeoutExpired:
                self.nspawn.kill()
                self.nspawn.wait()
        atexit.unregister(self.close)
        subprocess.run(["umount", "--lazy", self.path], stderr=subprocess.DEVNULL)
        shutil.rmtree(self.folder, ignore_errors=True)

    def entering(self, command, user=None):
        """The command line that runs `command` in the root."""
        enter = ["nsenter", f"--target={self.leader}", "--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup"]
        become = [] if user is None else ["runuser", "-u", user, "--"]
        return [*enter, "--wdns=/", *become, *map(str, command)]

    def run(self, *command, user=None, check=True, stdin="", timeout=120):
        """A command in the root to its end. Output as text; a failure that was not expected shows it."""
        done = subprocess.run(self.entering(command, user), input=stdin, capture_output=True, text=True, timeout=timeout,
                              env=ENVIRONMENT)
        if check and done.returncode != 0:
            raise AssertionError(f"{' '.join(map(str, command))}: {done.returncode}\n{done.stdout}{done.stderr}")
        return done

    def start(self, *command, user=None):
        return subprocess.Popen(self.entering(command, user), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE, text=True, env=ENVIRONMENT)

    def put(self, path, text, mode=0o644):
        """A file with this text."""
        self.run("sh", "-c", f'mkdir -p "$(dirname "$0")" && cat >"$0" && chmod {mode:o} "$0"', path, stdin=text)

    def copy(self, source, folder):
        """A file of this machine, copied into a folder of the root; its path there."""
        self.run("mkdir", "-p", folder)
        target = f"{folder}/{pathlib.Path(source).name}"
        shutil.copy(source, f"/proc/{self.leader}/root{target}")
        return target

    def outside(self, pid):
        """The PID on this machine of a process that has `pid` in the root."""
        ours = os.stat(f"/proc/{self.leader}/ns/pid").st_ino
        for process in filter(str.isdigit, os.listdir("/proc")):
            try:
                if os.stat(f"/proc/{process}/ns/pid").st_ino == ours and namespace_pids(process)[-1] == str(pid):
                    return int(process)
            except OSError:
                continue  # it has ended
        raise AssertionError(f"no process {pid} in the root")


def namespace_pids(pid):
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    return re.search(r"^NSpid:\s*(.*)$", status, re.M)[1].split()


def main():
    """`booted_root.py DEB... -- COMMAND...`: the packages installed in a fresh root, and a command there."""
    debs, command = sys.argv[1:], ["bash"]
    if "--" in debs:
        at = debs.index("--")
        debs, command = debs[:at], debs[at + 1:]
    with BootedRoot(base_root(debs)) as root:
        inside = [root.copy(deb, "/root") for deb in debs]
        if inside:
            root.run("apt-get", "install", "--yes", *inside)
        return subprocess.run(root.entering(command), env=ENVIRONMENT).returncode


if __name__ == "__main__":
    sys.exit(main())

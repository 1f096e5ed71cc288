"""Memory cgroups for tests."""
import os
import pathlib


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

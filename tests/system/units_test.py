#!/usr/bin/env python3
"""systemd's units: what systemd-analyze says of them, with and without the drop-ins, and what this project asks of each line.
tests/system/boot_test.py runs them."""
import itertools
import pathlib
import re
import shutil
import subprocess
import tempfile
import unittest

from programs import BIN, ROOT

UNITS = ("sirocco.service", "sirocco.socket", "sirocco-admin.socket", "sirocco.slice")
DROP_INS = ("nvidia", "jetson", "home-models")
# Directives of services, sockets and slices that came after systemd 249, by its NEWS; 256 is the last one looked at.
NEWER_THAN_249 = {
    "ConditionCPUPressure", "ConditionIOPressure", "ConditionMemoryPressure", "ExitType", "ExtensionDirectories",
    "LoadCredentialEncrypted", "RestrictFileSystems", "RestrictNetworkInterfaces", "SetCredentialEncrypted", "ConditionCredential",
    "LogFilterPatterns", "OpenFile", "StartupAllowedCPUs", "StartupAllowedMemoryNodes", "RootEphemeral", "DelegateSubgroup",
    "FileDescriptorStorePreserve", "ImportCredential", "MemoryKSM", "MemoryPressureThresholdSec", "MemoryPressureWatch",
    "RestartMaxDelaySec", "RestartMode", "RestartSteps", "CoredumpReceive", "PollLimitBurst", "PollLimitIntervalSec",
    "SetLoginEnvironment", "MemoryZSwapWriteback"}


def directives(text):
    """(section, name, value, whether a comment stands above its group of lines) of each line of a unit."""
    section, explained = "", False
    for line in text.splitlines():
        if line.startswith("#"):
            explained = True
        elif line.startswith("["):
            section, explained = line.strip("[]"), False
        elif not line.strip():
            explained = False
        else:
            name, value = line.split("=", 1)
            yield section, name, value, explained


def unexplained(text):
    return [f"{name}={value}" for section, name, value, explained in directives(text)
            if not explained and section != "Install" and name not in ("Description", "Documentation")]


# Of [Container], by podman-systemd.unit(5) of podman 4.4, the first that has Quadlet.
QUADLET_KEYS = {
    "AddCapability", "AddDevice", "Annotation", "ContainerName", "DropCapability", "Environment", "EnvironmentFile", "EnvironmentHost",
    "Exec", "ExposeHostPort", "Group", "Image", "Label", "Network", "NoNewPrivileges", "Notify", "PodmanArgs", "PublishPort", "ReadOnly",
    "RunInit", "SeccompProfile", "SecurityLabelDisable", "SecurityLabelFileType", "SecurityLabelLevel", "SecurityLabelType", "Timezone",
    "User", "UserNS", "VolatileTmp", "Volume"}
QUADLET_SWITCHES = {"EnvironmentHost", "NoNewPrivileges", "Notify", "ReadOnly", "RunInit", "SecurityLabelDisable", "VolatileTmp"}


def quadlet_mistakes(text):
    """What podman's generator would not take, or not as it is meant."""
    lines = [(name, value) for section, name, value, _ in directives(text) if section == "Container"]
    for name, value in lines:
        if name not in QUADLET_KEYS:
            yield f"{name}: no key of podman 4.4"
        elif name in QUADLET_SWITCHES and value not in ("true", "false"):
            yield f"{name}: neither true nor false"
        elif name == "Volume" and not re.fullmatch(r"/[^:]+:/[^:]+(:ro)?", value):
            yield f"{name}: not HOST:CONTAINER[:ro] with whole paths"
    if [name for name, _ in lines].count("Image") != 1:
        yield "not one Image"


@unittest.skipUnless(shutil.which("systemd-analyze"), "no systemd-analyze: this machine has no systemd")
class Units(unittest.TestCase):
    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="sirocco-units-"))
        self.addCleanup(shutil.rmtree, self.folder)

    def installed(self, drop_ins=(), change=lambda unit: unit):
        """The units with these drop-ins, as they would be installed with the programs that were built."""
        for name in UNITS:
            text = (ROOT / "systemd" / name).read_text().replace("/usr/bin/siroccod", str(BIN / "siroccod"))
            (self.folder / name).write_text(change(text) if name == "sirocco.service" else text)
        folder = self.folder / "sirocco.service.d"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        for name in drop_ins:
            shutil.copy(ROOT / f"systemd/sirocco.service.d/{name}.conf", folder / f"50-{name}.conf")
        return self.folder / "sirocco.service"

    @staticmethod
    def analyze(*arguments):
        return subprocess.run(["systemd-analyze", *map(str, arguments)], capture_output=True, text=True)

    def verify(self, units=UNITS):
        """What systemd says against the units: nothing, if all is well."""
        result = self.analyze("verify", "--man=no", *(self.folder / name for name in units))
        return result.stdout + result.stderr + ("" if result.returncode == 0 else f"status {result.returncode}")

    def exposure(self, service, threshold):
        """Whether it is at most the threshold, and the figure, both as systemd-analyze tells."""
        result = self.analyze("security", "--offline=yes", "--no-pager", f"--threshold={round(threshold * 10)}", service)
        told = re.search(r"Overall exposure level for \S+: ([\d.]+)", result.stdout)
        self.assertTrue(told, result.stdout + result.stderr)
        return result.returncode == 0, float(told[1])

    def test_SystemdUnderstandsEveryLineWithAnyDropIns(self):
        for number in range(len(DROP_INS) + 1):
            for drop_ins in itertools.combinations(DROP_INS, number):
                with self.subTest(drop_ins=drop_ins):
                    self.installed(drop_ins)
                    self.assertEqual(self.verify(), "")
        self.installed(change=lambda unit: unit + "NoSuchDirective=yes\n")
        self.assertIn("NoSuchDirective", self.verify())

    def test_ExposureIsAtMostOneAndWithAGpuOneAndAHalf(self):
        for drop_ins, bound in (((), 1.0), (("nvidia",), 1.5), (("jetson",), 1.5), (("nvidia", "jetson"), 1.5)):
            with self.subTest(drop_ins=drop_ins):
                held, figure = self.exposure(self.installed(drop_ins), bound)
                self.assertTrue(held, figure)
                self.assertLessEqual(figure, bound)
        held, figure = self.exposure(self.installed(change=lambda unit: unit.replace("User=sirocco\n", "").replace(
            "SystemCallFilter=", "#").replace("NoNewPrivileges=yes", "")), 1.0)
        self.assertFalse(held, figure)

    def test_EveryLineHasItsReasonBesideIt(self):
        files = [*(ROOT / "systemd").glob("sirocco*.s*[tce]"), *(ROOT / "systemd/sirocco.service.d").iterdir()]
        self.assertGreaterEqual(len(files), len(UNITS) + len(DROP_INS) + 1)
        for file in files:
            if file.is_file():
                self.assertEqual(unexplained(file.read_text()), [], file.name)
        self.assertEqual(unexplained("[Service]\n# Why.\nNice=5\n\nUser=x\n"), ["User=x"])

    def test_OnlyTheDropInForNewerOnesHasDirectivesThatSystemd249DoesNotKnow(self):
        for name in (*UNITS, *(f"sirocco.service.d/{name}.conf" for name in DROP_INS)):
            found = {name for _, name, _, _ in directives((ROOT / "systemd" / name).read_text())}
            self.assertEqual(found & NEWER_THAN_249, set(), name)
        newer = {name for _, name, _, _ in directives((ROOT / "systemd/sirocco.service.d/60-newer.conf").read_text())}
        self.assertEqual(newer - NEWER_THAN_249, set())

    def test_BothSocketsStartTheServiceAndHaveTheirNames(self):
        for name, descriptor, mode, group in (("sirocco.socket", "client", "0660", "sirocco"),
                                              ("sirocco-admin.socket", "admin", "0600", "root")):
            lines = {key: value for _, key, value, _ in directives((ROOT / "systemd" / name).read_text())}
            self.assertEqual((lines["FileDescriptorName"], lines["SocketMode"], lines["SocketGroup"], lines["Service"]),
                             (descriptor, mode, group, "sirocco.service"))

    def test_TheQuadletUnitHasDocumentedKeysOnlyAndItsOtherSectionsAreVerified(self):
        # Debian 12's podman, 4.3, has no generator: what one makes of the unit is not seen here, nor that the container starts.
        text = (ROOT / "systemd/container/sirocco.container").read_text()
        self.assertEqual(list(quadlet_mistakes(text)), [])
        wrong = "[Container]\nReadonly=true\nNotify=maybe\nVolume=state:/var\n"
        self.assertEqual(len(list(quadlet_mistakes(wrong))), 4)
        # The generator leaves the other sections as they are, and adds Type= and ExecStart=.
        unit = re.sub(r"(?ms)^\[Container\]$.*?(?=^\[)", "", text).replace("[Service]\n", "[Service]\nType=notify\nExecStart=/bin/true\n")
        for change, complaint in ((lambda unit: unit, ""), (lambda unit: unit.replace("RestartSec=2s", "RestartSec=soon"), "Failed to parse sec value")):
            (self.folder / "sirocco.service").write_text(change(unit))
            told = self.verify(("sirocco.service",))
            self.assertIn(complaint, told)
            self.assertEqual(told == "", complaint == "", told)

    def test_TheQuadletUnitAndTheImageMeanTheSameUser(self):
        unit, image = ((ROOT / "systemd/container" / name).read_text() for name in ("sirocco.container", "Containerfile"))
        number = re.search(r"^ARG ID=(\d+)$", image, re.M)[1]
        self.assertIn(f" -o {number} -g {number} ", unit)
        self.assertIn(f"groupadd --system --gid {number} sirocco", image)


if __name__ == "__main__":
    unittest.main()

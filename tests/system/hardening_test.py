#!/usr/bin/env python3
"""The programs are hardened as cmake/flags.cmake asks: looked up in the programs themselves, since a flag may be lost on the way."""
import pathlib
import platform
import re
import subprocess
import tempfile
import unittest

from programs import BIN

PROGRAMS = ("siroccod", "sirocco")
# How a function begins that an indirect jump may reach: with CET, and with Arm's branch protection.
LANDING = {"x86_64": r"\bendbr64\b", "aarch64": r"\b(paciasp|bti)\b"}


def told(*command):
    return subprocess.run(list(map(str, command)), check=True, capture_output=True, text=True).stdout


def main_function(program):
    """Its first instruction."""
    address, size = re.search(r"^ *\d+: ([0-9a-f]+) +(\d+) FUNC +\S+ +\S+ +\S+ main$", told("readelf", "-sW", program), re.M).groups()
    begin = int(address, 16)
    code = told("objdump", "-d", "--no-show-raw-insn", f"--start-address={begin}", f"--stop-address={begin + min(int(size), 16)}", program)
    return re.findall(r"^ *[0-9a-f]+:\t(.*)$", code, re.M)[0]


def weaknesses(program):
    header, segments, dynamic = (told("readelf", option, program) for option in ("-hW", "-lW", "-dW"))
    symbols = told("readelf", "--dyn-syms", "-W", program)
    if "Position-Independent Executable" not in header:
        yield "not position-independent (PIE)"
    if "GNU_RELRO" not in segments:
        yield "its tables of addresses stay writable (no RELRO)"
    if "NOW" not in dynamic:
        yield "addresses are looked up late, so RELRO is partial (no BIND_NOW)"
    if "TEXTREL" in dynamic:
        yield "its code is written to when it is loaded (TEXTREL)"
    if not re.search(r"GNU_STACK +(0x[0-9a-f]+ +){5}RW +", segments):
        yield "its stack is executable"
    if not re.search(r"\b__stack_chk_fail\b", symbols):
        yield "no stack protector"
    if not re.search(r"\b__(?!stack_)\w+_chk\b", symbols):
        yield "no fortified functions of libc (_FORTIFY_SOURCE)"
    landing = LANDING.get(platform.machine())
    if landing and not re.search(landing, main_function(program)):
        yield "functions do not begin with a landing pad (CET, BTI)"


class Hardening(unittest.TestCase):
    def test_EveryProgramIsHardened(self):
        for program in PROGRAMS:
            self.assertEqual(list(weaknesses(BIN / program)), [], program)

    def test_AProgramThatIsNotHardenedIsSeen(self):
        with tempfile.TemporaryDirectory(prefix="sirocco-soft-") as folder:
            source = pathlib.Path(folder) / "soft.cc"
            source.write_text("int main() { return 0; }\n")
            program = pathlib.Path(folder) / "soft"
            told("g++", "-O1", "-no-pie", "-fno-pie", "-fno-stack-protector", "-fcf-protection=none" if platform.machine() == "x86_64"
                 else "-mbranch-protection=none", "-U_FORTIFY_SOURCE", "-Wl,-z,norelro,-z,lazy,-z,execstack", source, "-o", program)
            self.assertEqual(len(list(weaknesses(program))), 7)


if __name__ == "__main__":
    unittest.main()

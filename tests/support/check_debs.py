#!/usr/bin/env python3
"""check_debs.py ARCHITECTURE DEB...: what a package for that architecture must be; `./dev package` runs it on what it has made.

Programs and libraries are for that machine and need nothing of CUDA's toolkit; the variant for NVIDIA GPUs holds code for each of them.
"""
import pathlib
import re
import struct
import subprocess
import sys
import tempfile

MACHINES = {"amd64": "Advanced Micro Devices X86-64", "arm64": "AArch64"}  # as readelf calls them
GPUS = {87, 90, 110}  # cmake/cuda.cmake
FATBIN, CODE = 0xBA55ED50, 2  # fatbinary_section.h of the toolkit; the kind of an entry that is code and not PTX
CUDA = "siroccod-cuda"


def told(*command):
    return subprocess.run(list(map(str, command)), check=True, capture_output=True, text=True).stdout


def elf_files(folder):
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.is_symlink() and path.open("rb").read(4) == b"\x7fELF":
            yield path


def gpus_of(program):
    """The compute capabilities that a program has code for: the entries of its fat binaries say so (an entry begins with its kind, the
    sizes of its header and of its data, and has the capability in its 28th byte)."""
    section = re.search(r"\.nv_fatbin +PROGBITS +[0-9a-f]+ ([0-9a-f]+) ([0-9a-f]+)", told("readelf", "-SW", program))
    if not section:
        return set()
    offset, size = (int(number, 16) for number in section.groups())
    data = program.read_bytes()[offset:offset + size]
    found, at = set(), 0
    while (at := data.find(struct.pack("<I", FATBIN), at)) >= 0:
        header, bytes_ = struct.unpack_from("<HQ", data, at + 6)
        entry, end = at + header, at + header + bytes_
        while entry < end:
            kind, entry_header, entry_bytes = struct.unpack_from("<H2xIQ", data, entry)
            if kind == CODE:
                found.add(struct.unpack_from("<I", data, entry + 28)[0])
            entry += entry_header + entry_bytes
        at = end
    return found


def problems(name, architecture, folder):
    files = list(elf_files(folder))
    for file in files:
        where = f"{name}: {file.relative_to(folder)}"
        machine = re.search(r"Machine: +(.*)", told("readelf", "-hW", file))[1]
        if machine != MACHINES[architecture]:
            yield f"{where}: is for {machine}"
        needed = re.findall(r"NEEDED.*\[(.*)\]", told("readelf", "-dW", file))
        yield from (f"{where}: needs {library}" for library in needed if re.match(r"libcu|libnv", library))
        if name == CUDA and (missing := GPUS - gpus_of(file)):
            yield f"{where}: has no code for {', '.join(f'sm_{gpu}' for gpu in sorted(missing))}"
    if name in (CUDA, "siroccod", "sirocco", "libsirocco0") and not files:
        yield f"{name}: has no program and no library"


def main():
    architecture, debs = sys.argv[1], sys.argv[2:]
    found = []
    for deb in debs:
        name = told("dpkg-deb", "--field", deb, "Package").strip()
        if name.endswith("-dbgsym"):
            continue
        if told("dpkg-deb", "--field", deb, "Architecture").strip() not in (architecture, "all"):
            found.append(f"{name}: is not for {architecture}")
        with tempfile.TemporaryDirectory(prefix="sirocco-deb-") as folder:
            told("dpkg-deb", "--extract", deb, folder)
            found += problems(name, architecture, pathlib.Path(folder))
    print("\n".join(found) or f"{len(debs)} packages are for {architecture}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())

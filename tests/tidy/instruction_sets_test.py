#!/usr/bin/env python3
"""What is compiled for one instruction set stays in its namespace: the objects of kernels/cpu define nothing that the
linker could take for every set's copy, such as a template of the standard library compiled with AVX-512.

Wants build/release; an object that is not there yet is built first.
"""
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = ROOT / "build/release"
CODE = set("TWi")  # functions: constants are the same bytes whoever defines them


def instruction_sets():
    text = (BUILD / "build.ninja").read_text()
    return sorted(set(re.findall(r"-DSIROCCO_ISA=(\w+)", text)))


def foreign_symbols(name, objects):
    listing = subprocess.run(["nm", "--defined-only", "--print-file-name", *objects], check=True, capture_output=True,
                             text=True).stdout
    mangled = f"N7sirocco3cpu{len(name)}{name}"  # within the name, for types and functions of that namespace
    found = []
    for line in listing.splitlines():
        file, symbol = line.rsplit(":", 1)
        kind, symbol = symbol.split()[-2:]
        if kind not in CODE:
            continue
        if not re.match(r"_Z(TS|TI|TV|GV|GR|L)?" + mangled, symbol):
            found.append(f"{pathlib.Path(file).name}: {symbol}")
    return found


def main():
    if not (BUILD / "build.ninja").exists():
        sys.exit("build/release is not configured: ./dev test tidy does it")
    names = instruction_sets()
    if not names:
        sys.exit("build/release has no instruction sets of kernels/cpu")
    subprocess.run(["cmake", "--build", BUILD, "--target", *(f"sirocco_kernels_{name}" for name in names)], check=True,
                   stdout=subprocess.DEVNULL)
    failures, count = [], 0
    for name in names:
        objects = sorted((BUILD / f"CMakeFiles/sirocco_kernels_{name}.dir").rglob("*.o"))
        count += len(objects)
        if not objects:
            failures.append(f"{name}: no objects")
        failures += foreign_symbols(name, objects) if objects else []
    print("\n".join(failures) or f"{count} objects of {', '.join(names)} keep to their namespaces")
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()

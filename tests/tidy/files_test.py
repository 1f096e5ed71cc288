#!/usr/bin/env python3
"""What every source file keeps to: format, length, an opening comment, no leftovers."""
import pathlib
import re
import shutil
import subprocess
import sys

MAX_LINES = 600
HEADERS = (".h", ".cuh")
LEFTOVER = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b")


def problems(name, text):
    lines = text.splitlines()
    if len(lines) > MAX_LINES:
        yield f"{name}: {len(lines)} lines, more than {MAX_LINES}: split it"
    if name.endswith(HEADERS) and "#pragma once" not in text:
        yield f"{name}: no #pragma once"
    if name.endswith(HEADERS) and not text.startswith("//"):
        yield f"{name}: no opening comment that says what it is for"
    for number, line in enumerate(lines, 1):
        if "\t" in line or line != line.rstrip():
            yield f"{name}:{number}: a tab or trailing space"
        if LEFTOVER.search(line):
            yield f"{name}:{number}: {LEFTOVER.search(line).group()} left over"


def self_test():
    assert len(list(problems("a.h", "int a;\n"))) == 2
    assert len(list(problems("a.cuh", "int a;\n"))) == 2
    assert len(list(problems("a.cc", "int a; \n// TO" + "DO: more\n"))) == 2
    assert not list(problems("a.h", "// What it is.\n#pragma once\n"))


def main():
    self_test()
    root = pathlib.Path(__file__).resolve().parents[2]
    files = [f for top in ("kernels", "engine", "ipc", "daemon", "cli", "tests") for f in sorted((root / top).rglob("*"))
             if f.suffix in (".cc", ".cu", *HEADERS)]
    found = [p for f in files for p in problems(f.relative_to(root).as_posix(), f.read_text())]
    tool = shutil.which("clang-format-14")
    if not tool:
        return "clang-format-14 is not installed: apt-get install clang-format-14"
    run = subprocess.run([tool, "--dry-run", "-Werror", *map(str, files)], capture_output=True, text=True)
    found += [line for line in run.stderr.splitlines() if "error:" in line][:20]
    print("\n".join(found) or f"{len(files)} files are tidy")
    return 1 if found else 0


sys.exit(main())

#!/usr/bin/env python3
"""clang-tidy over the sources of the programs (.clang-tidy), as many files at once as there are CPUs.

All of them take a quarter of an hour. So a file that passed is not looked at again until it, a header of ours that it
includes, what it is compiled with, .clang-tidy or the tool changes: clang_tidy_passed.txt has a hash of these for each file.
This test brings it up to date; it is committed with the change. `--all` looks at every file.
Wants a configured build/release with its generated headers, which ./dev test tidy makes.
"""
import concurrent.futures
import hashlib
import json
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = ROOT / "build/release"
PASSED = ROOT / "tests/tidy/clang_tidy_passed.txt"
ROOMS = ("kernels", "engine", "ipc", "daemon", "cli")
INCLUDE = re.compile(rb'^\s*#\s*include\s*["<]([^">]+)[">]', re.M)
# A moved-from string is read: if this is not found, nothing is.
BAD = """#include <string>
#include <utility>
void take(std::string);
unsigned long f(std::string text) {
  take(std::move(text));
  return text.size();
}
"""


def closure(source):
    """The source and every header of ours that it includes, in a fixed order."""
    seen, left = {}, [source]
    while left:
        path = left.pop()
        if path in seen:
            continue
        seen[path] = path.read_bytes()
        for name in INCLUDE.findall(seen[path]):
            for folder in (ROOT, BUILD / "generated"):
                header = folder / name.decode()
                if header.is_file():
                    left.append(header)
    return [seen[path] for path in sorted(seen)]


def key_of(source, command, tool):
    # Flags that say what is compiled; where folders are differs from machine to machine.
    flags = [flag for flag in shlex.split(command) if re.match(r"-(D|std|m|f)", flag) and str(ROOT) not in flag]
    digest = hashlib.sha256()
    for part in (tool.encode(), " ".join(flags).encode(), (ROOT / ".clang-tidy").read_bytes(), *closure(source)):
        digest.update(hashlib.sha256(part).digest())
    return digest.hexdigest()[:16]


def findings(tool, source):
    """What clang-tidy says of one file; empty if nothing."""
    run = subprocess.run([tool, "-p", BUILD, "--quiet", source], capture_output=True, text=True)
    if run.returncode == 0:
        return ""
    return run.stdout if run.stdout.strip() else run.stderr


def self_test(tool):
    with tempfile.TemporaryDirectory() as folder:
        bad = pathlib.Path(folder) / "bad.cc"
        bad.write_text(BAD)
        run = subprocess.run([tool, f"--config-file={ROOT / '.clang-tidy'}", "--quiet", bad, "--", "-std=c++20"],
                             capture_output=True, text=True)
        assert "bugprone-use-after-move" in run.stdout, run.stdout + run.stderr


def main():
    tool = shutil.which("clang-tidy-14")
    if not tool:
        return "clang-tidy-14 is not installed: apt-get install clang-tidy-14"
    if not (BUILD / "compile_commands.json").is_file() or not (BUILD / "generated/sirocco_generated.h").is_file():
        return "build/release has no compile_commands.json and generated headers: ./dev test tidy makes them"
    self_test(tool)
    said = subprocess.run([tool, "--version"], capture_output=True, check=True, text=True).stdout
    version = re.search(r"version \S+", said)[0]  # and not the processor, which stands there, too
    commands = {pathlib.Path(c["file"]): c["command"] for c in json.loads((BUILD / "compile_commands.json").read_text())}
    sources = [s for room in ROOMS for s in sorted((ROOT / room).rglob("*.cc"))]
    unknown = [s for s in sources if s not in commands]
    if unknown:
        return f"{unknown[0].relative_to(ROOT)} is not built: cmake --preset release, and look at CMakeLists.txt"

    known = dict(reversed(line.split()) for line in PASSED.read_text().splitlines()) if PASSED.is_file() else {}
    keys = {s.relative_to(ROOT).as_posix(): key_of(s, commands[s], version) for s in sources}
    changed = [name for name in keys if known.get(name) != keys[name] or "--all" in sys.argv]
    passed = {name: keys[name] for name in keys if name not in changed}
    failed = 0
    with concurrent.futures.ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        for name, found in zip(changed, pool.map(lambda name: findings(tool, ROOT / name), changed)):
            if found:
                failed += 1
                print(found)
            else:
                passed[name] = keys[name]
    PASSED.write_text("".join(f"{passed[name]} {name}\n" for name in sorted(passed)))
    print(f"{len(sources)} files, {len(changed)} of them looked at, {failed} with findings")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

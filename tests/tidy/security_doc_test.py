#!/usr/bin/env python3
"""docs/security.md names only tests that exist, at each border some, and every fuzz target.

A test is named as `Suite.Name`, `file_test.py: test_name` or `name_fuzz`.
"""
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs/security.md"


def all_tests():
    """The names of every test of the repository, as the page writes them."""
    found = {source.stem for source in (ROOT / "tests/fuzz").glob("*_fuzz.cc")}
    for source in (ROOT / "tests/unit").rglob("*_test.cc"):
        found |= {f"{suite}.{name}" for suite, name in re.findall(r"^TEST(?:_[FP])?\((\w+),\s*(\w+)\)", source.read_text(), re.M)}
    for source in (ROOT / "tests/system").glob("*_test.py"):
        found |= {f"{source.name}: {name}" for name in re.findall(r"^    def (test_\w+)", source.read_text(), re.M)}
    return found


def named_tests(text):
    return re.findall(r"`([A-Z]\w+\.[A-Z]\w+|\w+_test\.py:\s+test_\w+|\w+_fuzz)`", text)


def problems(page, tests):
    borders = page.split("\n## The borders\n")[1].split("\n## ")[0]
    for section in re.split(r"^### ", borders, flags=re.M)[1:]:
        title = section.splitlines()[0]
        if title != "HTTP" and not named_tests(section):
            yield f"docs/security.md: \"{title}\" names no test that defends it"
    named = {re.sub(r"\s+", " ", name) for name in named_tests(page)}
    for name in sorted(named - tests):
        yield f"docs/security.md: there is no test {name}"
    for name in sorted(test for test in tests - named if test.endswith("_fuzz")):
        yield f"docs/security.md: the fuzz target {name} is not named"


def self_test():
    page = "\n## The borders\n\n### A\n\n`S.Gone`\n\n### B\n\nnothing\n\n## Else\n"
    assert len(list(problems(page, {"a_fuzz"}))) == 3


def main():
    self_test()
    tests = all_tests()
    found = list(problems(PAGE.read_text(), tests))
    print("\n".join(found) or f"{len(named_tests(PAGE.read_text()))} tests are named, of {len(tests)}")
    return 1 if found else 0


sys.exit(main())

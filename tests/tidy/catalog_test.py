#!/usr/bin/env python3
"""systemd/sirocco.catalog explains every MESSAGE_ID that the daemon logs, and no other.

Each entry has the headers that journald's catalogues want and a text, and names only fields that the daemon sends.
"""
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
HEADER = (ROOT / "daemon/log_event.h").read_text()
CATALOG = (ROOT / "systemd/sirocco.catalog").read_text()
SOURCES = "".join(path.read_text() for path in sorted((ROOT / "daemon").glob("*.cc")))


def problems():
    events = re.findall(r"LogEvent (\w+)\{\"([0-9a-f]{32})\"\}", HEADER)
    if not events or len(events) != HEADER.count("constexpr LogEvent"):
        yield "daemon/log_event.h: no events, or one whose id is not 32 lower-case hexadecimal digits"
    entries = dict(re.findall(r"^-- (\S+)\n(.*?)(?=^-- |\Z)", CATALOG, re.M | re.S))
    if len(entries) != len(re.findall(r"^-- ", CATALOG, re.M)):
        yield "systemd/sirocco.catalog: an id twice"
    ids = dict((identifier, name) for name, identifier in events)
    if len(ids) != len(events):
        yield "daemon/log_event.h: an id twice"
    for identifier, name in ids.items():
        if identifier not in entries:
            yield f"systemd/sirocco.catalog: has no entry for {name}, {identifier}"
        if not re.search(rf"\b{name}\b", SOURCES):
            yield f"daemon/log_event.h: {name} is logged nowhere"
    for identifier, entry in entries.items():
        if identifier not in ids:
            yield f"systemd/sirocco.catalog: {identifier} is not in daemon/log_event.h"
        headers, _, text = entry.partition("\n\n")
        if [line.partition(": ")[0] for line in headers.splitlines()] != ["Subject", "Defined-By", "Support"]:
            yield f"systemd/sirocco.catalog: {identifier}: wants the headers Subject, Defined-By and Support, then an empty line"
        if not text.strip():
            yield f"systemd/sirocco.catalog: {identifier}: says nothing"
        for field in set(re.findall(r"@(\w+)@", entry)):
            if f'"{field}"' not in SOURCES:
                yield f"systemd/sirocco.catalog: {identifier}: no message has the field {field}"


found = list(problems())
for problem in found:
    print(problem)
sys.exit(1 if found else 0)

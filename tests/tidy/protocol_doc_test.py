#!/usr/bin/env python3
"""docs/protocol.md tells a client in another language everything that ipc/schema/sirocco.fbs defines.

Every table is named, every field stands as `field` after its table's name and before the next table's, every value of an
enumeration stands with its number, and every field of the schema has a comment.
"""
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
SCHEMA = (ROOT / "ipc/schema/sirocco.fbs").read_text()
PAGE = (ROOT / "docs/protocol.md").read_text()


def tables(schema):
    """{table: [field]}"""
    found = {}
    for name, body in re.findall(r"^table (\w+) \{(.*?)^\}", schema, re.M | re.S):
        found[name] = re.findall(r"^\s*(\w+)\s*:", body, re.M)
    return found


def enumerations(schema):
    """{enumeration: [(value, number)]}"""
    found = {}
    for name, body in re.findall(r"^enum (\w+) : \w+ \{(.*?)\}", schema, re.M | re.S):
        found[name] = re.findall(r"(\w+) = (\d+)", body)
    return found


def sections(page, names):
    """The text about each table: from each heading or bold word that names it to the next that names a table."""
    found = {name: "" for name in names}
    marks = []
    for match in re.finditer(r"^### (.+)$|\*\*(\w+)\*\*", page, re.M):
        named = [n for n in re.split(r",\s*", match[1] or match[2]) if n in found]
        if named:
            marks.append((match.start(), named))
    end_of_messages = page.index("\n## ", page.index("\n## Messages") + 1)
    ends = [start for start, _ in marks[1:]] + [end_of_messages]
    for (start, named), end in zip(marks, ends):
        for name in named:
            found[name] += page[start:end]
    return found


def problems():
    schema_tables = tables(SCHEMA)
    text = sections(PAGE, schema_tables)
    for table, fields in schema_tables.items():
        if not text[table]:
            yield f"docs/protocol.md: table {table} is not described"
        for field in fields:
            if f"`{field}`" not in text[table]:
                yield f"docs/protocol.md: {table}.{field} is not described with its table"
    for name, values in enumerations(SCHEMA).items():
        for value, number in values:
            both = rf"\b{value}\s+{number}\b|\| {number} \| {value} \|"
            if value != "NONE" and not re.search(both, PAGE):
                yield f"docs/protocol.md: {name}.{value} is not listed with its number {number}"
    for match in re.finditer(r"^(.*)\n\s*(\w+)\s*: .*\(id: \d+\);", SCHEMA, re.M):
        if not match[1].strip().startswith("///"):
            yield f"ipc/schema/sirocco.fbs: field {match[2]} has no comment"
    lines = re.findall(r"^  (\w+): .*;$", SCHEMA, re.M)
    with_id = re.findall(r"^  (\w+): .*\(id: \d+\);$", SCHEMA, re.M)
    if lines != with_id or "required" in re.sub(r"//.*", "", SCHEMA) or re.search(r"^struct ", SCHEMA, re.M):
        yield "ipc/schema/sirocco.fbs: every field has an explicit id, none is required, and there are no structs"


def main():
    if not tables(SCHEMA) or not enumerations(SCHEMA):
        print("ipc/schema/sirocco.fbs: nothing was found in it: this test no longer understands the schema")
        return 1
    found = list(problems())
    for problem in found:
        print(problem)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/env python3
"""Writes siroccod.yaml(5) from the comments of config/siroccod.yaml: yaml_page.py SETTINGS.yaml OUT. What it relies on: a key's
comment stands above it at the same depth, two spaces a level, and every key is shown with its default."""
import re
import sys

KEY = re.compile(r"( *)([a-z_0-9]+):(?: +(.*))?$")


def entries(text):
    """(path, default or None for a section, lines of the comment) of every key; the file's own comment comes first, path ""."""
    path, comment, first = [], [], True
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            if first:
                yield "", None, comment
            comment, first = [], False
        elif line.lstrip().startswith("#"):
            comment.append(line.strip()[1:].removeprefix(" "))
        elif match := KEY.match(line):
            depth = len(match[1]) // 2
            path[depth:] = [match[2]]
            yield ".".join(path), match[3], comment
            comment = []
        else:
            raise ValueError(f"line {number}: neither a comment nor a key: {line!r}")


def escaped(text):
    text = text.replace("\\", "\\e").replace("-", "\\-")
    return "\\&" + text if text.startswith((".", "'")) else text


def paragraphs(comment):
    """roff of a comment; lines that are indented keep their form."""
    literal = False
    for line in comment:
        if not line:
            yield ".PP"
            continue
        if line.startswith("  ") != literal:
            literal = not literal
            yield ".nf" if literal else ".fi"
        yield escaped(line)
    if literal:
        yield ".fi"


def page(text):
    lines = [".\\\" Made by docs/man/yaml_page.py from config/siroccod.yaml.", ".TH SIROCCOD.YAML 5 \"\" Sirocco \"File formats\"",
             ".SH NAME", "siroccod.yaml \\- configuration of the Sirocco language model daemon", ".SH SYNOPSIS",
             "/etc/sirocco/siroccod.yaml, and over it /etc/sirocco/siroccod.d/*.yaml", ".SH DESCRIPTION"]
    for path, default, comment in entries(text):
        if not path:
            lines += [*paragraphs(comment), ".SH KEYS"]
        elif not default:
            lines += [f".SS {path}", *paragraphs(comment)]
        else:
            lines += [".TP", f".BI {path} \" = {escaped(default)}\"" if '"' not in default else f"\\fB{path}\\fR = {escaped(default)}",
                      *paragraphs(comment)]
    return "\n".join(lines + [".SH SEE ALSO", ".BR siroccod (8),", ".BR sirocco (1)", ""])


if __name__ == "__main__":
    with open(sys.argv[1], encoding="utf-8") as settings:
        written = page(settings.read())
    with open(sys.argv[2], "w", encoding="utf-8") as out:
        out.write(written)

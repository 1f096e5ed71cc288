#!/usr/bin/env python3
"""Reads every #include and fails on an arrow that docs/architecture.md does not allow."""
import pathlib
import re
import sys

ENGINE = ["engine/base", "engine/gguf", "engine/text", "engine/model", "engine/backend", "engine/backend/cuda", "engine/experts",
          "engine/kv", "engine/sample", "engine/sched", "engine/session", "engine"]
BELOW_MODEL = ["kernels", "engine/base", "engine/gguf"]
BELOW_EXPERTS = BELOW_MODEL + ["engine/model", "engine/backend"]

# room: the rooms it may include, besides itself. A room is the longest prefix of a path in this table.
ALLOWED = {
    "kernels": [],
    "kernels/cuda": ["kernels"],
    "engine/base": ["kernels"],
    "engine/gguf": ["kernels", "engine/base"],
    "engine/text": BELOW_MODEL,
    "engine/model": BELOW_MODEL,
    "engine/backend": BELOW_MODEL + ["engine/model"],
    "engine/backend/cuda": BELOW_MODEL + ["kernels/cuda", "engine/model", "engine/backend", "engine/experts"],
    "engine/experts": BELOW_EXPERTS,
    "engine/kv": BELOW_EXPERTS,
    "engine/sample": BELOW_EXPERTS + ["engine/experts", "engine/kv"],
    "engine/sched": BELOW_EXPERTS + ["engine/experts", "engine/kv", "engine/sample"],
    "engine/session": BELOW_MODEL + ["engine/model", "engine/text"],
    "engine": ["kernels"] + ENGINE,
    "ipc/schema": [],
    "ipc/wire": ["ipc/schema"],
    "ipc/server": ["ipc/wire"],
    "ipc/client": ["ipc/wire"],
    "daemon": ["kernels", "ipc/server", "ipc/wire"] + ENGINE,
    # The messages are part of the client's face.
    "cli": ["kernels", "ipc/client", "ipc/wire"] + ENGINE,
}
GENERATED = {"sirocco_generated.h": "ipc/schema"}
INCLUDE = re.compile(r'\s*#\s*include\s*(["<])([^">]+)[">]')


def room_of(path):
    if path in GENERATED:
        return GENERATED[path]
    rooms = [room for room in ALLOWED if path.startswith(room + "/")]
    return max(rooms, key=len) if rooms else None


def violations(path, text):
    room = room_of(path)
    for number, line in enumerate(text.splitlines(), 1):
        found = INCLUDE.match(line)
        if not found:
            continue
        quote, target = found.groups()
        if quote == "<" and room_of(target) is None:
            if target.startswith("boost/") and room == "ipc/wire":
                yield f"{path}:{number}: the wire must build without Boost, and includes <{target}>"
            continue
        to = room_of(target)
        if to != room and to not in ALLOWED[room]:
            yield f"{path}:{number}: {room} may not include {target} ({to or 'no room'})"


def self_test():
    assert list(violations("kernels/ref/a.cc", '#include "engine/base/ids.h"\n'))
    assert list(violations("engine/text/a.cc", '#include "engine/model/model.h"\n'))
    assert list(violations("ipc/server/a.cc", '#include "engine/engine.h"\n'))
    assert list(violations("ipc/client/a.cc", '#include "sirocco_generated.h"\n'))
    assert list(violations("ipc/wire/a.cc", "#include <boost/asio.hpp>\n"))
    assert list(violations("kernels/ref/a.cc", "#include <engine/base/ids.h>\n"))
    assert list(violations("ipc/server/a.cc", "#include <engine/engine.h>\n"))
    assert list(violations("kernels/cpu/a.cc", '#include "kernels/cuda/cu.cuh"\n'))
    assert list(violations("kernels/cuda/a.cu", '#include "engine/base/ids.h"\n'))
    assert not list(violations("kernels/cuda/a.cu", '#include "kernels/half.h"\n#include "kernels/cuda/cu.cuh"\n'))
    assert not list(violations("engine/a.cc", "#include <kernels/tensor_type.h>\n#include <engine>\n"))
    assert not list(violations("daemon/a.cc", '#include "engine/engine.h"\n#include "ipc/server/server.h"\n'))
    assert not list(violations("engine/model/architectures/a.cc", '#include "engine/gguf/gguf_file.h"\n'))


def main():
    self_test()
    root = pathlib.Path(__file__).resolve().parents[2]
    files = [f for top in ("kernels", "engine", "ipc", "daemon", "cli") for f in sorted((root / top).rglob("*"))
             if f.suffix in (".h", ".cc", ".cu", ".cuh")]
    assert len(files) > 50, "the sources were not found"
    found = [v for f in files for v in violations(f.relative_to(root).as_posix(), f.read_text())]
    print("\n".join(found) or f"{len(files)} files follow the arrows")
    return 1 if found else 0


sys.exit(main())

// A file truncated while it is mapped raises SIGBUS in whoever reads the lost pages. The guard turns that into an
// orderly end: its handler puts a page of zeros where the file was and remembers which file it happened to; the engine
// looks after each step, throws the step's results away, fails the requests with one clear line and shuts down.
//
// GgufFile registers its mappings itself. A SIGBUS anywhere else keeps its default action (a crash with a core).
#pragma once

#include <optional>
#include <string>

#include "engine/base/bytes.h"

namespace sirocco {

// Installs the process-wide SIGBUS handler. Idempotent. Called by GgufFile::open.
void install_mapping_guard();

// Registered mappings (a fixed table of 256; false when it is full). `path` is copied.
bool guard_mapping(Bytes mapping, const std::string& path);
void unguard_mapping(Bytes mapping);

// The message of the first mapping that lost pages since the program started, or nothing. One atomic load when healthy.
std::optional<std::string> lost_mapping();

}  // namespace sirocco

// A file truncated while it is mapped raises SIGBUS in whoever reads the lost pages, and one written to in place gives
// other weights without any signal. The guard turns both into an orderly end: its handler puts a page of zeros where
// the file was and remembers which file it happened to; the engine asks after each step, which also looks whether a
// file has changed, throws the step's results away, fails the requests with one clear line and shuts down.
//
// GgufFile registers its mappings itself. A SIGBUS anywhere else keeps its default action (a crash with a core).
#pragma once

#include <optional>
#include <string>

#include "engine/base/bytes.h"

namespace sirocco {

// Installs the process-wide SIGBUS handler. Idempotent. Called by GgufFile::open.
void install_mapping_guard();

// Registered mappings (a fixed table of 256; false when it is full). `descriptor` is of the mapped file and stays open
// until unguard_mapping(); its size and time of writing are watched from now on (-1: they are not). `path` is copied.
bool guard_mapping(Bytes mapping, int descriptor, const std::string& path);
void unguard_mapping(Bytes mapping);

// The message of the first mapping whose file was cut short or written to since the program started, or nothing.
// One fstat for each mapped file when healthy, well below a microsecond.
std::optional<std::string> lost_mapping();

}  // namespace sirocco

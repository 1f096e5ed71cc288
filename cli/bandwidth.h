// How fast this machine can read its memory and its disk: the bounds that tokens/s are printed beside.
#pragma once

#include <cstddef>
#include <filesystem>
#include <optional>

#include "engine/base/result.h"

namespace sirocco {

// Bytes per second that `threads` threads (0: every CPU) read together from memory far larger than the caches; the best
// of several passes. Takes about half a second. Error: so many threads cannot be had.
Result<double> memory_bandwidth(std::size_t threads);

// Bytes per second of reading the file past the page cache (O_DIRECT), up to 256 MiB from its start. Nothing where the
// file system does not know O_DIRECT.
std::optional<double> disk_bandwidth(const std::filesystem::path& file);

}  // namespace sirocco

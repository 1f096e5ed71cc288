// Byte sizes as people write them: "6GiB", "512 MiB", "1.5GB", "4096".
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "engine/base/result.h"

namespace sirocco {

using Bytes = std::span<const std::byte>;

inline constexpr std::uint64_t KiB = 1024;
inline constexpr std::uint64_t MiB = 1024 * KiB;
inline constexpr std::uint64_t GiB = 1024 * MiB;

// Suffixes KiB MiB GiB TiB (powers of 1024), kB MB GB TB (powers of 1000), B or none. Case does not matter.
Result<std::uint64_t> parse_bytes(std::string_view text);

// "5.9 GiB": three significant digits.
std::string format_bytes(std::uint64_t bytes);

}  // namespace sirocco

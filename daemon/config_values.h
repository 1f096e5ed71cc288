// A configuration's value: checked and converted, or what would be allowed instead, in words. Pure functions.
#pragma once

#include <charconv>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include <fmt/format.h>

#include "daemon/yaml_entries.h"

namespace sirocco::daemon {

// Nothing if the value was accepted.
using Allowed = std::optional<std::string>;

template <class T>
Allowed integer(const YamlEntry& entry, std::uint64_t low, std::uint64_t high, T& out) {
  std::uint64_t value = 0;
  const char* const end = entry.text.data() + entry.text.size();
  const auto [rest, error] = std::from_chars(entry.text.data(), end, value);
  if (!entry.plain || error != std::errc() || rest != end || value < low || value > high) {
    return fmt::format("a whole number from {} to {}", low, high);
  }
  out = static_cast<T>(value);
  return {};
}

template <class T, std::size_t N>
Allowed one_of(const YamlEntry& entry, const std::pair<std::string_view, T> (&names)[N], T& out) {
  std::string allowed;
  for (const auto& [name, value] : names) {
    if (entry.text == name) {
      out = value;
      return {};
    }
    allowed += fmt::format("{}{}", allowed.empty() ? "" : ", ", name);
  }
  return allowed;
}

// A number from `low` to `high`.
Allowed number(const YamlEntry& entry, float low, float high, float& out);

Allowed byte_size(const YamlEntry& entry, std::uint64_t low, std::uint64_t high, std::uint64_t& out);

Allowed boolean(const YamlEntry& entry, bool& out);

// One line; both ends in bytes.
Allowed text(const YamlEntry& entry, std::size_t shortest, std::size_t longest, std::string& out);

// Of a socket file.
Allowed mode(const YamlEntry& entry, std::uint32_t& out);

// "10min", "90s", "500ms", "2h" in milliseconds; "off" is 0.
Allowed duration_or_off(const YamlEntry& entry, std::uint64_t& out);

}  // namespace sirocco::daemon

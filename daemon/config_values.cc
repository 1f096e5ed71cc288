#include "daemon/config_values.h"

#include <algorithm>

#include "engine/base/bytes.h"
#include "engine/base/result.h"

namespace sirocco::daemon {

Allowed number(const YamlEntry& entry, float low, float high, float& out) {
  float value = 0;
  const char* const end = entry.text.data() + entry.text.size();
  const auto [rest, error] = std::from_chars(entry.text.data(), end, value);
  if (!entry.plain || error != std::errc() || rest != end || !(value >= low && value <= high)) {
    return fmt::format("a number from {} to {}", low, high);
  }
  out = value;
  return {};
}

Allowed byte_size(const YamlEntry& entry, std::uint64_t low, std::uint64_t high, std::uint64_t& out) {
  const Result<std::uint64_t> value = parse_bytes(entry.text);
  if (entry.plain && value && *value >= low && *value <= high) {
    out = *value;
    return {};
  }
  return fmt::format("a size from {} to {}, such as 512MiB", format_bytes(low), format_bytes(high));
}

Allowed boolean(const YamlEntry& entry, bool& out) {
  if (!entry.plain || (entry.text != "true" && entry.text != "false")) return "true or false";
  out = entry.text == "true";
  return {};
}

Allowed text(const YamlEntry& entry, std::size_t shortest, std::size_t longest, std::string& out) {
  const bool printable = std::none_of(entry.text.begin(), entry.text.end(),
                                      [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; });
  if (entry.kind != YamlEntry::Kind::scalar || !printable || entry.text.size() < shortest ||
      entry.text.size() > longest) {
    return fmt::format("{} to {} bytes without control characters", shortest, longest);
  }
  out = entry.text;
  return {};
}

Allowed mode(const YamlEntry& entry, std::uint32_t& out) {
  std::uint32_t value = 0;
  const char* const end = entry.text.data() + entry.text.size();
  const auto [rest, error] = std::from_chars(entry.text.data(), end, value, 8);
  // Without the owner's bits the daemon's own user could not connect, and nobody means that.
  if (error != std::errc() || rest != end || value > 0777 || (value & 0600) != 0600) {
    return R"(octal permissions from "0600" to "0777" that let the owner read and write)";
  }
  out = value;
  return {};
}

Allowed duration_or_off(const YamlEntry& entry, std::uint64_t& out) {
  constexpr std::pair<std::string_view, std::uint64_t> kUnits[] = {
      {"ms", 1}, {"s", 1000}, {"min", 60'000}, {"h", 3'600'000}};
  constexpr std::uint64_t kLongest = 365ULL * 24 * 3'600'000;
  if (entry.plain && entry.text == "off") {
    out = 0;
    return {};
  }
  std::uint64_t value = 0;
  const char* const end = entry.text.data() + entry.text.size();
  const auto [rest, error] = std::from_chars(entry.text.data(), end, value);
  for (const auto& [unit, milliseconds] : kUnits) {
    if (!entry.plain || error != std::errc() || std::string_view(rest, end) != unit) continue;
    if (value == 0 || value > kLongest / milliseconds) break;
    out = value * milliseconds;
    return {};
  }
  return "off, or a time up to a year in ms, s, min or h, such as 10min";
}

}  // namespace sirocco::daemon

#include "engine/text/json_text.h"

#include <array>
#include <charconv>
#include <cmath>
#include <utility>

namespace sirocco {
namespace {

constexpr int kMaxDepth = 64;

// Python's repr: the shortest digits that read back as the same number, an exponent below 1e-4 and from 1e16 on.
std::string python_float(double value) {
  const double magnitude = std::abs(value);
  const bool exponent = magnitude != 0 && (magnitude < 1e-4 || magnitude >= 1e16);
  std::array<char, 64> buffer{};
  const auto end = std::to_chars(buffer.data(), buffer.data() + buffer.size(), value,
                                 exponent ? std::chars_format::scientific : std::chars_format::fixed)
                       .ptr;
  std::string text(buffer.data(), end);
  if (!exponent && text.find('.') == std::string::npos) text += ".0";
  return text;
}

std::string quoted(const std::string& text) {
  return Json(text).dump(-1, ' ', false, Json::error_handler_t::replace);
}

void write(const Json& value, std::string& out) {
  const char* separator = "";
  if (value.is_object()) {
    out += '{';
    for (const auto& [key, element] : value.items()) {
      out += std::exchange(separator, ", ") + quoted(key) + ": ";
      write(element, out);
    }
    out += '}';
  } else if (value.is_array()) {
    out += '[';
    for (const Json& element : value) {
      out += std::exchange(separator, ", ");
      write(element, out);
    }
    out += ']';
  } else if (value.is_number_float()) {
    out += python_float(value.get<double>());
  } else if (value.is_string()) {
    out += quoted(value.get_ref<const std::string&>());
  } else {
    out += value.dump();
  }
}

}  // namespace

Result<Json> parse_json(std::string_view text) {
  bool too_deep = false;
  const auto limit = [&](int depth, Json::parse_event_t, Json&) {
    too_deep = too_deep || depth > kMaxDepth;
    return !too_deep;
  };
  try {
    Json value = Json::parse(text, limit);
    if (!too_deep) return value;
  } catch (const Json::exception& error) {
    if (!too_deep) return fail(ErrorCode::invalid_argument, "JSON: {}", error.what());
  }
  return fail(ErrorCode::invalid_argument, "JSON: more than {} levels deep", kMaxDepth);
}

std::string python_json(const Json& value) {
  std::string out;
  write(value, out);
  return out;
}

}  // namespace sirocco

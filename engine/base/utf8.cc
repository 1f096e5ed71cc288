#include "engine/base/utf8.h"

#include <algorithm>

namespace sirocco {
namespace {

// Unicode table 3-7: how long a character is, and what its second byte may be, by its first.
struct Lead {
  std::size_t length = 0;  // 0: no character begins so
  unsigned char low = 0x80;
  unsigned char high = 0xBF;
};

Lead lead(unsigned char first) {
  if (first < 0x80) return {.length = 1};
  if (first < 0xC2) return {};  // a continuation byte, or an overlong form
  if (first < 0xE0) return {.length = 2};
  if (first == 0xE0) return {.length = 3, .low = 0xA0};   // below: overlong
  if (first == 0xED) return {.length = 3, .high = 0x9F};  // above: surrogates
  if (first < 0xF0) return {.length = 3};
  if (first == 0xF0) return {.length = 4, .low = 0x90};   // below: overlong
  if (first == 0xF4) return {.length = 4, .high = 0x8F};  // above: beyond U+10FFFF
  if (first < 0xF4) return {.length = 4};
  return {};
}

}  // namespace

Utf8Step utf8_step(std::string_view bytes) {
  const auto at = [&](std::size_t i) { return static_cast<unsigned char>(bytes[i]); };
  const Lead expected = lead(at(0));
  if (expected.length == 0) return {Utf8State::invalid, 1};

  const std::size_t present = std::min(expected.length, bytes.size());
  for (std::size_t i = 1; i < present; ++i) {
    const unsigned char low = i == 1 ? expected.low : 0x80;
    const unsigned char high = i == 1 ? expected.high : 0xBF;
    if (at(i) < low || at(i) > high) return {Utf8State::invalid, i};
  }
  return {present == expected.length ? Utf8State::valid : Utf8State::incomplete, present};
}

std::size_t utf8_valid_prefix(std::string_view bytes) {
  std::size_t length = 0;
  while (length < bytes.size()) {
    const Utf8Step step = utf8_step(bytes.substr(length));
    if (step.state != Utf8State::valid) break;
    length += step.length;
  }
  return length;
}

std::string utf8_replace_invalid(std::string_view bytes) {
  std::string text;
  text.reserve(bytes.size());
  while (true) {
    const std::size_t valid = utf8_valid_prefix(bytes);
    text.append(bytes.substr(0, valid));
    bytes.remove_prefix(valid);
    if (bytes.empty()) return text;
    text.append(kReplacementCharacter);
    bytes.remove_prefix(utf8_step(bytes).length);
  }
}

void append_utf8(char32_t character, std::string& text) {
  if (character > 0x10FFFF || (character >= 0xD800 && character < 0xE000)) {
    text.append(kReplacementCharacter);
    return;
  }
  const auto continuation = [&](int shift) { text.push_back(static_cast<char>(0x80 | ((character >> shift) & 0x3F))); };
  if (character < 0x80) {
    text.push_back(static_cast<char>(character));
  } else if (character < 0x800) {
    text.push_back(static_cast<char>(0xC0 | character >> 6));
  } else if (character < 0x10000) {
    text.push_back(static_cast<char>(0xE0 | character >> 12));
    continuation(6);
  } else {
    text.push_back(static_cast<char>(0xF0 | character >> 18));
    continuation(12);
    continuation(6);
  }
  if (character >= 0x80) continuation(0);
}

}  // namespace sirocco

#include "engine/text/byte_alphabet.h"

#include <array>
#include <cstddef>

#include "engine/base/utf8.h"

namespace sirocco {
namespace {

constexpr unsigned kOutside = 0x144;  // one more than the last character used

struct Alphabet {
  std::array<std::string, 256> characters;
  std::array<int, kOutside> bytes{};  // by code point, -1 for none

  Alphabet() {
    bytes.fill(-1);
    unsigned next = 0x100;
    for (unsigned byte = 0; byte < 256; ++byte) {
      const bool printable = (byte > 0x20 && byte < 0x7F) || (byte > 0xA0 && byte != 0xAD);
      const unsigned point = printable ? byte : next++;
      bytes.at(point) = static_cast<int>(byte);
      std::string& text = characters.at(byte);
      if (point < 0x80) {
        text = static_cast<char>(point);
      } else {
        text = {static_cast<char>(0xC0 | point >> 6), static_cast<char>(0x80 | (point & 0x3F))};
      }
    }
  }
};

const Alphabet& alphabet() {
  static const Alphabet value;
  return value;
}

}  // namespace

std::string_view byte_character(unsigned char byte) {
  return alphabet().characters[byte];
}

std::optional<std::string> bytes_of_characters(std::string_view token) {
  std::string bytes;
  while (!token.empty()) {
    const Utf8Step step = utf8_step(token);
    if (step.state != Utf8State::valid || step.length > 2) return std::nullopt;
    const unsigned first = static_cast<unsigned char>(token[0]);
    const unsigned point =
        step.length == 1 ? first : (first & 0x1F) << 6 | (static_cast<unsigned char>(token[1]) & 0x3F);
    if (point >= kOutside || alphabet().bytes[point] < 0) return std::nullopt;
    bytes.push_back(static_cast<char>(alphabet().bytes[point]));
    token.remove_prefix(step.length);
  }
  return bytes;
}

}  // namespace sirocco

#include "engine/base/printable.h"

#include "engine/base/utf8.h"

namespace sirocco {
namespace {

// Of one well-formed character.
bool moves_text(std::string_view character) {
  const auto at = [&](std::size_t i) { return static_cast<unsigned char>(character[i]); };
  if (character.size() == 1) return at(0) < 0x20 || at(0) == 0x7F;
  if (character.size() == 2) return at(0) == 0xC2 && at(1) < 0xA0;  // C1: U+0080 to U+009F
  if (character.size() != 3 || at(0) != 0xE2) return false;         //
  if (at(1) == 0x80) return at(2) >= 0xA8 && at(2) <= 0xAE;         // U+2028 to U+202E
  return at(1) == 0x81 && at(2) >= 0xA6 && at(2) <= 0xA9;           // U+2066 to U+2069
}

}  // namespace

bool is_printable(std::string_view text) {
  while (!text.empty()) {
    const Utf8Step step = utf8_step(text);
    if (step.state != Utf8State::valid || moves_text(text.substr(0, step.length))) return false;
    text.remove_prefix(step.length);
  }
  return true;
}

std::string printable(std::string_view text, std::size_t limit) {
  std::string result;
  while (!text.empty()) {
    const Utf8Step step = utf8_step(text);
    std::string_view character = text.substr(0, step.length);
    if (step.state != Utf8State::valid) {
      character = kReplacementCharacter;
    } else if (moves_text(character)) {
      character = " ";
    }
    if (result.size() + character.size() > limit) return result + "…";
    result += character;
    text.remove_prefix(step.length);
  }
  return result;
}

}  // namespace sirocco

#include "ipc/wire/utf8.h"

#include <cstddef>

namespace sirocco::wire {
namespace {

// Bytes after `lead`, and the range of the first of them; the others are 80..BF.
struct Form {
  std::size_t more;
  unsigned char low;
  unsigned char high;
};

Form form_of(unsigned char lead) {
  if (lead < 0x80) return {0, 0, 0};
  if (lead >= 0xC2 && lead <= 0xDF) return {1, 0x80, 0xBF};
  if (lead == 0xE0) return {2, 0xA0, 0xBF};  // else overlong
  if (lead == 0xED) return {2, 0x80, 0x9F};  // else a surrogate
  if (lead >= 0xE1 && lead <= 0xEF) return {2, 0x80, 0xBF};
  if (lead == 0xF0) return {3, 0x90, 0xBF};  // else overlong
  if (lead >= 0xF1 && lead <= 0xF3) return {3, 0x80, 0xBF};
  if (lead == 0xF4) return {3, 0x80, 0x8F};  // else above U+10FFFF
  return {4, 0, 0};                          // never a lead byte: no form has four more
}

// Length of the well-formed character at the front of a text that is not empty; 0 if there is none.
std::size_t character_length(std::string_view text) {
  const Form form = form_of(static_cast<unsigned char>(text[0]));
  if (form.more > 3 || text.size() <= form.more) return 0;
  for (std::size_t k = 1; k <= form.more; ++k) {
    const auto byte = static_cast<unsigned char>(text[k]);
    if (byte < (k == 1 ? form.low : 0x80) || byte > (k == 1 ? form.high : 0xBF)) return 0;
  }
  return form.more + 1;
}

}  // namespace

bool is_utf8(std::string_view text) {
  while (!text.empty()) {
    const std::size_t length = character_length(text);
    if (length == 0) return false;
    text.remove_prefix(length);
  }
  return true;
}

std::string printable(std::string_view text, std::size_t max_bytes) {
  std::string result;
  while (!text.empty()) {
    const std::size_t length = character_length(text);
    std::string_view character = length == 0 ? "\xEF\xBF\xBD" : text.substr(0, length);
    if (length == 1 && (static_cast<unsigned char>(text[0]) < 0x20 || text[0] == 0x7F)) character = " ";
    if (result.size() + character.size() > max_bytes) break;
    result += character;
    text.remove_prefix(length == 0 ? 1 : length);
  }
  return result;
}

}  // namespace sirocco::wire

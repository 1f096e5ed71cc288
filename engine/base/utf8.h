// UTF-8 that may be broken: tokens are pieces of bytes, and clients may send anything. What is ill-formed, and how many
// bytes one U+FFFD stands for, follows the Unicode standard's maximal subparts (section 3.9), as Python's
// bytes.decode("utf-8", errors="replace") does.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace sirocco {

enum class Utf8State : std::uint8_t {
  valid,       // one character
  invalid,     // bytes that cannot begin a character, whatever follows
  incomplete,  // the bytes end inside what may still become a character
};

struct Utf8Step {
  Utf8State state;
  std::size_t length;  // bytes it is about, at least 1
};

// What stands at the beginning of `bytes`, which is not empty.
Utf8Step utf8_step(std::string_view bytes);

// The length of the longest prefix of whole, valid characters.
std::size_t utf8_valid_prefix(std::string_view bytes);

// `bytes` with each maximal ill-formed subpart replaced by U+FFFD.
std::string utf8_replace_invalid(std::string_view bytes);

// Appends the character; U+FFFD for what is none (surrogates, above U+10FFFF).
void append_utf8(char32_t character, std::string& text);

inline constexpr std::string_view kReplacementCharacter = "\xEF\xBF\xBD";  // U+FFFD

}  // namespace sirocco

// A Jinja template cut into what it writes as it is, what it computes and what it does, with the settings of
// transformers: trim_blocks, lstrip_blocks, no newline at the very end.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "engine/base/result.h"

namespace sirocco::jinja {

inline constexpr std::string_view kWhiteSpace = " \t\n\r\f\v";  // Python's

struct Token {
  enum class Kind : std::uint8_t { name, string, integer, symbol };
  Kind kind = Kind::symbol;
  std::string text;  // of a string: what it means
};

struct Piece {
  enum class Kind : std::uint8_t { text, output, statement };  // outside of tags; {{ … }}; {% … %}
  Kind kind = Kind::text;
  std::size_t line = 1;
  std::string text;           // of a text
  std::vector<Token> tokens;  // of the others
};

// Errors (unsupported) name the line: a tag without an end, a character or an escape that is not known.
Result<std::vector<Piece>> split(std::string_view source);

}  // namespace sirocco::jinja

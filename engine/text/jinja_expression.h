// The expressions of a Jinja template, computed as they are read; what is skipped (the other side of a condition) is
// not looked at.
#pragma once

#include <cstddef>
#include <initializer_list>
#include <span>
#include <string_view>
#include <vector>

#include "engine/text/jinja_lexer.h"
#include "engine/text/jinja_value.h"

namespace sirocco::jinja {

// Names, the innermost scope last, and what the template may still spend of time and memory: it is not trusted.
struct Scopes {
  std::vector<Dictionary> variables;
  std::size_t steps_left = 20'000;  // a hundred times what a template takes for a short conversation

  const Value* find(std::string_view name) const;
  bool spend(std::size_t steps);  // false: more than there are
};

inline constexpr int kMaxDepth = 32;  // of brackets, and of statements

// The value of all `tokens`. Errors as those of jinja_value.h.
Result<Value> evaluate(std::span<const Token> tokens, Scopes& scopes);

}  // namespace sirocco::jinja

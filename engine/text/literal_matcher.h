// Finds written tokens ("<|im_end|>") in a text: the leftmost one, and of several that begin there the longest, as the
// tokenizers package does. Immutable once built; any thread may call.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "engine/base/ids.h"

namespace sirocco {

class LiteralMatcher {
 public:
  LiteralMatcher() = default;
  explicit LiteralMatcher(std::vector<std::pair<std::string, TokenId>> literals);  // empty ones are left out

  struct Match {
    std::size_t begin;
    std::size_t length;
    TokenId id;
  };
  std::optional<Match> find(std::string_view text) const;

  // Calls on_text for what lies between the literals (never empty) and on_token for each literal, in order.
  template <class OnText, class OnToken>
  void split(std::string_view text, OnText&& on_text, OnToken&& on_token) const {
    while (const auto match = find(text)) {
      if (match->begin > 0) on_text(text.substr(0, match->begin));
      on_token(match->id);
      text.remove_prefix(match->begin + match->length);
    }
    if (!text.empty()) on_text(text);
  }

 private:
  std::optional<Match> match_at(std::string_view text, std::size_t begin) const;

  std::vector<std::pair<std::string, TokenId>> literals_;  // sorted
  std::string first_bytes_;                                // each first byte once
};

}  // namespace sirocco

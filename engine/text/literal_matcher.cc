#include "engine/text/literal_matcher.h"

#include <algorithm>

namespace sirocco {

LiteralMatcher::LiteralMatcher(std::vector<std::pair<std::string, TokenId>> literals) : literals_(std::move(literals)) {
  std::erase_if(literals_, [](const auto& literal) { return literal.first.empty(); });
  std::sort(literals_.begin(), literals_.end());
  for (const auto& [text, id] : literals_) {
    if (first_bytes_.empty() || first_bytes_.back() != text.front()) first_bytes_.push_back(text.front());
  }
}

// Narrows the sorted literals byte by byte to those that still agree with the text. A literal that ends here sorts
// before those that go on, so it is the first of the range.
std::optional<LiteralMatcher::Match> LiteralMatcher::match_at(std::string_view text, std::size_t begin) const {
  std::optional<Match> longest;
  auto low = literals_.begin();
  auto high = literals_.end();
  for (std::size_t depth = 0; begin + depth < text.size() && low != high; ++depth) {
    const auto byte_at = [depth](const auto& literal) {
      return depth < literal.first.size() ? static_cast<int>(static_cast<unsigned char>(literal.first[depth])) : -1;
    };
    const int byte = static_cast<unsigned char>(text[begin + depth]);
    low = std::partition_point(low, high, [&](const auto& literal) { return byte_at(literal) < byte; });
    high = std::partition_point(low, high, [&](const auto& literal) { return byte_at(literal) == byte; });
    if (low != high && low->first.size() == depth + 1) longest = Match{begin, depth + 1, low->second};
  }
  return longest;
}

std::optional<LiteralMatcher::Match> LiteralMatcher::find(std::string_view text) const {
  for (std::size_t begin = text.find_first_of(first_bytes_); begin != std::string_view::npos;
       begin = text.find_first_of(first_bytes_, begin + 1)) {
    if (const auto match = match_at(text, begin)) return match;
  }
  return std::nullopt;
}

}  // namespace sirocco

// Byte-pair encoding proper: which neighbouring tokens merge into which, and in what order. Immutable once built; any
// thread may call.
#pragma once

#include <array>
#include <boost/unordered/unordered_flat_map.hpp>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "engine/base/ids.h"
#include "engine/base/result.h"

namespace sirocco {

using TokenIndex = boost::unordered_flat_map<std::string_view, TokenId>;  // the strings belong to someone else

class BpeMerges {
 public:
  // From the file's list, first merged first: "left right" as the vocabulary writes them. Errors: a line that is not
  // two known tokens whose concatenation is known.
  static Result<BpeMerges> from_list(std::span<const std::string> merges, const TokenIndex& by_text);

  // Tekken and tiktoken: any two tokens merge whose bytes together are a token, smallest resulting id first.
  // bytes[id] is what a token stands for; empty: not part of it.
  static Result<BpeMerges> from_ids(std::span<const std::string> bytes, const TokenIndex& by_bytes);

  struct Symbol {
    TokenId id = -1;
    std::int32_t previous = -1;
    std::int32_t next = -1;
    bool merged_away = false;
  };
  struct Candidate {
    std::uint32_t rank = 0;
    std::int32_t left = 0;  // positions of the two symbols, and what they were
    std::int32_t right = 0;
    TokenId left_id = 0;
    TokenId right_id = 0;
    TokenId result = 0;
  };
  // Memory that is reused from piece to piece.
  struct Scratch {
    std::vector<Symbol> symbols;
    std::vector<Candidate> heap;
  };

  // Merges `ids` in place, the lowest rank first and of equal ones the leftmost: O(n log n).
  void apply(std::vector<TokenId>& ids, Scratch& scratch) const;

 private:
  struct Merge {
    std::uint32_t rank;
    TokenId result;
  };
  static std::uint64_t key(TokenId left, TokenId right) {
    return std::uint64_t{static_cast<std::uint32_t>(left)} << 32 | static_cast<std::uint32_t>(right);
  }
  void consider(Scratch& scratch, std::int32_t left) const;

  boost::unordered_flat_map<std::uint64_t, Merge> merges_;
};

}  // namespace sirocco

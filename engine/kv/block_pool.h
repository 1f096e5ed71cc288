// Hands out the blocks of the KV cache by number; their memory belongs to the Backend. A sequence takes what its
// longest possible text needs when it starts, so that it never runs out in the middle. Owned and called by the engine
// thread.
#pragma once

#include <cassert>
#include <cstdint>
#include <optional>
#include <vector>

#include "engine/base/ids.h"

namespace sirocco {

class BlockPool {
 public:
  BlockPool(std::uint32_t blocks, std::uint32_t block_tokens)
      : block_tokens_(block_tokens), free_(blocks), total_(blocks) {
    for (std::uint32_t i = 0; i < blocks; ++i) free_[i] = blocks - 1 - i;
  }

  std::uint32_t block_tokens() const { return block_tokens_; }
  std::uint32_t total() const { return total_; }
  std::uint32_t available() const { return static_cast<std::uint32_t>(free_.size()); }
  std::uint32_t blocks_for(std::uint32_t tokens) const { return (tokens + block_tokens_ - 1) / block_tokens_; }

  // Blocks for that many tokens, or nothing if there are not enough.
  std::optional<std::vector<BlockId>> take(std::uint32_t tokens) {
    const std::uint32_t count = blocks_for(tokens);
    if (count > available()) return std::nullopt;
    const std::vector<BlockId> taken(free_.rbegin(), free_.rbegin() + count);
    free_.resize(free_.size() - count);
    return taken;
  }
  void give_back(const std::vector<BlockId>& blocks) {
    free_.insert(free_.end(), blocks.rbegin(), blocks.rend());
    assert(free_.size() <= total_);
  }

 private:
  std::uint32_t block_tokens_;
  std::vector<BlockId> free_;  // a stack
  std::uint32_t total_;
};

}  // namespace sirocco

// Hands out the blocks of the KV cache by number; their memory belongs to the Backend. A block is held by any number of
// requests that read it, and it may be kept by the prefix cache; it is free once neither is so. Part of KvCache.
#pragma once

#include <cassert>
#include <cstdint>
#include <optional>
#include <vector>

#include "engine/base/ids.h"

namespace sirocco {

// In a block table: the tokens there lie behind the model's window, nobody reads them, and their block has been
// released.
inline constexpr BlockId kNoBlock = UINT32_MAX;

class BlockPool {
 public:
  explicit BlockPool(std::uint32_t blocks) : states_(blocks), free_(blocks) {
    for (std::uint32_t i = 0; i < blocks; ++i) free_[i] = blocks - 1 - i;
  }

  std::uint32_t total() const { return static_cast<std::uint32_t>(states_.size()); }
  std::uint32_t free() const { return static_cast<std::uint32_t>(free_.size()); }
  // Free, or cached and held by nobody: what requests can get.
  std::uint32_t available() const { return free() + idle_; }
  std::uint32_t cached() const { return cached_; }

  // A free block, with its first holder.
  std::optional<BlockId> take() {
    if (free_.empty()) return std::nullopt;
    const BlockId block = free_.back();
    free_.pop_back();
    states_[block] = {.holders = 1, .cached = false};
    return block;
  }

  bool held(BlockId block) const { return states_[block].holders > 0; }
  // One holder more, of a block that is held or cached; one less.
  void hold(BlockId block) {
    State& state = states_[block];
    assert(state.holders > 0 || state.cached);
    if (state.holders++ == 0) --idle_;
  }
  void release(BlockId block) {
    State& state = states_[block];
    assert(state.holders > 0);
    if (--state.holders > 0) return;
    if (state.cached) {
      ++idle_;
    } else {
      free_.push_back(block);
    }
  }

  // The prefix cache keeps a block that somebody holds; and no longer keeps it.
  void cache(BlockId block) {
    assert(held(block) && !states_[block].cached);
    states_[block].cached = true;
    ++cached_;
  }
  void uncache(BlockId block) {
    State& state = states_[block];
    assert(state.cached);
    state.cached = false;
    --cached_;
    if (state.holders > 0) return;
    --idle_;
    free_.push_back(block);
  }

 private:
  struct State {
    std::uint32_t holders = 0;
    bool cached = false;
  };
  std::vector<State> states_;  // [blocks]
  std::vector<BlockId> free_;  // a stack
  std::uint32_t idle_ = 0;     // cached and held by nobody
  std::uint32_t cached_ = 0;
};

}  // namespace sirocco

// The blocks of the KV cache as requests and sessions see them: a request is given blocks for its longest text, of
// which the beginning may be there already, because somebody computed the same tokens before. What is there is read by
// any number of requests and never written again; a block that a request goes on from in the middle is copied for it.
//
// A request never holds more than the blocks of its longest text, and what only the cache keeps is dropped for it: so
// the scheduler, which counts every request with all its blocks, never promises too much.
//
// Where the model has a sliding window, a request holds the blocks that its next row reads and those of the step, and
// its table has kNoBlock before them. Texts stay whole in the prefix cache, as long as there is room: a prompt that
// goes on from there holds the last blocks of what it found.
//
// Guarded by the Engine's mutex; a copy of a block takes about a millisecond at most.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

#include "engine/backend/backend.h"
#include "engine/kv/block_pool.h"
#include "engine/kv/cache_share.h"
#include "engine/kv/prefix_cache.h"

namespace sirocco {

inline CacheOwner cache_owner(CacheShare share, std::uint32_t uid) {
  return share == CacheShare::uid ? CacheOwner{uid} + 1 : share == CacheShare::all ? 0 : kNobody;
}

// What a model with a sliding window reads.
struct KvWindow {
  std::uint32_t tokens = 0;  // that a row sees, itself among them; 0: all before it
  std::uint32_t rows = 0;    // of a step, at most
};

// Blocks that a text of so many tokens holds at most at any time: behind the window it holds none.
inline std::uint32_t most_kv_blocks(std::size_t tokens, KvWindow window, std::uint32_t block_tokens) {
  const auto blocks_for = [&](std::size_t n) {
    return static_cast<std::uint32_t>((n + block_tokens - 1) / block_tokens);
  };
  if (window.tokens == 0) return blocks_for(tokens);
  return std::min(blocks_for(tokens), blocks_for(std::size_t{window.tokens} + window.rows) + 1);
}

struct KvCounters {
  std::uint32_t blocks = 0;
  std::uint32_t available = 0;       // free, or dropped when they are needed
  std::uint32_t cached = 0;          // hold a beginning that may be found
  std::uint64_t hit_tokens = 0;      // of prompts that were there, since the start
  std::uint64_t evicted_blocks = 0;  // since the start
};

class KvCache {
 public:
  KvCache(Backend& backend, std::uint32_t blocks, std::uint32_t block_tokens, KvWindow window = {})
      : backend_(backend),
        block_tokens_(block_tokens),
        window_(window),
        pool_(blocks),
        prefixes_(pool_, block_tokens) {}

  std::uint32_t block_tokens() const { return block_tokens_; }
  std::uint32_t blocks_for(std::size_t tokens) const {
    return static_cast<std::uint32_t>((tokens + block_tokens_ - 1) / block_tokens_);
  }

  std::uint32_t most_blocks(std::size_t tokens) const { return most_kv_blocks(tokens, window_, block_tokens_); }
  // The first block that a row at this position reads.
  std::uint32_t first_block(std::uint32_t position) const {
    return window_.tokens == 0 || position < window_.tokens ? 0 : (position - window_.tokens + 1) / block_tokens_;
  }

  // Tokens of the prompt that need not be computed: never all of them, since the last one's logits are wanted.
  std::uint32_t cached_tokens(CacheOwner owner, std::span<const TokenId> prompt) const;
  std::uint64_t version() const { return prefixes_.version(); }  // of what cached_tokens says

  // A request starts, in two parts: all that start in a step hold what is there, whole blocks of it, before any of them
  // takes what another may have lost by that. `blocks` becomes its block table. Between the two others may come by.
  void hold_prefix(CacheOwner owner, std::span<const TokenId> prompt, std::vector<BlockId>& blocks);
  // Blocks for `longest` tokens, and how many tokens of the prompt are in them.
  std::uint32_t take(CacheOwner owner, std::span<const TokenId> prompt, std::uint32_t longest,
                     std::vector<BlockId>& blocks);

  // Free blocks behind those in the table, up to most_blocks from `first` on. So goes on who was moved out.
  void take_rest(std::uint32_t first, std::uint32_t longest, std::vector<BlockId>& blocks);

  // Before a step of so many rows from `position` on: where there is a window, what lies behind it is released, into
  // the prefix cache as far as it is in `computed`, and there are blocks for the rows.
  void slide(CacheOwner owner, std::span<const TokenId> computed, std::uint32_t position, std::uint32_t rows,
             std::vector<BlockId>& blocks);

  // Lets `tokens`, whose keys and values are in `blocks`, be found. Blocks that are there already are given in their
  // place.
  void insert(CacheOwner owner, std::span<const TokenId> tokens, std::vector<BlockId>& blocks);
  void release(const std::vector<BlockId>& blocks);

  // The memory of blocks of a text that the cache has, from its beginning on: what block_bytes() of the Backend says of
  // it. The first gives block `index`; false if it has left. The second adds the last block of `tokens` after the
  // others, which are there; false if they are not, or if there is no room. False also where the backend cannot: what a
  // cache cannot do is computed again, and a step finds out what is wrong with the device.
  bool export_block(CacheOwner owner, std::span<const TokenId> tokens, std::uint32_t index, std::span<std::byte> bytes);
  bool import_block(CacheOwner owner, std::span<const TokenId> tokens, std::span<const std::byte> bytes);

  PrefixCache& prefixes() { return prefixes_; }
  KvCounters counters() const;

 private:
  std::uint32_t missing(std::uint32_t first, std::uint32_t longest, const std::vector<BlockId>& blocks) const;
  void take(std::uint32_t count, std::vector<BlockId>& blocks);

  Backend& backend_;
  const std::uint32_t block_tokens_;
  const KvWindow window_;
  BlockPool pool_;
  PrefixCache prefixes_;
  std::uint64_t hit_tokens_ = 0;
};

}  // namespace sirocco

#include "engine/kv/kv_cache.h"

#include <algorithm>
#include <cassert>

namespace sirocco {
namespace {

std::span<const TokenId> but_the_last(std::span<const TokenId> prompt) {
  return prompt.first(prompt.size() - 1);
}

}  // namespace

std::uint32_t KvCache::cached_tokens(CacheOwner owner, std::span<const TokenId> prompt) const {
  return prefixes_.find(owner, but_the_last(prompt)).tokens(block_tokens_);
}

void KvCache::hold_prefix(CacheOwner owner, std::span<const TokenId> prompt, std::vector<BlockId>& blocks) {
  blocks = prefixes_.use(owner, but_the_last(prompt)).blocks;
  for (const BlockId block : blocks) pool_.hold(block);
}

std::uint32_t KvCache::take(CacheOwner owner, std::span<const TokenId> prompt, std::uint32_t longest,
                            std::vector<BlockId>& blocks) {
  PrefixCache::Match match = prefixes_.find(owner, but_the_last(prompt));
  assert(match.blocks == blocks);
  const std::uint32_t missing = blocks_for(longest) - static_cast<std::uint32_t>(blocks.size());
  if (match.partial_tokens > 0) {
    // It may be the last that could be dropped: then it is, and its tokens are computed again.
    pool_.hold(match.partial_block);
    if (!prefixes_.make_room(missing)) {
      pool_.release(match.partial_block);
      match.partial_tokens = 0;
    }
  }
  const bool enough = prefixes_.make_room(missing);
  assert(enough);
  (void)enough;
  const std::size_t held = blocks.size();
  for (std::uint32_t i = 0; i < missing; ++i) blocks.push_back(*pool_.take());
  if (match.partial_tokens > 0) {
    backend_.copy_block(match.partial_block, blocks[held]);
    pool_.release(match.partial_block);
  }
  const std::uint32_t cached = static_cast<std::uint32_t>(held) * block_tokens_ + match.partial_tokens;
  hit_tokens_ += cached;
  return cached;
}

void KvCache::insert(CacheOwner owner, std::span<const TokenId> tokens, std::vector<BlockId>& blocks) {
  if (owner == kNobody) return;
  prefixes_.insert(owner, tokens, std::span(blocks).first(blocks_for(tokens.size())));
}

void KvCache::release(const std::vector<BlockId>& blocks) {
  // The last is the first to be taken again: what is near the beginning of a text is worth more.
  std::for_each(blocks.rbegin(), blocks.rend(), [this](BlockId block) { pool_.release(block); });
}

KvCounters KvCache::counters() const {
  return {.blocks = pool_.total(),
          .available = pool_.available(),
          .cached = pool_.cached(),
          .hit_tokens = hit_tokens_,
          .evicted_blocks = prefixes_.evictions()};
}

}  // namespace sirocco

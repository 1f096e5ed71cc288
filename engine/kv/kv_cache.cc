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
  if (match.blocks != blocks) match.partial_tokens = 0;  // a session was read meanwhile
  if (match.partial_tokens > 0) {
    // It may be the last that could be dropped: then it is, and its tokens are computed again.
    pool_.hold(match.partial_block);
    if (!prefixes_.make_room(blocks_for(longest) - static_cast<std::uint32_t>(blocks.size()))) {
      pool_.release(match.partial_block);
      match.partial_tokens = 0;
    }
  }
  const std::size_t held = blocks.size();
  take_rest(longest, blocks);
  if (match.partial_tokens > 0) {
    // What cannot be copied is computed.
    if (!backend_.copy_block(match.partial_block, blocks[held])) match.partial_tokens = 0;
    pool_.release(match.partial_block);
  }
  const std::uint32_t cached = static_cast<std::uint32_t>(held) * block_tokens_ + match.partial_tokens;
  hit_tokens_ += cached;
  return cached;
}

void KvCache::take_rest(std::uint32_t longest, std::vector<BlockId>& blocks) {
  const std::uint32_t missing = blocks_for(longest) - static_cast<std::uint32_t>(blocks.size());
  const bool enough = prefixes_.make_room(missing);
  assert(enough);
  (void)enough;
  for (std::uint32_t i = 0; i < missing; ++i) blocks.push_back(*pool_.take());
}

void KvCache::insert(CacheOwner owner, std::span<const TokenId> tokens, std::vector<BlockId>& blocks) {
  if (owner == kNobody) return;
  prefixes_.insert(owner, tokens, std::span(blocks).first(blocks_for(tokens.size())));
}

void KvCache::release(const std::vector<BlockId>& blocks) {
  // The last is the first to be taken again: what is near the beginning of a text is worth more.
  std::for_each(blocks.rbegin(), blocks.rend(), [this](BlockId block) { pool_.release(block); });
}

bool KvCache::export_block(CacheOwner owner, std::span<const TokenId> tokens, std::uint32_t index,
                           std::span<std::byte> bytes) {
  tokens = tokens.first(std::min<std::size_t>(tokens.size(), std::size_t{index + 1} * block_tokens_));
  const PrefixCache::Match match = prefixes_.find(owner, tokens);
  if (match.tokens(block_tokens_) != tokens.size()) return false;
  return backend_.export_block(match.partial_tokens > 0 ? match.partial_block : match.blocks.back(), bytes).has_value();
}

bool KvCache::import_block(CacheOwner owner, std::span<const TokenId> tokens, std::span<const std::byte> bytes) {
  if (prefixes_.find(owner, tokens).tokens(block_tokens_) == tokens.size()) return true;
  if (!prefixes_.make_room(1)) return false;
  // What was there before may just have left.
  const std::size_t before = (tokens.size() - 1) / block_tokens_;
  std::vector<BlockId> blocks = prefixes_.use(owner, tokens.first(before * block_tokens_)).blocks;
  if (blocks.size() != before) return false;
  const BlockId block = *pool_.take();
  blocks.push_back(block);
  const bool imported = backend_.import_block(block, bytes).has_value();
  if (imported) prefixes_.insert(owner, tokens, blocks);
  pool_.release(block);
  return imported;
}

KvCounters KvCache::counters() const {
  return {.blocks = pool_.total(),
          .available = pool_.available(),
          .cached = pool_.cached(),
          .hit_tokens = hit_tokens_,
          .evicted_blocks = prefixes_.evictions()};
}

}  // namespace sirocco

#include "engine/kv/kv_cache.h"

#include <algorithm>
#include <cassert>
#include <utility>

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
  const auto read = blocks.begin() + first_block(static_cast<std::uint32_t>(blocks.size()) * block_tokens_);
  std::fill(blocks.begin(), read, kNoBlock);
  std::for_each(read, blocks.end(), [this](BlockId block) { pool_.hold(block); });
}

std::uint32_t KvCache::take(CacheOwner owner, std::span<const TokenId> prompt, std::uint32_t longest,
                            std::vector<BlockId>& blocks) {
  const auto held = static_cast<std::uint32_t>(blocks.size());
  const std::uint32_t first = first_block(held * block_tokens_);
  PrefixCache::Match match = prefixes_.find(owner, but_the_last(prompt));
  // A session may have been read meanwhile, or dropped.
  if (match.blocks.size() != held || (held > 0 && match.blocks.back() != blocks.back())) match.partial_tokens = 0;
  if (match.partial_tokens > 0) {
    // It may be the last that could be dropped: then it is, and its tokens are computed again.
    pool_.hold(match.partial_block);
    if (!prefixes_.make_room(missing(first, longest, blocks))) {
      pool_.release(match.partial_block);
      match.partial_tokens = 0;
    }
  }
  take_rest(first, longest, blocks);
  if (match.partial_tokens > 0) {
    // What cannot be copied is computed.
    if (!backend_.copy_block(match.partial_block, blocks[held])) match.partial_tokens = 0;
    pool_.release(match.partial_block);
  }
  const std::uint32_t cached = held * block_tokens_ + match.partial_tokens;
  hit_tokens_ += cached;
  return cached;
}

std::uint32_t KvCache::missing(std::uint32_t first, std::uint32_t longest, const std::vector<BlockId>& blocks) const {
  return std::min(blocks_for(longest), first + most_blocks(longest)) - static_cast<std::uint32_t>(blocks.size());
}

void KvCache::take_rest(std::uint32_t first, std::uint32_t longest, std::vector<BlockId>& blocks) {
  take(missing(first, longest, blocks), blocks);
}

void KvCache::take(std::uint32_t count, std::vector<BlockId>& blocks) {
  const bool enough = prefixes_.make_room(count);
  assert(enough);
  (void)enough;
  for (std::uint32_t i = 0; i < count; ++i) blocks.push_back(*pool_.take());
}

void KvCache::slide(CacheOwner owner, std::span<const TokenId> computed, std::uint32_t position, std::uint32_t rows,
                    std::vector<BlockId>& blocks) {
  if (window_.tokens == 0) return;
  const std::uint32_t first = first_block(position);
  if (first > 0 && blocks[first - 1] != kNoBlock) {
    insert(owner, computed.first(std::min<std::size_t>(computed.size(), std::size_t{first} * block_tokens_)), blocks);
    for (std::uint32_t i = first; i > 0 && blocks[i - 1] != kNoBlock; --i)
      pool_.release(std::exchange(blocks[i - 1], kNoBlock));
  }
  const auto there = static_cast<std::uint32_t>(blocks.size());
  if (const std::uint32_t wanted = blocks_for(position + rows); wanted > there) take(wanted - there, blocks);
}

void KvCache::insert(CacheOwner owner, std::span<const TokenId> tokens, std::vector<BlockId>& blocks) {
  if (owner == kNobody) return;
  prefixes_.insert(owner, tokens, std::span(blocks).first(blocks_for(tokens.size())));
}

void KvCache::release(const std::vector<BlockId>& blocks) {
  // The last is the first to be taken again: what is near the beginning of a text is worth more.
  for (auto block = blocks.rbegin(); block != blocks.rend() && *block != kNoBlock; ++block) pool_.release(*block);
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

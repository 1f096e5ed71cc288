#include "engine/kv/prefix_cache.h"

#include <gtest/gtest.h>

#include <random>

namespace sirocco {
namespace {

constexpr std::uint32_t kTokens = 4;  // of a block

std::vector<TokenId> text(std::string_view letters) {
  return {letters.begin(), letters.end()};
}

class PrefixCacheTest : public testing::Test {
 protected:
  // As a request that computed all of it and has ended.
  void compute(CacheOwner owner, std::string_view letters) {
    const std::vector<TokenId> tokens = text(letters);
    std::vector<BlockId> blocks;
    const auto count = static_cast<std::uint32_t>((tokens.size() + kTokens - 1) / kTokens);
    ASSERT_TRUE(cache.make_room(count));
    for (std::uint32_t i = 0; i < count; ++i) blocks.push_back(pool.take().value());
    cache.insert(owner, tokens, blocks);
    for (const BlockId block : blocks) pool.release(block);
  }
  std::uint32_t found(CacheOwner owner, std::string_view letters) const {
    return cache.find(owner, text(letters)).tokens(kTokens);
  }

  BlockPool pool{8};
  PrefixCache cache{pool, kTokens};
};

TEST_F(PrefixCacheTest, TheLongestCommonBeginningIsFoundToTheToken) {
  compute(1, "abcdefghij");
  EXPECT_EQ(found(1, "abcdefghij"), 10U);
  EXPECT_EQ(found(1, "abcdefghijkl"), 10U);
  EXPECT_EQ(found(1, "abcdefgX"), 7U);
  EXPECT_EQ(found(1, "abcdXfgh"), 4U);
  EXPECT_EQ(found(1, "ab"), 2U);
  EXPECT_EQ(found(1, "Xbcd"), 0U);
  const PrefixCache::Match match = cache.find(1, text("abcdefgX"));
  EXPECT_EQ(match.blocks.size(), 1U);
  EXPECT_EQ(match.partial_tokens, 3U);
}

TEST_F(PrefixCacheTest, NobodyFindsWhatBelongsToAnotherOwner) {
  compute(1, "abcdefgh");
  EXPECT_EQ(found(2, "abcdefgh"), 0U);
}

// Of a model with a window: who goes on from a text holds its last blocks only.
TEST_F(PrefixCacheTest, WhatLiesBeforeAHeldBlockIsDroppedAfterAllOthers) {
  compute(1, "abcdefghijkl");
  compute(1, "XXXXXXXX");
  const BlockId held = cache.find(1, text("abcdefghijkl")).blocks.back();
  pool.hold(held);
  ASSERT_TRUE(cache.make_room(5));  // the three that are free, and the others'
  EXPECT_EQ(found(1, "XXXX"), 0U);
  EXPECT_EQ(found(1, "abcdefghijkl"), 12U);
  EXPECT_EQ(pool.available(), 7U);
  ASSERT_TRUE(cache.make_room(7));
  EXPECT_EQ(found(1, "abcd"), 0U);
  EXPECT_TRUE(pool.held(held));
  EXPECT_FALSE(cache.make_room(8));
  EXPECT_EQ(cache.evictions(), 4U);
  pool.release(held);
  EXPECT_EQ(pool.free(), 8U);
}

TEST_F(PrefixCacheTest, ATextIsCachedUpToWhereItsBlocksAreGone) {
  compute(1, "abcd");
  const auto whole = text("abcdefghijkl");
  std::vector<BlockId> blocks = {kNoBlock, pool.take().value(), pool.take().value()};
  cache.insert(1, whole, blocks);  // the first is there
  EXPECT_EQ(found(1, "abcdefghijkl"), 12U);
  EXPECT_EQ(blocks[0], kNoBlock);
  std::vector<BlockId> others = {pool.take().value(), kNoBlock, pool.take().value()};
  cache.insert(1, text("ABCDEFGHIJKL"), others);
  EXPECT_EQ(found(1, "ABCDEFGHIJKL"), 4U);
  EXPECT_EQ(pool.cached(), 4U);
}

// The same tokens further on, or after others, are another text.
TEST_F(PrefixCacheTest, ABlockIsOnlyFoundAfterWhatItFollowed) {
  compute(1, "abcdefgh");
  EXPECT_EQ(found(1, "efgh"), 0U);
  EXPECT_EQ(found(1, "XXXXefgh"), 0U);
}

TEST_F(PrefixCacheTest, TheSameTextTakesItsBlocksOnce) {
  compute(1, "abcdefghij");
  compute(1, "abcdefghij");
  EXPECT_EQ(pool.cached(), 3U);
  compute(1, "abcdefghijklm");  // the third is filled, a fourth begins
  EXPECT_EQ(pool.cached(), 4U);
  EXPECT_EQ(found(1, "abcdefghijklm"), 13U);
}

TEST_F(PrefixCacheTest, WhoInsertsWhatIsThereIsGivenTheBlocksThatAreThere) {
  compute(1, "abcdefgh");
  const std::vector<BlockId> first = cache.find(1, text("abcdefgh")).blocks;
  std::vector<BlockId> own = {pool.take().value(), pool.take().value()};
  cache.insert(1, text("abcdefgh"), own);
  EXPECT_EQ(own, first);
  for (const BlockId block : own) pool.release(block);
  EXPECT_EQ(pool.available(), 8U);
}

TEST_F(PrefixCacheTest, WhatNobodyAskedForLongestLeavesFirstAndFromItsEnd) {
  compute(1, "aaaabbbbcccc");
  compute(1, "ddddeeee");
  cache.use(1, text("aaaabbbbcccc"));
  ASSERT_TRUE(cache.make_room(4));
  EXPECT_EQ(found(1, "ddddeeee"), 4U);
  EXPECT_EQ(found(1, "aaaabbbbcccc"), 12U);
  EXPECT_EQ(cache.evictions(), 1U);
  ASSERT_TRUE(cache.make_room(5));
  EXPECT_EQ(found(1, "ddddeeee"), 0U);
}

TEST_F(PrefixCacheTest, WhatIsHeldStaysAndWhatIsKeptLeavesLast) {
  compute(1, "aaaabbbb");
  compute(1, "cccc");
  compute(1, "dddd");
  cache.keep(1, {.uid = 0, .owner = 1, .tokens = text("aaaabbbb")});
  const BlockId held = cache.find(1, text("dddd")).blocks.at(0);
  pool.hold(held);
  cache.use(1, text("cccc"));
  ASSERT_TRUE(cache.make_room(5));
  EXPECT_EQ(found(1, "cccc"), 0U);
  EXPECT_EQ(found(1, "aaaabbbb"), 8U);
  ASSERT_TRUE(cache.make_room(7));
  EXPECT_EQ(found(1, "aaaabbbb"), 0U);
  EXPECT_EQ(found(1, "dddd"), 4U);
  EXPECT_FALSE(cache.make_room(8));
}

TEST_F(PrefixCacheTest, AUserKeepsNoMoreThanTheLimit) {
  cache.set_kept_limit(8);
  compute(1, "aaaabbbbcccc");
  compute(1, "dddd");
  cache.keep(1, {.uid = 7, .owner = 1, .tokens = text("aaaabbbbcccc")});
  cache.use(1, text("aaaabbbbcccc"));
  ASSERT_TRUE(cache.make_room(6));
  EXPECT_EQ(found(1, "dddd"), 0U);
  EXPECT_EQ(found(1, "aaaabbbbcccc"), 8U);
}

// Against a plain list of all texts that are there as a whole.
TEST_F(PrefixCacheTest, AnyOrderOfTextsLosesNoBlockAndFindsNothingThatIsNotThere) {
  for (std::uint32_t seed = 0; seed < 200; ++seed) {
    std::mt19937 random(seed);
    BlockPool blocks(6);
    PrefixCache prefixes(blocks, kTokens);
    std::vector<std::vector<TokenId>> computed;
    for (int round = 0; round < 40; ++round) {
      std::vector<TokenId> tokens(1 + random() % 20);
      for (TokenId& token : tokens) token = static_cast<TokenId>(random() % 2);
      const PrefixCache::Match match = prefixes.use(0, tokens);
      const std::uint32_t there = match.tokens(kTokens);
      std::size_t longest = 0;
      for (const auto& other : computed) {
        const auto end = std::mismatch(tokens.begin(), tokens.end(), other.begin(), other.end()).first;
        longest = std::max(longest, static_cast<std::size_t>(end - tokens.begin()));
      }
      ASSERT_LE(there, longest) << "seed " << seed;
      std::vector<BlockId> table = match.blocks;
      for (const BlockId block : table) blocks.hold(block);
      const auto count = static_cast<std::uint32_t>((tokens.size() + kTokens - 1) / kTokens - table.size());
      ASSERT_TRUE(prefixes.make_room(count));
      for (std::uint32_t i = 0; i < count; ++i) table.push_back(blocks.take().value());
      prefixes.insert(0, tokens, table);
      for (const BlockId block : table) blocks.release(block);
      computed.push_back(tokens);
      ASSERT_EQ(blocks.available(), 6U);
      ASSERT_EQ(prefixes.find(0, tokens).tokens(kTokens), tokens.size()) << "seed " << seed;
    }
    ASSERT_TRUE(prefixes.make_room(6));
    ASSERT_EQ(blocks.free(), 6U);
  }
}

}  // namespace
}  // namespace sirocco

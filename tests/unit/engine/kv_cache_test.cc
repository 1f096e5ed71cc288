#include "engine/kv/kv_cache.h"

#include <gtest/gtest.h>

#include "tests/support/fake_engine.h"

namespace sirocco {
namespace {

constexpr std::uint32_t kTokens = test::FakeBackend::kBlockTokens;
constexpr CacheOwner kOwner = 1;

class KvCacheTest : public testing::Test {
 protected:
  // As a request that starts; how much of its prompt was there.
  std::uint32_t start(std::span<const TokenId> prompt, std::uint32_t longest, std::vector<BlockId>& blocks) {
    cache.hold_prefix(kOwner, prompt, blocks);
    return cache.take(kOwner, prompt, longest, blocks);
  }
  void run(std::span<const TokenId> prompt, std::span<const BlockId> blocks, std::uint32_t from) {
    const StepSequence sequence = {.tokens = prompt.subspan(from), .position = from, .block_table = blocks};
    std::vector<float> logits(test::kVocabulary);
    ASSERT_TRUE(backend.step_all({.sequences = std::span(&sequence, 1)}, logits));
  }
  void compute(const std::vector<TokenId>& prompt) {
    std::vector<BlockId> blocks;
    const std::uint32_t cached = start(prompt, static_cast<std::uint32_t>(prompt.size()), blocks);
    run(prompt, blocks, cached);
    cache.insert(kOwner, prompt, blocks);
    cache.release(blocks);
  }
  std::vector<std::byte> bytes(const std::vector<TokenId>& tokens, std::uint32_t index) {
    std::vector<std::byte> block(backend.block_bytes());
    EXPECT_TRUE(cache.export_block(kOwner, tokens, index, block));
    return block;
  }

  test::FakeBackend backend;
  KvCache cache{backend, 4, kTokens};
};

TEST_F(KvCacheTest, WhoGoesOnFromTheMiddleOfABlockWritesToACopy) {
  const std::vector<TokenId> first = {3, 4, 5, 6, 7, 8, 9};
  const std::vector<TokenId> second = {3, 4, 5, 6, 7, 20, 21, 22};
  compute(first);
  const std::vector<std::byte> before = bytes(first, 1);
  compute(second);
  EXPECT_EQ(bytes(first, 1), before);
  EXPECT_NE(bytes(second, 1), before);
  EXPECT_EQ(bytes(second, 0), bytes(first, 0));
  EXPECT_EQ(cache.counters().cached, 3U);
  EXPECT_EQ(cache.counters().hit_tokens, 5U);
}

TEST_F(KvCacheTest, WhereThereIsNoRoomForACopyTheBlockIsTakenAndComputedAgain) {
  const std::vector<TokenId> text = {3, 4, 5, 6, 7, 8, 9};
  compute(text);
  std::vector<BlockId> others;
  EXPECT_EQ(start(std::vector<TokenId>{30}, 2 * kTokens, others), 0U);  // the two that are free
  std::vector<BlockId> blocks;
  EXPECT_EQ(cache.cached_tokens(kOwner, text), 6U);
  EXPECT_EQ(start(text, 2 * kTokens, blocks), 4U);
  EXPECT_EQ(blocks.size(), 2U);
  EXPECT_EQ(cache.counters().available, 0U);
  cache.release(blocks);
  cache.release(others);
  EXPECT_EQ(cache.counters().available, 4U);
}

TEST_F(KvCacheTest, ExportedBlocksAreWhatAnotherCacheGoesOnFrom) {
  const std::vector<TokenId> text = {3, 4, 5, 6, 7, 8, 9};
  compute(text);
  test::FakeBackend other_backend;
  KvCache other(other_backend, 2, kTokens);
  const auto span = std::span(text);
  EXPECT_FALSE(other.import_block(kOwner, span, bytes(text, 1)));  // the first is not there
  EXPECT_TRUE(other.import_block(kOwner, span.first(4), bytes(text, 0)));
  EXPECT_TRUE(other.import_block(kOwner, span, bytes(text, 1)));
  EXPECT_TRUE(other.import_block(kOwner, span, bytes(text, 1)));
  EXPECT_EQ(other.cached_tokens(kOwner, text), 6U);
  std::vector<std::byte> block(other_backend.block_bytes());
  for (const std::uint32_t index : {0U, 1U}) {
    ASSERT_TRUE(other.export_block(kOwner, text, index, block));
    EXPECT_EQ(block, bytes(text, index));
  }
  EXPECT_FALSE(other.export_block(kOwner, std::vector<TokenId>{1, 2}, 0, block));
}

TEST_F(KvCacheTest, WhatADeviceCannotCopyOrReadIsComputedAgain) {
  const std::vector<TokenId> text = {3, 4, 5, 6, 7, 8, 9};
  compute(text);
  const std::vector<std::byte> first = bytes(text, 0);
  backend.blocks_fail = true;
  std::vector<BlockId> blocks;
  EXPECT_EQ(start(text, 2 * kTokens, blocks), 4U);  // the whole block needs no copy
  cache.release(blocks);
  std::vector<std::byte> block(backend.block_bytes());
  EXPECT_FALSE(cache.export_block(kOwner, text, 1, block));
  EXPECT_FALSE(cache.import_block(kOwner, std::vector<TokenId>{20, 21, 22, 23}, first));
  EXPECT_EQ(cache.counters().available, 4U);
  EXPECT_EQ(cache.counters().cached, 2U);
}

TEST_F(KvCacheTest, NothingIsImportedWhereRequestsHoldAllBlocks) {
  std::vector<BlockId> all;
  start(std::vector<TokenId>{30}, 4 * kTokens, all);
  EXPECT_FALSE(cache.import_block(kOwner, std::vector<TokenId>{1, 2}, std::vector<std::byte>(backend.block_bytes())));
  cache.release(all);
  EXPECT_EQ(cache.counters().available, 4U);
}

}  // namespace
}  // namespace sirocco

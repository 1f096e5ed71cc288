#include "engine/kv/block_pool.h"

#include <gtest/gtest.h>

#include <set>

namespace sirocco {
namespace {

TEST(BlockPool, EveryBlockIsTakenOnceAndComesBack) {
  BlockPool pool(10);
  std::set<BlockId> taken;
  while (const auto block = pool.take()) taken.insert(*block);
  EXPECT_EQ(taken.size(), 10U);
  EXPECT_EQ(*taken.rbegin(), 9U);
  EXPECT_EQ(pool.available(), 0U);
  pool.release(7);
  EXPECT_EQ(pool.free(), 1U);
  EXPECT_EQ(pool.take(), 7U);
}

TEST(BlockPool, ABlockIsFreeWhenItsLastHolderHasLeft) {
  BlockPool pool(1);
  const BlockId block = pool.take().value();
  pool.hold(block);
  pool.release(block);
  EXPECT_EQ(pool.available(), 0U);
  pool.release(block);
  EXPECT_EQ(pool.free(), 1U);
}

TEST(BlockPool, ACachedBlockIsAvailableWhenNobodyHoldsItAndFreeWhenItIsNoLongerCached) {
  BlockPool pool(1);
  const BlockId block = pool.take().value();
  pool.cache(block);
  EXPECT_EQ(pool.available(), 0U);
  pool.release(block);
  EXPECT_EQ(pool.available(), 1U);
  EXPECT_EQ(pool.free(), 0U);
  EXPECT_FALSE(pool.take());
  pool.hold(block);
  EXPECT_EQ(pool.available(), 0U);
  pool.uncache(block);
  EXPECT_EQ(pool.free(), 0U);
  pool.release(block);
  EXPECT_EQ(pool.free(), 1U);
  EXPECT_EQ(pool.cached(), 0U);
}

}  // namespace
}  // namespace sirocco

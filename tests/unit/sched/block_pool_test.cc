#include "engine/kv/block_pool.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>

namespace sirocco {
namespace {

TEST(BlockPool, BlocksAreNeverSharedAndComeBack) {
  BlockPool pool(10, 4);
  const auto a = pool.take(9).value();
  const auto b = pool.take(28).value();
  EXPECT_EQ(a.size(), 3U);
  EXPECT_EQ(b.size(), 7U);
  std::vector<BlockId> all(a);
  all.insert(all.end(), b.begin(), b.end());
  std::sort(all.begin(), all.end());
  std::vector<BlockId> every(10);
  std::iota(every.begin(), every.end(), 0U);
  EXPECT_EQ(all, every);
  EXPECT_FALSE(pool.take(1));
  pool.give_back(b);
  EXPECT_EQ(pool.available(), 7U);
  EXPECT_EQ(pool.take(28).value(), b);
}

}  // namespace
}  // namespace sirocco

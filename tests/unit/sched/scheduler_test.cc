#include "engine/sched/scheduler.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <random>

#include "engine/kv/block_pool.h"

namespace sirocco {
namespace {

std::vector<std::pair<std::size_t, std::uint32_t>> plan(const std::vector<SequenceState>& states, std::uint32_t rows) {
  std::vector<StepShare> step;
  plan_step(states, rows, step);
  std::vector<std::pair<std::size_t, std::uint32_t>> pairs;
  for (const StepShare& share : step) pairs.emplace_back(share.sequence, share.rows);
  return pairs;
}

using Pairs = std::vector<std::pair<std::size_t, std::uint32_t>>;

TEST(Scheduler, DecodeRowsComeFirstThenPromptsInOrderOfArrival) {
  EXPECT_EQ(
      plan({{.pending = 30, .decoding = false}, {.pending = 1, .decoding = true}, {.pending = 9, .decoding = false}},
           16),
      (Pairs{{1, 1}, {0, 15}}));
  EXPECT_EQ(plan({{.pending = 3, .decoding = false}, {.pending = 9, .decoding = false}}, 8), (Pairs{{0, 3}, {1, 5}}));
  EXPECT_EQ(plan({}, 8), Pairs{});
}

TEST(Scheduler, EveryStepIsWithinItsRowsAndNothingStarves) {
  std::mt19937 generator(3);
  const auto random = [&] { return static_cast<std::uint32_t>(generator()); };
  for (int round = 0; round < 500; ++round) {
    const std::uint32_t max_rows = 4 + random() % 61;
    std::vector<SequenceState> states(1 + random() % 4);  // never more sequences than rows
    for (auto& s : states) s = {.pending = 1 + random() % 200, .decoding = false};
    int steps = 0;
    for (; std::any_of(states.begin(), states.end(), [](const auto& s) { return !s.decoding; }); ++steps) {
      ASSERT_LT(steps, 1000);
      const auto before = states;
      std::uint32_t rows = 0;
      for (const auto& [index, count] : plan(states, max_rows)) {
        ASSERT_GT(count, 0U);
        ASSERT_LE(count, states[index].pending);
        rows += count;
        states[index].pending -= count;
        if (states[index].pending == 0) states[index] = {.pending = 1, .decoding = true};
      }
      ASSERT_LE(rows, max_rows);
      for (std::size_t i = 0; i < states.size(); ++i) ASSERT_TRUE(!before[i].decoding || states[i].decoding);
    }
  }
}

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

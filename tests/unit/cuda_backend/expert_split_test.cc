// Which share of a prompt's missing experts passes through the device.
#include "engine/backend/cuda/expert_split.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <utility>
#include <vector>

namespace sirocco::cuda {
namespace {

// Seconds of a step that misses so many experts, where both sides work at once.
struct Machine {
  double on_host = 1;  // seconds of an expert
  double on_device = 1;

  double seconds(double share, std::size_t experts) const {
    const auto all = static_cast<double>(experts);
    return std::max(share * all * on_device, (1 - share) * all * on_host);
  }
};

// The share that most of so many steps have.
double usual_share(ExpertSplit& split, const Machine& machine, int steps) {
  std::array<int, ExpertSplit::kShares.size()> taken = {};
  for (int step = 0; step < steps; ++step) {
    const std::size_t share = split.choose();
    ++taken.at(share);
    split.learn(share, 40, machine.seconds(ExpertSplit::kShares.at(share), 40));
  }
  const auto most = std::max_element(taken.begin(), taken.end());
  EXPECT_GT(*most, steps * 3 / 4);
  return ExpertSplit::kShares.at(static_cast<std::size_t>(most - taken.begin()));
}

TEST(ExpertSplit, AllSharesAreTriedFirst) {
  ExpertSplit split;
  std::vector<std::size_t> tried;
  for (std::size_t i = 0; i < ExpertSplit::kShares.size(); ++i) {
    tried.push_back(split.choose());
    split.learn(tried.back(), 1, 1);
  }
  std::sort(tried.begin(), tried.end());
  EXPECT_EQ(tried, (std::vector<std::size_t>{0, 1, 2, 3, 4}));
}

TEST(ExpertSplit, FindsTheFastestShareNoneAndAllAmongThem) {
  const std::pair<Machine, double> cases[] = {{{.on_host = 1, .on_device = 100}, 0},
                                              {{.on_host = 100, .on_device = 1}, 1},
                                              {{.on_host = 1, .on_device = 1}, 0.5}};
  for (const auto& [machine, share] : cases) {
    ExpertSplit split;
    EXPECT_EQ(usual_share(split, machine, 200), share);
  }
}

TEST(ExpertSplit, FollowsAMachineThatChanges) {
  ExpertSplit split;
  EXPECT_EQ(usual_share(split, {.on_host = 1, .on_device = 1}, 200), 0.5);
  const Machine busy = {.on_host = 100, .on_device = 1};
  for (int step = 0; step < 400; ++step) {
    const std::size_t share = split.choose();
    split.learn(share, 40, busy.seconds(ExpertSplit::kShares.at(share), 40));
  }
  EXPECT_EQ(usual_share(split, busy, 200), 1);
}

TEST(ExpertSplit, StepsThatMissFewCountLikeThoseThatMissMany) {
  ExpertSplit split;
  for (std::size_t share = 0; share < ExpertSplit::kShares.size(); ++share)
    split.learn(share, share == 3 ? 100 : 1, share == 3 ? 50 : 1);
  EXPECT_EQ(split.choose(), 3U);
}

}  // namespace
}  // namespace sirocco::cuda

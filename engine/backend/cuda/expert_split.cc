#include "engine/backend/cuda/expert_split.h"

#include <algorithm>

namespace sirocco::cuda {
namespace {

constexpr std::uint64_t kTryEvery = 16;  // steps: then a neighbour of the best share, since machines change
constexpr double kNewWeight = 0.25;      // of a step in the mean
// The order in which shares are tried at first: what uses both sides is seldom the slowest.
constexpr std::array<std::size_t, ExpertSplit::kShares.size()> kFirst = {2, 1, 3, 0, 4};

}  // namespace

std::size_t ExpertSplit::best() const {
  const auto found =
      std::min_element(arms_.begin(), arms_.end(), [](const Arm& a, const Arm& b) { return a.seconds < b.seconds; });
  return static_cast<std::size_t>(found - arms_.begin());
}

std::size_t ExpertSplit::choose() const {
  const auto untried = std::find_if(kFirst.begin(), kFirst.end(), [&](std::size_t i) { return !arms_.at(i).tried; });
  if (untried != kFirst.end()) return *untried;
  const std::size_t share = best();
  if (steps_ % kTryEvery != 0) return share;
  const bool above = steps_ / kTryEvery % 2 == 0;
  if (share == 0) return 1;
  if (share + 1 == arms_.size()) return share - 1;
  return above ? share + 1 : share - 1;
}

void ExpertSplit::learn(std::size_t share, std::size_t experts, double seconds) {
  Arm& arm = arms_.at(share);
  const double each = seconds / static_cast<double>(experts);
  arm.seconds = arm.tried ? arm.seconds + kNewWeight * (each - arm.seconds) : each;
  arm.tried = true;
  ++steps_;
}

}  // namespace sirocco::cuda

#include "kernels/ref/route.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "tests/unit/kernels/implementation.h"

namespace sirocco {
namespace {

constexpr ref::RouteParameters kMixtral{.softmax_before_choice = false, .normalise = true, .scale = 1};
constexpr ref::RouteParameters kQwen3{.softmax_before_choice = true, .normalise = true, .scale = 1};
constexpr ref::RouteParameters kOlmoe{.softmax_before_choice = true, .normalise = false, .scale = 1};

struct Choice {
  std::vector<std::uint32_t> experts;
  std::vector<float> weights;
};

class Route : public testing::Test {
 protected:
  Choice choose(const ref::RouteParameters& parameters, const std::vector<float>& logits, std::size_t used) {
    Choice choice{std::vector<std::uint32_t>(used), std::vector<float>(used)};
    std::vector<float> scratch(logits.size());
    ref::route(parameters, logits, choice.experts, choice.weights, scratch);
    return choice;
  }

  void expect_weights(const Choice& choice, const std::vector<double>& expected) {
    ASSERT_EQ(choice.weights.size(), expected.size());
    for (std::size_t i = 0; i < expected.size(); ++i) {
      EXPECT_NEAR(choice.weights[i], expected[i], 1e-6 * expected[i]) << i;
    }
  }
};

// The sort by (logit down, index up) of all experts, for models' numbers of them.
TEST_F(Route, LargestLogitsInAscendingOrderOfIndex) {
  for (const auto& [experts, used] : {std::pair{8U, 2U}, {8U, 8U}, {128U, 8U}, {64U, 1U}, {1U, 1U}}) {
    for (unsigned seed = 0; seed < 50; ++seed) {
      std::vector<float> logits = test::random_floats(experts, seed);
      for (float& logit : logits) logit = std::round(logit * 4) / 4;  // many ties
      std::vector<std::uint32_t> expected(experts);
      std::iota(expected.begin(), expected.end(), 0U);
      std::stable_sort(expected.begin(), expected.end(), [&](auto a, auto b) { return logits[a] > logits[b]; });
      expected.resize(used);
      std::sort(expected.begin(), expected.end());
      ASSERT_EQ(choose(kMixtral, logits, used).experts, expected);
      ASSERT_EQ(choose(kQwen3, logits, used).experts, expected);
    }
  }
}

TEST_F(Route, TiesGoToTheLowerIndex) {
  EXPECT_EQ(choose(kQwen3, {1, 3, 3, 3, 1}, 2).experts, (std::vector<std::uint32_t>{1, 2}));
  EXPECT_EQ(choose(kQwen3, {0, 0, 0, 0}, 3).experts, (std::vector<std::uint32_t>{0, 1, 2}));
}

TEST_F(Route, SoftmaxAfterTheChoiceIsOverTheChosenLogits) {
  const Choice choice = choose(kMixtral, {0.5F, -1, 2, 1}, 2);
  EXPECT_EQ(choice.experts, (std::vector<std::uint32_t>{2, 3}));
  expect_weights(choice,
                 {std::exp(2.0) / (std::exp(2.0) + std::exp(1.0)), std::exp(1.0) / (std::exp(2.0) + std::exp(1.0))});
}

TEST_F(Route, SoftmaxBeforeTheChoiceKeepsTheSharesOfAll) {
  const double all = std::exp(0.5) + std::exp(-1.0) + std::exp(2.0) + std::exp(1.0);
  expect_weights(choose(kOlmoe, {0.5F, -1, 2, 1}, 2), {std::exp(2.0) / all, std::exp(1.0) / all});
}

TEST_F(Route, NormalisedSharesAreTheSoftmaxOfTheChosen) {
  const double chosen = std::exp(2.0) + std::exp(1.0);
  expect_weights(choose(kQwen3, {0.5F, -1, 2, 1}, 2), {std::exp(2.0) / chosen, std::exp(1.0) / chosen});
}

TEST_F(Route, ScaleMultipliesTheWeights) {
  ref::RouteParameters scaled = kOlmoe;
  scaled.scale = 2.5F;
  const std::vector<float> logits = test::random_floats(16, 10);
  const Choice plain = choose(kOlmoe, logits, 4);
  const Choice larger = choose(scaled, logits, 4);
  for (std::size_t i = 0; i < 4; ++i) EXPECT_EQ(larger.weights[i], 2.5F * plain.weights[i]);
}

TEST_F(Route, OneExpertWeighsExactlyOne) {
  for (unsigned seed = 0; seed < 200; ++seed) {
    std::vector<float> logits = test::random_floats(8, seed);
    for (float& logit : logits) logit *= 30;
    EXPECT_EQ(choose(kMixtral, logits, 1).weights[0], 1.0F);
    EXPECT_EQ(choose(kQwen3, logits, 1).weights[0], 1.0F);
  }
}

TEST_F(Route, LargeLogitsDoNotOverflow) {
  const Choice choice = choose(kMixtral, {3e38F, 1e4F, 3e38F, -3e38F}, 2);
  EXPECT_EQ(choice.experts, (std::vector<std::uint32_t>{0, 2}));
  EXPECT_EQ(choice.weights, (std::vector<float>{0.5F, 0.5F}));
}

// The model's output must show that its router is broken; the indices must stay such as can be looked up.
TEST_F(Route, NanIsChosenAndShowsInTheWeights) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  for (const ref::RouteParameters& parameters : {kMixtral, kQwen3, kOlmoe}) {
    const Choice one = choose(parameters, {1, 2, 3, nan}, 2);
    EXPECT_EQ(one.experts, (std::vector<std::uint32_t>{2, 3}));
    EXPECT_TRUE(std::isnan(one.weights[0]) && std::isnan(one.weights[1]));
    EXPECT_EQ(choose(parameters, {nan, nan, nan}, 2).experts, (std::vector<std::uint32_t>{0, 1}));
  }
}

}  // namespace
}  // namespace sirocco

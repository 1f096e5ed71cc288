// The sampler against kernels/ref/choose_token.h, which other backends choose by: the same token, always.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>

#include "engine/sample/sampler.h"
#include "kernels/ref/choose_token.h"

namespace sirocco {
namespace {

std::vector<float> random_logits(std::size_t vocabulary, std::mt19937& random) {
  std::normal_distribution<float> normal(0, 3);
  const bool ties = random() % 2 == 0;
  std::vector<float> logits(vocabulary);
  for (float& logit : logits) {
    logit = ties ? std::round(normal(random)) : normal(random);
    if (random() % 16 == 0) logit = -std::numeric_limits<float>::infinity();
  }
  logits[random() % vocabulary] = 0;
  return logits;
}

TEST(SamplerChoice, TheTokenIsThatOfTheReference) {
  constexpr float kTemperatures[] = {0, 1e-38F, 0.7F, 3, 100};
  constexpr float kTopP[] = {0, 0.4F, 0.95F, 0.9999999F, 1, 1};
  constexpr float kMinP[] = {0, 0, 0.01F, 1};
  constexpr std::uint32_t kTopK[] = {0, 0, 1, 9, 1000};
  std::mt19937 random(3);
  for (int i = 0; i < 3000; ++i) {
    const std::size_t vocabulary = 1 + random() % 400;
    const SamplingParameters parameters = {.temperature = kTemperatures[random() % 5],
                                           .top_k = kTopK[random() % 5],
                                           .top_p = kTopP[random() % 6],
                                           .min_p = kMinP[random() % 4],
                                           .seed = random()};
    Sampler sampler(parameters, {}, vocabulary);
    std::vector<std::uint32_t> scratch(vocabulary);
    for (int token = 0; token < 3; ++token) {
      std::vector<float> logits = random_logits(vocabulary, random);
      const std::optional<TokenChoice> choice = sampler.choice();
      ASSERT_TRUE(choice);
      const TokenId expected = ref::choose_token(*choice, logits, scratch);
      if (random() % 2 == 0) {
        sampler.chosen();  // by another
      } else {
        ASSERT_EQ(sampler.sample(logits).value(), expected)
            << "temperature " << parameters.temperature << ", top-k " << parameters.top_k << ", top-p "
            << parameters.top_p << ", min-p " << parameters.min_p << ", " << vocabulary << " tokens";
      }
    }
  }
}

TEST(SamplerChoice, WhatTheReferenceCannotChooseIsAnError) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  std::vector<std::uint32_t> scratch(2);
  for (std::vector<float> logits : {std::vector{0.0F, kInfinity}, {std::nanf(""), 1.0F}, {-kInfinity, -kInfinity}}) {
    EXPECT_EQ(ref::choose_token({.temperature = 1}, logits, scratch), kNoToken);
    EXPECT_FALSE(Sampler({.temperature = 1}, {}, 2).sample(logits));
  }
}

TEST(SamplerChoice, WhatHangsOnTheTextIsNotForOthers) {
  EXPECT_FALSE(Sampler({.repetition_penalty = 1.1F}, {}, 4).choice());
  EXPECT_FALSE(Sampler({.frequency_penalty = 0.1F}, {}, 4).choice());
  EXPECT_FALSE(Sampler({.presence_penalty = 0.1F}, {}, 4).choice());
  EXPECT_FALSE(Sampler({.logit_bias = {{1, 0.5F}}}, {}, 4).choice());
}

}  // namespace
}  // namespace sirocco

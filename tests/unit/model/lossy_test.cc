// What lossy modes make of a row's routing.
#include "engine/model/lossy.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <numeric>
#include <random>

#include "kernels/ref/route.h"

namespace sirocco {
namespace {

struct Row {
  std::vector<float> logits = {0.1F, 5, 0.3F, 4, 0.2F, 3, 2, 1};
  std::vector<std::uint8_t> resident = std::vector<std::uint8_t>(8, 0);
  std::vector<std::uint32_t> chosen = {1, 3, 5, 6};
  std::vector<float> weights = {0.5F, 0.25F, 0.15F, 0.1F};

  LossyCounts apply(const LossyOptions& options) { return do_without(options, logits, resident, chosen, weights); }
  double sum() const { return std::accumulate(weights.begin(), weights.end(), 0.0); }
};

TEST(Lossy, AWeakExpertThatIsNotResidentIsSkippedAndTheOthersTakeOverItsWeight) {
  Row row;
  row.resident[6] = 1;
  const LossyCounts counts = row.apply({.skip_below = 0.2F});
  EXPECT_EQ(counts.skipped, 1U);
  EXPECT_EQ(counts.substituted, 0U);
  EXPECT_EQ(row.chosen, (std::vector<std::uint32_t>{1, 3, 6, 8}));  // 6 is as weak, but there
  const std::vector<double> expected = {0.5 / 0.85, 0.25 / 0.85, 0.1 / 0.85};
  for (std::size_t i = 0; i < expected.size(); ++i) EXPECT_NEAR(row.weights[i], expected[i], 1e-6);
}

TEST(Lossy, TheShareIsOfTheRowsSumWhateverThatIs) {
  Row row;
  for (float& weight : row.weights) weight *= 0.5F;  // as of a model that does not normalise
  EXPECT_EQ(row.apply({.skip_below = 0.2F}).skipped, 2U);
  EXPECT_EQ(row.chosen, (std::vector<std::uint32_t>{1, 3, 8, 8}));
  EXPECT_NEAR(row.weights[0] + row.weights[1], 0.5, 1e-6);
}

TEST(Lossy, TheStrongestStaysWhateverTheThreshold) {
  Row row;
  EXPECT_EQ(row.apply({.skip_below = 1, .substitute = true}).skipped, 3U);
  EXPECT_EQ(row.chosen, (std::vector<std::uint32_t>{1, 8, 8, 8}));
  EXPECT_FLOAT_EQ(row.weights[0], 1);
}

TEST(Lossy, TheBestResidentExpertsTakeTheWeightsOfThoseTheyReplaceTheHeaviestFirst) {
  Row row;
  row.resident = {1, 0, 1, 0, 1, 1, 0, 0};  // of those not chosen: 2, then 4, then 0
  const LossyCounts counts = row.apply({.substitute = true});
  EXPECT_EQ(counts.skipped, 0U);
  EXPECT_EQ(counts.substituted, 2U);
  EXPECT_EQ(row.chosen, (std::vector<std::uint32_t>{1, 2, 4, 5}));
  EXPECT_EQ(row.weights, (std::vector<float>{0.5F, 0.25F, 0.1F, 0.15F}));
}

TEST(Lossy, WithoutASubstituteAnExpertStays) {
  Row row;
  row.resident[7] = 1;
  EXPECT_EQ(row.apply({.substitute = true}).substituted, 1U);
  EXPECT_EQ(row.chosen, (std::vector<std::uint32_t>{1, 5, 6, 7}));
  EXPECT_EQ(row.weights, (std::vector<float>{0.5F, 0.15F, 0.1F, 0.25F}));
}

TEST(Lossy, WhatIsSkippedIsNotReplaced) {
  Row row;
  row.resident = {1, 0, 1, 0, 1, 0, 0, 1};
  const LossyCounts counts = row.apply({.skip_below = 0.2F, .substitute = true});
  EXPECT_EQ(counts.skipped, 2U);
  EXPECT_EQ(counts.substituted, 1U);
  EXPECT_EQ(row.chosen, (std::vector<std::uint32_t>{1, 7, 8, 8}));
}

TEST(Lossy, AnythingMayBeResident) {
  std::mt19937 random(1);
  std::normal_distribution<float> normal(0, 2);
  for (int round = 0; round < 2000; ++round) {
    Row row;
    for (float& logit : row.logits) logit = normal(random);
    if (round % 50 == 0) row.logits[random() % 8] = std::numeric_limits<float>::quiet_NaN();
    for (std::uint8_t& there : row.resident) there = random() % 2;
    std::vector<float> scratch(8);
    ref::route({.softmax_before_choice = true, .normalise = round % 3 != 0, .scale = 1}, row.logits, row.chosen,
               row.weights, scratch);
    const Row before = row;
    const LossyOptions options = {.skip_below = static_cast<float>(random() % 3) / 4, .substitute = random() % 2 == 0};
    const LossyCounts counts = row.apply(options);
    EXPECT_TRUE(std::is_sorted(row.chosen.begin(), row.chosen.end()));
    const auto skipped = static_cast<std::uint64_t>(std::count(row.chosen.begin(), row.chosen.end(), 8U));
    EXPECT_EQ(skipped, counts.skipped);
    EXPECT_LT(skipped, row.chosen.size());
    std::uint64_t fresh = 0;
    double kept = 0;
    for (std::size_t i = 0; i < row.chosen.size() && row.chosen[i] != 8; ++i) {
      kept += row.weights[i];
      EXPECT_EQ(std::count(row.chosen.begin(), row.chosen.end(), row.chosen[i]), 1);
      if (std::count(before.chosen.begin(), before.chosen.end(), row.chosen[i]) != 0) continue;
      ++fresh;
      EXPECT_EQ(row.resident[row.chosen[i]], 1);
    }
    EXPECT_EQ(fresh, counts.substituted);
    if (round % 50 != 0) {
      EXPECT_NEAR(kept, before.sum(), 1e-6);
    }
    if (counts.skipped + counts.substituted == 0) {
      EXPECT_EQ(row.chosen, before.chosen);
    }
  }
}

TEST(Lossy, EachModeThatIsOnHasAReason) {
  EXPECT_TRUE(lossy_reasons({}).empty());
  EXPECT_EQ(lossy_reasons({.skip_below = 0.05F}).at(0),
            "lossy: experts with less than 0.05 of a token's routing weight are skipped when they are not in memory "
            "(lossy.skip_below)");
  EXPECT_EQ(lossy_reasons({.skip_below = 0.05F, .substitute = true}).size(), 2U);
}

}  // namespace
}  // namespace sirocco

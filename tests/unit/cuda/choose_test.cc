// Tokens that kernels choose, against kernels/ref: the same one, whatever the parameters and the logits.
#include "kernels/ref/choose_token.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <set>

#include "kernels/cuda/kernels.h"
#include "tests/unit/cuda/device.h"

namespace sirocco::cuda {
namespace {

#ifdef CUDAEMU
constexpr bool kEmulated = true;
#else
constexpr bool kEmulated = false;
#endif
constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr std::int32_t kUntouched = -7;

std::vector<std::int32_t> choose_on_device(const std::vector<float>& logits, std::uint32_t vocabulary,
                                           const std::vector<RowChoice>& choices) {
  const test::Stream stream;
  const test::DeviceBuffer<float> device_logits(logits);
  const test::DeviceBuffer<RowChoice> device_choices(choices);
  const test::DeviceBuffer<std::int32_t> chosen(std::vector<std::int32_t>(choices.size(), kUntouched));
  EXPECT_EQ(choose({.rows = static_cast<std::uint32_t>(choices.size()),
                    .vocabulary = vocabulary,
                    .logits = device_logits.data(),
                    .choices = device_choices.data(),
                    .chosen = chosen.data()},
                   stream),
            cudaSuccess);
  stream.wait();
  return chosen.download();
}

std::vector<std::int32_t> choose_by_ref(const std::vector<float>& logits, std::uint32_t vocabulary,
                                        const std::vector<RowChoice>& choices) {
  std::vector<std::int32_t> chosen;
  std::vector<std::uint32_t> scratch(vocabulary);
  for (std::size_t row = 0; row < choices.size(); ++row)
    chosen.push_back(
        ref::choose_token(choices[row].choice, std::span(logits).subspan(row * vocabulary, vocabulary), scratch));
  return chosen;
}

std::vector<TokenChoice> kinds() {
  return {{.temperature = 0},
          {.temperature = 1},
          {.temperature = 100},
          {.temperature = 1e-38F},
          {.temperature = 1, .top_k = 1},
          {.temperature = 2, .top_k = 7},
          {.temperature = 2, .top_k = 100'000'000},
          {.temperature = 1, .top_p = 0},
          {.temperature = 1, .top_p = 0.3F},
          {.temperature = 3, .top_p = 0.99999F},
          {.temperature = 1, .min_p = 1},
          {.temperature = 1, .min_p = 0.1F},
          {.temperature = 1, .top_p = 0.95F, .min_p = 0.5F},
          {.temperature = 3, .top_p = 0.9F, .min_p = 0.001F, .top_k = 50}};
}

// One row for each kind of choice: of many equal logits, some of them -infinity, or all different.
std::vector<float> make_logits(std::size_t count, bool ties, std::mt19937& random) {
  std::normal_distribution<float> normal(-1, 4);
  std::vector<float> logits(count);
  for (float& logit : logits) {
    logit = normal(random);
    if (!ties) continue;
    logit = std::round(logit) / 2;  // -0 and 0 among them
    if (random() % 8 == 0) logit = -kInfinity;
  }
  return logits;
}

TEST(Choose, TokensAreThoseOfTheReference) {
  SIROCCO_NEEDS_DEVICE();
  std::mt19937 random(5);
  for (const std::uint32_t vocabulary : {1U, 31U, 200U, 1025U, 3000U, 131'072U}) {
    if (kEmulated && vocabulary > 3000) continue;
    std::vector<RowChoice> choices;
    for (const TokenChoice& kind : kinds()) choices.push_back({.choice = kind, .wanted = 1});
    for (RowChoice& row : choices) row.choice.random = std::uint64_t{random()} << 32 | random();
    choices[1].choice.random = 0;
    choices[2].choice.random = choices[8].choice.random = std::numeric_limits<std::uint64_t>::max();
    const std::vector<float> logits = make_logits(vocabulary * choices.size(), vocabulary % 2 == 0, random);
    EXPECT_EQ(choose_on_device(logits, vocabulary, choices), choose_by_ref(logits, vocabulary, choices)) << vocabulary;
  }
}

TEST(Choose, EveryPartOfTheSumHasTheReferencesToken) {
  SIROCCO_NEEDS_DEVICE();
  constexpr std::uint32_t kVocabulary = 100;
  constexpr std::uint64_t kDraws = 24;
  std::mt19937 random(6);
  const std::vector<float> row = make_logits(kVocabulary, true, random);
  std::vector<float> logits;
  std::vector<RowChoice> choices;
  for (std::uint64_t i = 0; i < kDraws; ++i) {
    logits.insert(logits.end(), row.begin(), row.end());
    choices.push_back(
        {.choice = {.temperature = 3, .top_p = 0.8F, .random = i * (~std::uint64_t{0} / (kDraws - 1))}, .wanted = 1});
  }
  const auto expected = choose_by_ref(logits, kVocabulary, choices);
  EXPECT_EQ(choose_on_device(logits, kVocabulary, choices), expected);
  EXPECT_GT(std::set(expected.begin(), expected.end()).size(), 5U);
}

TEST(Choose, RowsThatDoNotWantItAreLeftAndWhatIsNoNumberGivesNoToken) {
  SIROCCO_NEEDS_DEVICE();
  constexpr std::uint32_t kVocabulary = 70;
  std::vector<float> logits(5 * kVocabulary, 1.0F);
  logits[kVocabulary + 69] = std::numeric_limits<float>::quiet_NaN();
  logits[2 * kVocabulary + 3] = kInfinity;
  std::fill_n(&logits[3 * kVocabulary], kVocabulary, -kInfinity);
  logits[4 * kVocabulary + 40] = 1.5F;
  std::vector<RowChoice> choices(5);
  for (std::size_t i = 1; i < 5; ++i) choices[i].wanted = 1;
  choices[1].choice.temperature = 1;
  EXPECT_EQ(choose_on_device(logits, kVocabulary, choices),
            (std::vector<std::int32_t>{kUntouched, kNoToken, kNoToken, kNoToken, 40}));
}

}  // namespace
}  // namespace sirocco::cuda

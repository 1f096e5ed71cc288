// Tokens that the backend chooses itself: the engine takes them, and an answer is the same whoever chose which of them.
#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "kernels/ref/choose_token.h"
#include "tests/support/fake_engine.h"

namespace sirocco {
namespace {

using test::FakeEngine;
using test::kVocabulary;

// Of step n, of any request.
std::vector<float> logits_of(std::uint32_t n) {
  std::mt19937 random(n);
  std::normal_distribution<float> normal;
  std::vector<float> logits(kVocabulary);
  for (float& logit : logits) logit = normal(random);
  logits[static_cast<std::size_t>(test::kEnd)] = -100;
  return logits;
}

struct Answer {
  std::vector<TokenId> ids;
  std::uint32_t offered = 0;  // tokens that the backend might have chosen
};

// An answer of which the backend chooses the tokens of every `nth` step; 0: none.
Answer answer_of(const SamplingParameters& sampling, std::uint32_t nth) {
  Answer answer;
  FakeEngine fake;
  std::uint32_t n = 0;
  bool chosen = false;
  fake.backend->tell = [&](const Step& step, StepReport& report) {
    ++n;
    const auto& choice = step.sequences.front().choice;
    if (choice) ++answer.offered;
    chosen = nth != 0 && n % nth == 0 && choice.has_value();
    if (!chosen) return;
    std::vector<std::uint32_t> scratch(kVocabulary);
    report.tokens = {ref::choose_token(*choice, logits_of(n), scratch)};
  };
  fake.backend->spoil = [&](std::span<float> logits) {
    const std::vector<float> row = chosen ? std::vector<float>(kVocabulary, 0.0F) : logits_of(n);
    std::copy(row.begin(), row.end(), logits.begin());
  };
  GenerateRequest request;
  request.prompt = TextPrompt{.text = "ab"};
  request.max_tokens = 12;
  request.sampling = sampling;
  answer.ids = fake.events.wait(fake.engine->submit(std::move(request)).value().id).ids;
  fake.engine->close();
  return answer;
}

TEST(ChosenTokens, AreTakenAndTheHostGoesOnFromThem) {
  for (const SamplingParameters& sampling :
       {SamplingParameters{}, SamplingParameters{.temperature = 1.5F, .top_p = 0.9F, .seed = 3}}) {
    const Answer expected = answer_of(sampling, 0);
    ASSERT_EQ(expected.ids.size(), 12U);
    EXPECT_EQ(expected.offered, 12U);
    for (const std::uint32_t nth : {1U, 2U, 3U}) EXPECT_EQ(answer_of(sampling, nth).ids, expected.ids) << nth;
  }
}

TEST(ChosenTokens, AreNotAskedForWhereTheTextCounts) {
  EXPECT_EQ(answer_of({.temperature = 1, .repetition_penalty = 1.2F}, 1).offered, 0U);
}

}  // namespace
}  // namespace sirocco

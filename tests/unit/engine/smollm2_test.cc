// A real model on real text, against transformers in F32 on the same dequantised weights (make_smollm2.py).
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>

#include "engine/evaluate.h"
#include "tests/support/models.h"
#include "tests/support/source_dir.h"

namespace sirocco {
namespace {

// Of the text's positions, as many as a sanitizer's pace allows; the release build looks at all of them.
std::vector<TokenId> tokens_of(const nlohmann::json& expected) {
  auto tokens = expected.at("tokens").get<std::vector<TokenId>>();
#if defined(__SANITIZE_ADDRESS__)
  tokens.resize(12);
#endif
  return tokens;
}

nlohmann::json golden() {
  std::ifstream in(test::golden_dir() / "model" / "smollm2.json");
  return nlohmann::json::parse(in);
}

TEST(SmolLM2, TopTokenAndLogitsAreThoseOfTransformers) {
  SIROCCO_NEEDS_DEMO_MODEL();
  const nlohmann::json expected = golden();
  const std::vector<TokenId> tokens = tokens_of(expected);
  const auto top = expected.at("top").get<std::vector<TokenId>>();
  const auto top_logit = expected.at("top_logit").get<std::vector<float>>();
  const auto log_sum_exp = expected.at("log_sum_exp").get<std::vector<float>>();

  auto model = Model::open(test::demo_model());
  ASSERT_TRUE(model) << model.error().message();
  auto evaluation = Evaluation::create(*model, {.backend = "ref", .context = 512, .kv_type = TensorType::f32}).value();
  std::size_t same = 0;
  float worst = 0;
  const auto done = evaluation.extend(tokens, true, [&](std::uint32_t position, std::span<const float> row) {
    const auto best = static_cast<TokenId>(std::max_element(row.begin(), row.end()) - row.begin());
    same += best == top[position] ? 1 : 0;
    double sum = 0;
    for (const float logit : row) sum += std::exp(double{logit} - double{top_logit[position]});
    worst = std::max(worst, std::abs(row[static_cast<std::size_t>(top[position])] - top_logit[position]));
    worst = std::max(worst, static_cast<float>(
                                std::abs(std::log(sum) + double{top_logit[position]} - double{log_sum_exp[position]})));
  });
  ASSERT_TRUE(done) << done.error().message();
  RecordProperty("same_top", std::to_string(same));
  RecordProperty("worst", std::to_string(worst));
  EXPECT_GE(same, tokens.size() * 99 / 100);
  EXPECT_LT(worst, 1e-3F);
}

#if !defined(__SANITIZE_ADDRESS__)
TEST(SmolLM2, GreedyAnswersAreThoseOfTransformers) {
  SIROCCO_NEEDS_DEMO_MODEL();
  auto model = Model::open(test::demo_model());
  ASSERT_TRUE(model) << model.error().message();
  const nlohmann::json expected = golden();  // outlives the loop over a part of it
  ASSERT_FALSE(expected.at("chats").empty());
  for (const auto& chat : expected.at("chats")) {
    const auto prompt = chat.at("prompt").get<std::vector<TokenId>>();
    const auto continuation = chat.at("continuation").get<std::vector<TokenId>>();
    auto evaluation =
        Evaluation::create(*model, {.backend = "ref", .context = 128, .kv_type = TensorType::f32}).value();
    std::vector<TokenId> answer;
    const auto on_logits = [&](std::uint32_t, std::span<const float> row) {
      answer.push_back(static_cast<TokenId>(std::max_element(row.begin(), row.end()) - row.begin()));
    };
    ASSERT_TRUE(evaluation.extend(prompt, false, on_logits));
    while (answer.size() < continuation.size()) {
      const TokenId last = answer.back();
      ASSERT_TRUE(evaluation.extend(std::span(&last, 1), false, on_logits));
    }
    EXPECT_EQ(answer, continuation);
  }
}
#endif

}  // namespace
}  // namespace sirocco

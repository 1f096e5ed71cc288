// The forward pass against an independent one: logits of tiny random models as transformers computes them
// (tests/golden/model/make_tiny.py), within 1e-3; and the rules that are exact, with ==.
#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "engine/evaluate.h"
#include "engine/experts/mapped_experts.h"
#include "tests/support/golden_models.h"

namespace sirocco {
namespace {

using test::all_logits;
using test::Golden;
using test::goldens;
using test::open_golden;

class Goldens : public testing::TestWithParam<Golden> {};

TEST_P(Goldens, LogitsAreThoseOfTransformers) {
  const Golden& golden = GetParam();
  const auto model = open_golden(golden.model);
  ASSERT_TRUE(model);
  const auto logits = all_logits(model, golden.tokens, {.backend = "ref", .context = 24, .kv_type = TensorType::f32});
  ASSERT_EQ(logits.size(), golden.logits.size());
  float worst = 0;
  for (std::size_t i = 0; i < logits.size(); ++i) worst = std::max(worst, std::abs(logits[i] - golden.logits[i]));
  EXPECT_LT(worst, 1e-3F);
  RecordProperty("worst", std::to_string(worst));
}

// Of every backend and instruction set that this machine can run.
std::vector<EvaluateOptions> implementations() {
  std::vector<EvaluateOptions> all = {{.backend = "ref"}};
  for (const std::string_view isa : isa_names()) all.push_back({.backend = "cpu", .isa = std::string(isa)});
  return all;
}

TEST_P(Goldens, RowsDoNotDependOnChunksOrThreads) {
  const Golden& golden = GetParam();
  const auto model = open_golden(golden.model);
  ASSERT_TRUE(model);
  std::mt19937 random(7);
  for (EvaluateOptions options : implementations()) {
    options.context = 24;
    options.threads = 1;
    const auto whole = all_logits(model, golden.tokens, options);
    for (const std::size_t threads : {1U, 2U, 5U}) {
      for (const std::uint32_t rows : {1U, 3U, 64U}) {
        options.threads = threads;
        options.rows_per_step = rows;
        EXPECT_EQ(all_logits(model, golden.tokens, options, &random), whole) << options.backend << " " << options.isa;
      }
    }
  }
}

TEST_P(Goldens, IntegerKernelsStayNear) {
  const Golden& golden = GetParam();
  const auto model = open_golden(golden.model);
  ASSERT_TRUE(model);
  std::vector<std::vector<float>> of_isa;
  for (const EvaluateOptions& which : implementations()) {
    if (which.backend == "ref") continue;
    EvaluateOptions options = which;
    options.context = 24;
    of_isa.push_back(all_logits(model, golden.tokens, options));
    EXPECT_LT(test::median_difference(of_isa.back(), golden.logits), test::kMedianTolerance) << options.isa;
    EXPECT_EQ(of_isa.back(), of_isa.front()) << options.isa;
  }
}

INSTANTIATE_TEST_SUITE_P(Tiny, Goldens, testing::ValuesIn(goldens()), test::golden_name);

TEST(Goldens, AreAllThere) {
  EXPECT_EQ(goldens().size(), 9U + 17U);
}

TEST(Mixtral, LayoutsOfTheSameExpertsGiveTheSameBits) {
  const auto merged = open_golden("tiny-mixtral.gguf");
  const std::vector<TokenId> tokens = {1, 200, 92, 68, 129, 233, 189, 97};
  const auto expected = all_logits(merged, tokens, {.context = 8});
  for (const char* other : {"tiny-mixtral-per-expert.gguf", "tiny-mixtral-fused.gguf"})
    EXPECT_EQ(all_logits(open_golden(other), tokens, {.context = 8}), expected) << other;
}

TEST(Backend, RowsDoNotDependOnTheOtherSequencesOfTheStep) {
  const auto model = open_golden("tiny-mixtral.gguf");
  const std::size_t vocabulary = model->spec().vocabulary;
  std::vector<std::vector<TokenId>> texts = {{1, 5, 9, 13}, {1, 200, 92, 68, 129, 233}, {1, 7}};
  for (TokenId i = 0; i < 40; ++i) texts[0].push_back(i * 37 % 200);  // into the second block
  for (TokenId i = 0; i < 50; ++i) texts[1].push_back(i * 41 % 200);
  const EvaluateOptions options = {.context = 64};

  // All three in one step, their blocks in no order.
  MappedExperts experts(model);
  const auto backend =
      make_backend(model, experts,
                   {.threads = 2, .limits = {.rows = 128, .logit_rows = 128, .context = 64}, .kv_blocks = 6})
          .value();
  const std::vector<std::vector<BlockId>> tables = {{5, 0}, {3, 1}, {2}};
  std::vector<StepSequence> sequences;
  for (std::size_t i = 0; i < texts.size(); ++i)
    sequences.push_back({.tokens = texts[i], .position = 0, .block_table = tables[i], .logits = WantLogits::all});
  std::vector<float> together((44 + 56 + 2) * vocabulary);
  ASSERT_TRUE(backend->step_all({.sequences = sequences}, together));

  std::vector<float> alone;
  for (const auto& text : texts) {
    const auto rows = all_logits(model, text, options);
    alone.insert(alone.end(), rows.begin(), rows.end());
  }
  EXPECT_EQ(together, alone);
}

TEST(Backend, ThatIsNotThereIsRefusedByName) {
  const auto model = open_golden("tiny-mixtral.gguf");
  const auto refusal = [&](const char* name) {
    const auto chosen = choose_backend(*model, {.backend = name, .limits = {}});
    return chosen ? "" : chosen.error().message();
  };
  EXPECT_NE(refusal("cuda").find("\"cuda\" is not in this program"), std::string::npos);  // nobody registered it
  EXPECT_NE(refusal("tpu").find("there are: auto, cuda, cpu, ref"), std::string::npos);
  EXPECT_EQ(refusal("auto"), "");
}

}  // namespace
}  // namespace sirocco

// The CUDA backend on the golden models: logits near those of transformers, as near as the cpu backend's; and the rules
// that are exact, with ==.
#include <limits>
#include <numeric>

#include "engine/experts/mapped_experts.h"
#include "tests/support/changed_model.h"
#include "tests/support/golden_models.h"
#include "tests/support/temporary_directory.h"
#include "tests/support/window_logits.h"
#include "tests/unit/cuda_backend/cuda_support.h"

namespace sirocco {
namespace {

using test::all_logits;
using test::Golden;
using test::goldens;
using test::open_golden;

constexpr std::uint32_t kContext = 24;

// Heads of any number of dimensions are the cpu backend's.
bool computable(const Golden& golden) {
  return choose_backend(*open_golden(golden.model), {.backend = "cuda", .limits = {}}).has_value();
}

std::vector<Golden> computable_goldens() {
  std::vector<Golden> all;
  for (Golden& golden : goldens())
    if (computable(golden)) all.push_back(std::move(golden));
  return all;
}

// Under sanitizers those in F32 take minutes, and quant-f16 has the same kernels; but for one load BF16's are the same,
// too.
std::vector<Golden> computed_goldens() {
  std::vector<Golden> all = computable_goldens();
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  std::erase_if(all, [](const Golden& golden) {
    return golden.model.starts_with("tiny-") || golden.model.starts_with("quant-bf16");
  });
#endif
  return all;
}

class CudaGoldens : public testing::TestWithParam<Golden> {};

TEST_P(CudaGoldens, LogitsAreAsNearAsThoseOfTheCpu) {
  const Golden& golden = GetParam();
  const auto logits = all_logits(open_golden(golden.model), golden.tokens, {.backend = "cuda", .context = kContext});
  ASSERT_EQ(logits.size(), golden.logits.size());
  EXPECT_LT(test::median_difference(logits, golden.logits), test::kMedianTolerance);
}

TEST_P(CudaGoldens, RowsDoNotDependOnChunks) {
  const Golden& golden = GetParam();
  const auto model = open_golden(golden.model);
  EvaluateOptions options = {.backend = "cuda", .context = kContext};
  std::vector<TokenId> tokens = golden.tokens;
  if (golden.model.starts_with("tiny-")) tokens.resize(std::min<std::size_t>(tokens.size(), 10));  // floats take long
  const auto whole = all_logits(model, tokens, options);
  std::mt19937 random(7);
  for (const std::uint32_t rows : {1U, 5U, 64U}) {
    options.rows_per_step = rows;
    EXPECT_EQ(all_logits(model, tokens, options, &random), whole) << rows;
  }
}

// The likeliest token and how far ahead it is of the next.
std::pair<TokenId, float> likeliest(std::span<const float> logits) {
  const auto best = std::max_element(logits.begin(), logits.end());
  float next = -std::numeric_limits<float>::infinity();
  for (auto logit = logits.begin(); logit != logits.end(); ++logit)
    if (logit != best) next = std::max(next, *logit);
  return {static_cast<TokenId>(best - logits.begin()), *best - next};
}

// Sums in another order tip activations that lie between two int8 values: logits of these models move by up to 0.25.
TEST_P(CudaGoldens, LikeliestTokensAreThoseOfTheCpu) {
  constexpr float kClear = 0.5F;
  const auto model = open_golden(GetParam().model);
  const std::size_t vocabulary = model->spec().vocabulary;
  std::vector<TokenId> tokens(kContext);
  for (std::size_t i = 0; i < tokens.size(); ++i) tokens[i] = static_cast<TokenId>((17 * i + 3) % vocabulary);
  const auto expected = all_logits(model, tokens, {.backend = "cpu", .context = kContext});
  const auto logits = all_logits(model, tokens, {.backend = "cuda", .context = kContext});
  std::size_t clear = 0;
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    const auto [token, ahead] = likeliest(std::span(expected).subspan(i * vocabulary, vocabulary));
    if (ahead < kClear) continue;
    ++clear;
    EXPECT_EQ(likeliest(std::span(logits).subspan(i * vocabulary, vocabulary)).first, token) << i;
  }
  EXPECT_GT(clear, tokens.size() / 4);
}

INSTANTIATE_TEST_SUITE_P(Tiny, CudaGoldens, testing::ValuesIn(computed_goldens()), test::golden_name);

TEST(CudaGoldens, AreThoseWhoseHeadsSuitTheKernels) {
  EXPECT_EQ(computable_goldens().size(), 19U);
}

std::shared_ptr<const Model> with_window(const std::filesystem::path& folder) {
  const auto file = test::change_model("quant-q8_0.gguf", folder / "m.gguf", {.metadata = [](GgufMetadata& metadata) {
                                         metadata.set("llama.attention.sliding_window", std::uint32_t{5});
                                       }});
  return Model::bind(file).value();
}

TEST(Cuda, NoKernelReadsBehindAWindow) {
  const test::TemporaryDirectory folder;
  const auto model = with_window(folder.path());
  std::vector<TokenId> tokens(test::kWindowTexts);
  for (std::size_t i = 0; i < tokens.size(); ++i) tokens[i] = static_cast<TokenId>(11 * i % 200);
  const BackendOptions options = {.backend = "cuda", .limits = {}};
  const std::vector<float> whole = test::window_logits(model, options, tokens, 48, true);
  for (const std::uint32_t rows : {1U, 8U, 48U})  // splits, and one walk over all keys
    EXPECT_EQ(test::window_logits(model, options, tokens, rows, false), whole) << rows;
}

TEST(Cuda, SlidingWindowIsThatOfTheCpu) {
  const test::TemporaryDirectory folder;
  const auto model = with_window(folder.path());
  ASSERT_EQ(model->spec().window, 5U);
  std::vector<TokenId> tokens(kContext);
  for (std::size_t i = 0; i < tokens.size(); ++i) tokens[i] = static_cast<TokenId>(11 * i % 200);
  const auto expected = all_logits(model, tokens, {.backend = "cpu", .context = kContext});
  const auto logits = all_logits(model, tokens, {.backend = "cuda", .context = kContext});
  EXPECT_LT(test::median_difference(logits, expected), test::kMedianTolerance / 3);
  const auto whole = all_logits(open_golden("quant-q8_0.gguf"), tokens, {.backend = "cuda", .context = kContext});
  EXPECT_GT(test::median_difference(whole, expected), test::kMedianTolerance);  // or the window would not be seen
}

// A sequence that is computed piece by piece among others.
struct Text {
  std::vector<TokenId> tokens;
  std::vector<BlockId> blocks;
  std::uint32_t done = 0;
  std::vector<std::vector<float>> logits = {};  // of each token; empty: not asked for
};

// What comes of a step: rows of logits, in order.
std::size_t take_logits(const StepSequence& sequence, std::span<const float> rows, std::size_t vocabulary, Text& text) {
  const std::size_t count = sequence.tokens.size();
  const std::size_t wanted = sequence.logits == WantLogits::all ? count : sequence.logits == WantLogits::last ? 1 : 0;
  text.logits.resize(text.done + count);
  for (std::size_t i = 0; i < wanted; ++i) {
    const auto row = rows.subspan(i * vocabulary, vocabulary);
    text.logits[text.done + count - wanted + i].assign(row.begin(), row.end());
  }
  text.done += static_cast<std::uint32_t>(count);
  return wanted;
}

// Steps of random pieces of random sequences, until all are done.
void run_in_random_batches(Backend& backend, std::vector<Text>& texts, std::size_t vocabulary, std::mt19937& random) {
  const auto one_of = [&](std::size_t n) { return std::uniform_int_distribution<std::size_t>(0, n - 1)(random); };
  for (;;) {
    std::vector<StepSequence> sequences;
    std::vector<Text*> of;
    for (Text& text : texts) {
      const std::size_t left = text.tokens.size() - text.done;
      if (left == 0 || one_of(4) == 0) continue;
      const std::size_t count = one_of(2) == 0 ? 1 : 1 + one_of(left);
      sequences.push_back({.tokens = std::span(text.tokens).subspan(text.done, count),
                           .position = text.done,
                           .block_table = text.blocks,
                           .logits = static_cast<WantLogits>(one_of(3))});
      of.push_back(&text);
    }
    const bool finished =
        std::all_of(texts.begin(), texts.end(), [](const Text& t) { return t.done == t.tokens.size(); });
    if (finished) return;
    if (sequences.empty()) continue;
    const Step step = {.sequences = sequences};
    std::vector<float> logits(step.logit_rows() * vocabulary);
    const auto done = backend.step_all(step, logits);
    ASSERT_TRUE(done) << done.error().message();
    std::size_t row = 0;
    for (std::size_t i = 0; i < of.size(); ++i)
      row += take_logits(sequences[i], std::span(logits).subspan(row * vocabulary), vocabulary, *of[i]);
  }
}

TEST(Cuda, RowsDoNotDependOnTheOtherSequencesOfTheStep) {
  for (const char* name : {"quant-moe-mxfp4-q8_0.gguf", "quant-moe-q4_0-q5_1.gguf"}) {
    const auto model = open_golden(name);
    const std::size_t vocabulary = model->spec().vocabulary;
    std::mt19937 random(11);
    std::vector<BlockId> blocks(8);
    std::iota(blocks.begin(), blocks.end(), 0U);
    std::shuffle(blocks.begin(), blocks.end(), random);
    std::vector<Text> texts;
    for (const std::size_t length : {3U, 40U, 17U, 36U}) {
      Text text;
      for (std::size_t i = 0; i < length; ++i) text.tokens.push_back(static_cast<TokenId>(random() % vocabulary));
      text.blocks = {blocks[2 * texts.size()], blocks[2 * texts.size() + 1]};
      texts.push_back(std::move(text));
    }
    MappedExperts experts(model);
    const auto backend =
        make_backend(model, experts,
                     {.backend = "cuda", .limits = {.rows = 128, .logit_rows = 128, .context = 64}, .kv_blocks = 8})
            .value();
    run_in_random_batches(*backend, texts, vocabulary, random);
    for (const Text& text : texts) {
      const auto alone = all_logits(model, text.tokens, {.backend = "cuda", .context = 64});
      for (std::size_t i = 0; i < text.tokens.size(); ++i) {
        if (text.logits[i].empty()) continue;
        const auto row = alone.begin() + static_cast<std::ptrdiff_t>(i * vocabulary);
        EXPECT_TRUE(std::equal(text.logits[i].begin(), text.logits[i].end(), row)) << name << " " << i;
      }
    }
  }
}

// The first step of a shape is launched kernel by kernel, the second captured, the third replayed.
TEST(Cuda, ReplayedStepsGiveTheSameBits) {
  const auto model = open_golden("quant-moe-q4_0-q5_1.gguf");
  const std::vector<TokenId> tokens = {5};
  auto evaluation = Evaluation::create(model, {.backend = "cuda", .context = 8}).value();
  std::vector<std::vector<float>> logits;
  for (int turn = 0; turn < 4; ++turn) {
    evaluation.rewind(0);
    ASSERT_TRUE(evaluation.extend(tokens, false, [&](std::uint32_t, std::span<const float> row) {
      logits.emplace_back(row.begin(), row.end());
    }));
  }
  for (const auto& again : logits) EXPECT_EQ(again, logits.front());
}

TEST(Cuda, SaysWhatItIs) {
  const auto evaluation = Evaluation::create(open_golden("quant-q8_0.gguf"), {.backend = "cuda", .context = 8}).value();
  EXPECT_EQ(evaluation.backend().name(), "cuda");
  EXPECT_TRUE(evaluation.backend().isa().starts_with("sm_"));
  EXPECT_FALSE(evaluation.backend().device().empty());
}

}  // namespace
}  // namespace sirocco

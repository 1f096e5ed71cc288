// Tokens that are chosen on the device: those that the host's sampler would choose from the same logits, and nothing
// else comes back.
#include <cuda_emulator_control.h>

#include <array>

#include "engine/experts/mapped_experts.h"
#include "engine/sample/sampler.h"
#include "tests/support/golden_models.h"
#include "tests/unit/cuda_backend/cuda_support.h"

namespace sirocco {
namespace {

constexpr std::uint32_t kSequences = 4;

class CudaTokens : public testing::Test {
 protected:
  std::unique_ptr<Backend> make() { return make_backend(model_, experts_, options_).value(); }
  // One row of each sequence, all at `position`.
  Step step(std::uint32_t position, std::vector<std::optional<TokenChoice>> choices) {
    sequences_.clear();
    for (std::uint32_t i = 0; i < kSequences; ++i) {
      tokens_.at(i) = static_cast<TokenId>((31 * position + 7 * i) % 190);
      blocks_.at(i) = i;
      sequences_.push_back({.tokens = {&tokens_.at(i), 1},
                            .position = position,
                            .block_table = {&blocks_.at(i), 1},
                            .choice = choices[i]});
    }
    return {.sequences = sequences_};
  }
  std::span<float> row(std::size_t i) { return std::span(logits_).subspan(i * vocabulary_, vocabulary_); }

  std::shared_ptr<const Model> model_ = test::open_golden("quant-moe-q4_0-q5_1.gguf");
  MappedExperts experts_ = MappedExperts(model_);
  BackendOptions options_ = {
      .backend = "cuda", .limits = {.rows = 16, .logit_rows = 16, .context = 32}, .kv_blocks = kSequences};
  std::size_t vocabulary_ = model_->spec().vocabulary;
  std::array<TokenId, kSequences> tokens_ = {};
  std::array<BlockId, kSequences> blocks_ = {};
  std::vector<StepSequence> sequences_;
  std::vector<float> logits_ = std::vector<float>(kSequences * vocabulary_);
  StepReport report_;
};

const SamplingParameters kKinds[kSequences] = {{},
                                               {.temperature = 1, .seed = 5},
                                               {.temperature = 2, .top_k = 20, .top_p = 0.9F, .seed = 6},
                                               {.temperature = 1, .min_p = 0.02F, .seed = 7}};

TEST_F(CudaTokens, AreThoseThatTheHostChoosesFromTheSameLogits) {
  const auto backend = make();
  std::vector<Sampler> samplers;
  for (const SamplingParameters& kind : kKinds) samplers.emplace_back(kind, std::vector<TokenId>{}, vocabulary_);
  for (std::uint32_t position = 0; position < 8; ++position) {  // direct, captured, replayed
    std::vector<std::optional<TokenChoice>> choices;
    for (const Sampler& sampler : samplers) choices.push_back(sampler.choice());
    ASSERT_TRUE(backend->step(step(position, choices), logits_, report_));
    const std::vector<TokenId> chosen = report_.tokens;
    ASSERT_EQ(chosen.size(), kSequences);
    ASSERT_TRUE(backend->step(step(position, std::vector<std::optional<TokenChoice>>(kSequences)), logits_, report_));
    EXPECT_TRUE(report_.tokens.empty());
    for (std::size_t i = 0; i < kSequences; ++i) EXPECT_EQ(chosen[i], samplers[i].sample(row(i)).value()) << i;
  }
}

TEST_F(CudaTokens, OnlyLogitsThatTheHostWantsComeBack) {
  const auto backend = make();
  const TokenChoice greedy;
  const auto bytes_of = [&](const std::vector<std::optional<TokenChoice>>& choices) {
    const std::uint64_t before = cudaemu::copied().device_to_host;
    std::fill(logits_.begin(), logits_.end(), -7.0F);
    EXPECT_TRUE(backend->step(step(0, choices), logits_, report_));
    return cudaemu::copied().device_to_host - before;
  };
  const std::size_t row_bytes = vocabulary_ * sizeof(float);
  EXPECT_EQ(bytes_of({{}, {}, {}, {}}), kSequences * row_bytes);
  const std::vector<float> all = logits_;
  EXPECT_EQ(bytes_of({greedy, greedy, greedy, greedy}), 0U);
  EXPECT_EQ(logits_, std::vector<float>(logits_.size(), -7.0F));
  EXPECT_EQ(bytes_of({greedy, {}, {}, greedy}), 2 * row_bytes);
  for (const std::size_t i : {1U, 2U}) {
    EXPECT_EQ(report_.tokens[i], kNoToken);
    EXPECT_TRUE(std::equal(row(i).begin(), row(i).end(), &all[i * vocabulary_])) << i;
  }
}

// Keys that are no numbers make such logits: the host has them, and can say which one is wrong.
TEST_F(CudaTokens, WhereNoneCanBeChosenTheHostHasTheLogits) {
  const auto backend = make();
  ASSERT_TRUE(backend->import_block(1, std::vector<std::byte>(backend->block_bytes(), std::byte{0xFF})));
  const TokenChoice greedy;
  ASSERT_TRUE(backend->step(step(0, {greedy, greedy, greedy, greedy}), logits_, report_));
  ASSERT_NE(report_.tokens[1], kNoToken);
  ASSERT_TRUE(backend->step(step(3, {{}, greedy, {}, {}}), logits_, report_));
  EXPECT_EQ(report_.tokens[1], kNoToken);
  const auto sampled = Sampler({}, {}, vocabulary_).sample(row(1));
  ASSERT_FALSE(sampled);
  EXPECT_EQ(sampled.error().code(), ErrorCode::corrupt);
}

}  // namespace
}  // namespace sirocco

// Whatever call of CUDA fails, while a backend opens or in a step: an error that says so, nothing left behind, and no
// answer from a device that has failed.
#include <cuda_emulator_control.h>

#include <cstdio>
#include <cstdlib>

#include "engine/experts/mapped_experts.h"
#include "tests/support/golden_models.h"
#include "tests/support/temporary_directory.h"
#include "tests/unit/cuda_backend/slot_support.h"

namespace sirocco {
namespace {

constexpr std::uint32_t kPrompt = 17;  // rows: more than a graph has

// A prompt, then steps that are launched, captured and replayed. What they say; nothing after a failure.
class Conversation {
 public:
  explicit Conversation(std::shared_ptr<const Model> model) : model_(std::move(model)), experts_(model_) {}
  // With memory for so many experts, and without a replayed step.
  Conversation(std::shared_ptr<const Model> model, std::size_t slots) : Conversation(std::move(model)) {
    options_ = test::with_slots(*model_, options_, slots);
    answer_ = 2;
  }

  Result<void> run() {
    logits_.clear();
    SIROCCO_TRY(const auto backend, make_backend(model_, experts_, options_));
    std::vector<TokenId> tokens(kPrompt + answer_);
    for (std::size_t i = 0; i < tokens.size(); ++i) tokens[i] = static_cast<TokenId>(7 * i + 1);
    SIROCCO_CHECK(step(*backend, std::span(tokens).first(kPrompt), 0));
    for (std::uint32_t position = kPrompt; position < tokens.size(); ++position)
      SIROCCO_CHECK(step(*backend, std::span(tokens).subspan(position, 1), position));
    return {};
  }

  const std::vector<float>& logits() const { return logits_; }

 private:
  Result<void> step(Backend& backend, std::span<const TokenId> tokens, std::uint32_t position) {
    const BlockId blocks[] = {1, 0};
    const StepSequence sequence = {.tokens = tokens, .position = position, .block_table = blocks};
    const Step step = {.sequences = std::span(&sequence, 1)};
    std::vector<float> logits(model_->spec().vocabulary);
    auto done = backend.step_all(step, logits);
    if (done) {
      logits_.insert(logits_.end(), logits.begin(), logits.end());
      return {};
    }
    // Only one call fails: the device works again, and is not trusted.
    const auto later = backend.step_all(step, logits);
    EXPECT_FALSE(later);
    if (!later) {
      EXPECT_NE(later.error().message().find("earlier step"), std::string::npos) << later.error().message();
    }
    return done;
  }

  std::shared_ptr<const Model> model_;
  MappedExperts experts_;
  std::uint32_t answer_ = 3;  // tokens
  BackendOptions options_ = {.backend = "cuda", .limits = {.rows = 32, .logit_rows = 4, .context = 64}, .kv_blocks = 2};
  std::vector<float> logits_;
};

void expect_an_error_of_any_call(Conversation conversation, int every) {
  const std::size_t before = cudaemu::live_objects();
  ASSERT_TRUE(conversation.run());
  const std::vector<float> expected = conversation.logits();
  EXPECT_EQ(cudaemu::live_objects(), before);
  int refused = 0;
  const auto fails = [&] {
    const auto done = conversation.run();
    EXPECT_EQ(cudaemu::live_objects(), before);
    if (done) {
      EXPECT_EQ(conversation.logits(), expected);  // a call whose failure does no harm
    } else {
      ++refused;
      EXPECT_NE(done.error().message().find("cudaError"), std::string::npos) << done.error().message();
    }
  };
  const int failed = cudaemu::for_each_failure(fails, every);
  EXPECT_GT(failed, 100 / every);
  EXPECT_GT(refused, failed - 10);
}

TEST(CudaFailure, OfAnyCallIsAnErrorAndLeavesNothing) {
  expect_an_error_of_any_call(Conversation(test::open_golden("quant-moe-q4_0-q5_1.gguf")), test::kEveryCall);
}

TEST(CudaFailure, OfAnyCallWhileTheHostIsAskedIsAnErrorAndLeavesNothing) {
  const test::TemporaryDirectory folder;
  expect_an_error_of_any_call(Conversation(test::larger_model(folder.path(), 1), 2),
                              3 * test::kEveryCall);  // the same of each expert
}

// A model that is loaded beside the one that answers, and cannot be.
TEST(CudaFailure, OfABackendIsNoneOfAnotherOnTheDevice) {
  const auto model = test::open_golden("quant-moe-q4_0-q5_1.gguf");
  MappedExperts experts(model);
  const BackendOptions options = {
      .backend = "cuda", .limits = {.rows = 8, .logit_rows = 1, .context = 32}, .kv_blocks = 1};
  const auto backend = make_backend(model, experts, options).value();
  const TokenId token = 5;
  const BlockId block = 0;
  const StepSequence sequence = {.tokens = {&token, 1}, .position = 0, .block_table = {&block, 1}};
  std::vector<float> before(model->spec().vocabulary);
  std::vector<float> after(before.size());
  ASSERT_TRUE(backend->step_all({.sequences = {&sequence, 1}}, before));
  cudaemu::fail_call("cudaMemcpyAsync", 1, cudaErrorUnknown);
  EXPECT_FALSE(make_backend(model, experts, options));
  ASSERT_TRUE(backend->step_all({.sequences = {&sequence, 1}}, after));
  EXPECT_EQ(after, before);
}

// In a process of its own: a lost file is lost for good.
[[noreturn]] void open_cut_file(const std::filesystem::path& file) {
  const auto model = Model::open(file).value();
  std::filesystem::resize_file(file, 4096);
  MappedExperts experts(model);
  const std::size_t before = cudaemu::live_objects();
  const auto backend = make_backend(
      model, experts, {.backend = "cuda", .limits = {.rows = 8, .logit_rows = 1, .context = 32}, .kv_blocks = 1});
  const bool refused = !backend && backend.error().code() == ErrorCode::io && cudaemu::live_objects() == before;
  std::fprintf(stderr, "%s\n", backend ? "opened" : backend.error().message().c_str());
  std::_Exit(refused ? 0 : 1);
}

TEST(CudaFailure, AFileThatIsCutWhileItsWeightsAreCopiedIsAnError) {
  const test::TemporaryDirectory folder;
  const auto file = folder.path() / "m.gguf";
  std::filesystem::copy_file(test::golden_dir() / "model" / "quant-q8_0.gguf", file);
  EXPECT_EXIT(open_cut_file(file), testing::ExitedWithCode(0), "m.gguf");
}

}  // namespace
}  // namespace sirocco

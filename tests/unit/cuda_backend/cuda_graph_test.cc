// What a backend keeps between steps: graphs of the shapes that come again, and no more of them than there is room for.
#include <cuda_emulator_control.h>

#include "engine/experts/mapped_experts.h"
#include "tests/support/golden_models.h"
#include "tests/unit/cuda_backend/cuda_support.h"

namespace sirocco {
namespace {

constexpr std::uint32_t kRows = 16;
constexpr std::size_t kShapes = 80;  // more than are kept

class CudaGraphs : public testing::Test {
 protected:
  // Rows that want logits, and rows that do not.
  std::vector<float> step(std::uint32_t loud, std::uint32_t silent) {
    const BlockId blocks[] = {0, 1};
    std::vector<StepSequence> sequences;
    const std::span<const TokenId> tokens = tokens_;
    if (loud != 0)
      sequences.push_back(
          {.tokens = tokens.first(loud), .position = 0, .block_table = {blocks, 1}, .logits = WantLogits::all});
    if (silent != 0)
      sequences.push_back(
          {.tokens = tokens.first(silent), .position = 0, .block_table = {blocks + 1, 1}, .logits = WantLogits::none});
    std::vector<float> logits(loud * model_->spec().vocabulary);
    const auto done = backend_->step_all({.sequences = sequences}, logits);
    EXPECT_TRUE(done) << (done ? "" : done.error().message());
    return logits;
  }

  std::shared_ptr<const Model> model_ = test::open_golden("quant-q8_0.gguf");
  MappedExperts experts_ = MappedExperts(model_);
  std::unique_ptr<Backend> backend_ =
      make_backend(model_, experts_,
                   {.backend = "cuda", .limits = {.rows = 32, .logit_rows = kRows, .context = 32}, .kv_blocks = 2})
          .value();
  std::vector<TokenId> tokens_ = {1, 8, 15, 22, 29, 36, 43, 50, 57, 64, 71, 78, 85, 92, 99, 106, 113, 120, 127, 134};
};

TEST_F(CudaGraphs, StepsThatComeAgainAllocateNothing) {
  for (int turn = 0; turn < 2; ++turn) step(2, 3);
  const std::size_t before = cudaemu::live_objects();
  const auto logits = step(2, 3);
  EXPECT_EQ(step(2, 3), logits);
  for (int turn = 0; turn < 2; ++turn) step(2, 18);  // more rows than a graph has
  EXPECT_EQ(cudaemu::live_objects(), before);
}

TEST_F(CudaGraphs, AreBoundedAndTheOldestIsMadeAgain) {
  const std::size_t before = cudaemu::live_objects();
  const auto first = step(1, 0);
  std::size_t shapes = 0;
  for (std::uint32_t rows = 2; rows <= kRows && shapes < kShapes; ++rows) {
    for (std::uint32_t loud = 1; loud <= rows && shapes < kShapes; ++loud, ++shapes) {
      const auto direct = step(loud, rows - loud);
      EXPECT_EQ(step(loud, rows - loud), direct) << loud << " of " << rows;  // captured
    }
  }
  EXPECT_EQ(shapes, kShapes);
  EXPECT_EQ(cudaemu::live_objects() - before, 64U);
  EXPECT_EQ(step(1, 0), first);
}

}  // namespace
}  // namespace sirocco

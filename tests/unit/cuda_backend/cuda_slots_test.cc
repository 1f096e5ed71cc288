// Experts in device slots, the others on the host: an answer never depends on which is where.
#include <cuda_emulator_control.h>

#include "engine/experts/residency.h"
#include "tests/support/temporary_directory.h"
#include "tests/unit/cuda_backend/slot_support.h"
#include "tests/unit/cuda_backend/texts.h"

namespace sirocco {
namespace {

using test::logits_of;
using test::open_golden;
using test::WatchedExperts;
using test::with_slots;

const BackendOptions kOptions = {
    .backend = "cuda", .limits = {.rows = 64, .logit_rows = 64, .context = 64}, .kv_blocks = 6};

std::size_t experts_of(const Model& model) {
  return std::size_t{model.spec().layers} * model.spec().moe->experts;
}

class CudaSlots : public testing::Test {
 protected:
  void expect_the_same_answers(const std::shared_ptr<const Model>& model);

  test::TemporaryDirectory folder_;
};

void CudaSlots::expect_the_same_answers(const std::shared_ptr<const Model>& model) {
  WatchedExperts none(model);
  const std::vector<float> expected = logits_of(model, none, kOptions);
  EXPECT_EQ(none.asked, 0U);
  const std::size_t all = experts_of(*model);
  for (const std::size_t slots : {all - 1, all / 2, all / 10, std::size_t{2}}) {
    const BackendOptions options = with_slots(*model, kOptions, std::max<std::size_t>(slots, 2));
    WatchedExperts experts(model);
    EXPECT_EQ(logits_of(model, experts, options), expected) << slots << " of " << all;
    EXPECT_TRUE(slots == all - 1 || experts.asked > 0) << slots;
  }
}

TEST_F(CudaSlots, AnswersAreTheSameBitsHoweverManyExpertsAreOnTheDevice) {
  expect_the_same_answers(test::larger_model(folder_.path(), 3));
}

TEST_F(CudaSlots, AnswersAreTheSameBitsWhereExpertsAreFloatsOrGateAndUpDiffer) {
  const auto model = test::larger_model(folder_.path(), 1);
  for (const bool all : {false, true}) expect_the_same_answers(test::with_floats(model, all));
}

TEST_F(CudaSlots, ExpertsMayComeFromDiskBehindTheHostsSlots) {
  const auto model = test::larger_model(folder_.path(), 3);
  test::WatchedExperts none(model);
  const std::vector<float> expected = logits_of(model, none, kOptions);
  auto residency = make_residency(model, {.slots = 3, .queue = nullptr}).value();
  const BackendOptions options = with_slots(*model, kOptions, 3);
  EXPECT_EQ(logits_of(residency.model, *residency.experts, options), expected);
  EXPECT_GT(residency.slotted->counters().bytes_read, 0U);
}

// One sequence of one token, again and again at the same place.
class Repeated {
 public:
  Repeated(const std::shared_ptr<const Model>& model, ExpertSource& experts, const BackendOptions& options)
      : backend_(make_backend(model, experts, options).value()), logits_(model->spec().vocabulary) {}

  Result<void> step(TokenId token, StepReport& report) {
    const StepSequence sequence = {.tokens = {&token, 1}, .position = 0, .block_table = {&block_, 1}};
    return backend_->step({.sequences = {&sequence, 1}}, logits_, report);
  }
  const std::vector<float>& logits() const { return logits_; }

 private:
  std::unique_ptr<Backend> backend_;
  BlockId block_ = 0;
  std::vector<float> logits_;
};

TEST_F(CudaSlots, WhatIsMissedAgainAndAgainComesToTheDevice) {
  const auto model = test::larger_model(folder_.path(), 3);
  const std::size_t used = std::size_t{model->spec().layers} * model->spec().moe->used;
  WatchedExperts experts(model);
  Repeated text(model, experts, with_slots(*model, kOptions, used));
  StepReport report;
  ASSERT_TRUE(text.step(7, report));
  const std::vector<float> first = text.logits();
  for (int turn = 0; turn < 40; ++turn) {
    ASSERT_TRUE(text.step(7, report));
    EXPECT_EQ(text.logits(), first);
  }
  experts.asked = 0;
  for (int turn = 0; turn < 5; ++turn) ASSERT_TRUE(text.step(7, report));
  EXPECT_EQ(experts.asked, 0U);
}

// The shares are tried one after the other.
TEST_F(CudaSlots, PromptsAreTheSameBitsWhateverPassesThroughTheDevice) {
  const auto model = test::larger_model(folder_.path(), 2);
  WatchedExperts experts(model);
  BackendOptions options = kOptions;
  options.limits = {.rows = 20, .logit_rows = 1, .context = 32};
  const auto expected = make_backend(model, experts, options).value();
  const auto backend = make_backend(model, experts, with_slots(*model, options, 2)).value();
  std::vector<TokenId> tokens(options.limits.rows);
  for (std::size_t i = 0; i < tokens.size(); ++i) tokens[i] = static_cast<TokenId>(11 * i + 2);
  const BlockId block = 0;
  const StepSequence sequence = {.tokens = tokens, .position = 0, .block_table = {&block, 1}};
  std::vector<float> logits(model->spec().vocabulary);
  ASSERT_TRUE(expected->step_all({.sequences = {&sequence, 1}}, logits));
  std::vector<std::uint64_t> copied;
  for (int turn = 0; turn < 6; ++turn) {
    std::vector<float> again(logits.size());
    const std::uint64_t before = cudaemu::copied().host_to_device;
    ASSERT_TRUE(backend->step_all({.sequences = {&sequence, 1}}, again));
    copied.push_back(cudaemu::copied().host_to_device - before);
    EXPECT_EQ(again, logits) << turn;
  }
  // Outputs of the host go to the device, too; experts are larger.
  const auto [least, most] = std::minmax_element(copied.begin(), copied.end());
  EXPECT_GT(*most, *least + model->sizes().expert_bytes / 2);
}

TEST_F(CudaSlots, AnExpertThatCannotBeReadFailsTheSequencesThatNeedIt) {
  const auto model = test::larger_model(folder_.path(), 3);
  const std::size_t vocabulary = model->spec().vocabulary;
  const BackendOptions options = with_slots(*model, kOptions, 2);
  const std::vector<TokenId> tokens = {3, 90, 41, 150, 7, 66};
  std::vector<BlockId> blocks(tokens.size());
  std::iota(blocks.begin(), blocks.end(), 0U);
  const auto run = [&](ExpertSource& experts, StepReport& report) {
    std::vector<StepSequence> sequences;
    for (std::size_t i = 0; i < tokens.size(); ++i)
      sequences.push_back({.tokens = {&tokens[i], 1}, .position = 0, .block_table = {&blocks[i], 1}});
    const auto backend = make_backend(model, experts, options).value();
    std::vector<float> logits(tokens.size() * vocabulary);
    EXPECT_TRUE(backend->step({.sequences = sequences}, logits, report));
    return logits;
  };
  WatchedExperts sound(model);
  StepReport report;
  const std::vector<float> expected = run(sound, report);
  ASSERT_TRUE(report.failures.empty());
  WatchedExperts broken(model);
  const std::uint32_t last = model->spec().layers - 1;
  broken.fails = [&](ExpertId expert) { return expert.layer == last && expert.index == 1; };
  const std::vector<float> logits = run(broken, report);
  std::vector<bool> failed(tokens.size());
  for (const SequenceFailure& failure : report.failures) {
    failed[failure.sequence] = true;
    EXPECT_EQ(failure.error.code(), ErrorCode::io);
  }
  EXPECT_GT(report.failures.size(), 0U);
  EXPECT_LT(report.failures.size(), tokens.size());
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    const bool same = std::equal(logits.begin() + static_cast<std::ptrdiff_t>(i * vocabulary),
                                 logits.begin() + static_cast<std::ptrdiff_t>((i + 1) * vocabulary),
                                 expected.begin() + static_cast<std::ptrdiff_t>(i * vocabulary));
    EXPECT_EQ(same, !failed[i]) << i;
  }
}

TEST_F(CudaSlots, AfterAnExpertCouldNotBeReadTheNextStepsGoOn) {
  const auto model = test::larger_model(folder_.path(), 3);
  const BackendOptions options = with_slots(*model, kOptions, 2);
  WatchedExperts sound(model);
  StepReport report;
  Repeated expected(model, sound, options);
  ASSERT_TRUE(expected.step(9, report));
  WatchedExperts experts(model);
  experts.fails = [](ExpertId) { return true; };  // from the first step on, so that none of them comes to the device
  Repeated text(model, experts, options);
  ASSERT_TRUE(text.step(9, report));
  EXPECT_EQ(report.failures.size(), 1U);
  experts.fails = [](ExpertId) { return false; };
  ASSERT_TRUE(text.step(9, report));
  EXPECT_TRUE(report.failures.empty());
  EXPECT_EQ(text.logits(), expected.logits());
}

}  // namespace
}  // namespace sirocco

// A device that has the host's memory: nothing is copied, experts are computed with in the slots that they are read
// into, and answers are those of any other device, to the bit.
#include <cuda_emulator_control.h>

#include "engine/backend/cuda/device_experts.h"
#include "engine/backend/cuda/reach.h"
#include "engine/experts/residency.h"
#include "tests/support/temporary_directory.h"
#include "tests/unit/cuda_backend/slot_support.h"
#include "tests/unit/cuda_backend/texts.h"

namespace sirocco {
namespace {

using cuda::Reach;
using test::WatchedExperts;

const BackendOptions kOptions = {
    .backend = "cuda", .limits = {.rows = 64, .logit_rows = 64, .context = 64}, .kv_blocks = 6};

// What integrated devices can do, and how they read a file then.
struct Ability {
  cudaemu::Machine machine;
  Reach reach;
};
const Ability kAbilities[] = {{{.integrated = true, .pageable_memory_access = true}, Reach::pageable},
                              {{.integrated = true}, Reach::registered},
                              {{.integrated = true, .register_read_only = false}, Reach::copied},
                              {{.integrated = true, .host_register = false}, Reach::landed}};

std::uint64_t bytes_copied() {
  const cudaemu::Copied copied = cudaemu::copied();
  return copied.host_to_device + copied.device_to_host + copied.within_device + copied.between_devices;
}

class CudaIntegrated : public testing::Test {
 protected:
  // What a device with memory of its own says.
  static void SetUpTestSuite() {
    folder_ = new test::TemporaryDirectory;
    model_ = test::larger_model(folder_->path(), 2);
    WatchedExperts none(model_);
    expected_ = test::logits_of(model_, none, kOptions, kTurns);
  }
  static void TearDownTestSuite() {
    model_ = nullptr;
    delete folder_;
    cudaemu::play({});
  }
  void TearDown() override { cudaemu::play({}); }

  // Whether a run of some turns, one at least, says what is expected of it.
  static bool as_expected(const std::vector<float>& logits) {
    return logits.size() > test::kTextsPrompt * model_->spec().vocabulary && logits.size() <= expected_.size() &&
           std::equal(logits.begin(), logits.end(), expected_.begin());
  }
  static Residency residency(std::size_t slots) {
    return make_residency(
               model_,
               {.slots = slots, .slot_bytes = cuda::SlotLayout(*model_).slot_bytes(), .dense = false, .queue = nullptr})
        .value();
  }
  static std::size_t experts() { return std::size_t{model_->spec().layers} * model_->spec().moe->experts; }

  static constexpr std::uint32_t kTurns = 4;
  static inline test::TemporaryDirectory* folder_ = nullptr;
  static inline std::shared_ptr<const Model> model_;
  static inline std::vector<float> expected_;
};

TEST_F(CudaIntegrated, NothingIsCopiedHoweverTheFileIsRead) {
  for (const Ability& ability : kAbilities) {
    cudaemu::play(ability.machine);
    EXPECT_EQ(cuda::find_reach(model_->file()).value(), ability.reach);
    EXPECT_EQ(cudaemu::live_objects(), 0U);
    WatchedExperts none(model_);
    EXPECT_TRUE(as_expected(test::logits_of(model_, none, kOptions, 1))) << reach_name(ability.reach);
    EXPECT_EQ(none.asked, 0U);
    EXPECT_EQ(bytes_copied(), 0U) << reach_name(ability.reach);
    EXPECT_EQ(cudaemu::live_objects(), 0U);
  }
}

TEST_F(CudaIntegrated, ExpertsAreComputedWithInTheSlotsThatTheyAreReadInto) {
  cudaemu::play({.integrated = true});
  for (const std::size_t slots : {std::size_t{2}, experts() / 3, experts()}) {
    Residency disk = residency(slots);
    EXPECT_TRUE(as_expected(test::logits_of(disk.model, *disk.experts, kOptions, kTurns))) << slots;
    EXPECT_EQ(bytes_copied(), 0U) << slots;
    const ExpertCounters counters = disk.slotted->counters();
    EXPECT_GT(counters.misses, 0U);
    if (slots < experts()) {
      EXPECT_GT(counters.evictions, 0U);
    } else {
      EXPECT_LE(counters.misses, experts());  // what is in its slot is not read again
      EXPECT_GT(counters.hits, experts());
    }
  }
  EXPECT_EQ(cudaemu::live_objects(), 0U);
}

TEST_F(CudaIntegrated, SlotsThatTheDeviceDoesNotReachAreAsGood) {
  cudaemu::play({.integrated = true, .host_register = false});
  Residency disk = residency(3);
  EXPECT_TRUE(as_expected(test::logits_of(disk.model, *disk.experts, kOptions, 1)));
  EXPECT_EQ(bytes_copied(), 0U);
}

TEST_F(CudaIntegrated, ExpertsInTheMappingAreComputedWithBesideIt) {
  cudaemu::play({.integrated = true});
  BackendOptions options = kOptions;
  options.device_memory = test::least_memory(*model_, options);
  for (const bool pageable : {false, true}) {
    cudaemu::play({.integrated = true, .pageable_memory_access = pageable});
    WatchedExperts mapped(model_);
    EXPECT_TRUE(as_expected(test::logits_of(model_, mapped, options, 1)));
    EXPECT_GT(mapped.asked, 0U);
    EXPECT_EQ(bytes_copied(), 0U);
  }
}

TEST_F(CudaIntegrated, ExpertsMayBeFloatsOrGateAndUpDiffer) {
  for (const bool all : {false, true}) {
    cudaemu::play({});
    const auto model = test::with_floats(model_, all);
    BackendOptions options = kOptions;
    WatchedExperts none(model);
    const std::vector<float> expected = test::logits_of(model, none, options, 1);
    cudaemu::play({.integrated = true});
    options.device_memory = test::least_memory(*model, options);
    WatchedExperts mapped(model);
    EXPECT_EQ(test::logits_of(model, mapped, options, 1), expected);
    EXPECT_GT(mapped.asked, 0U);
    EXPECT_EQ(bytes_copied(), 0U);
  }
}

TEST_F(CudaIntegrated, SlotsMayComeAndGoBetweenSteps) {
  cudaemu::play({.integrated = true});
  Residency disk = residency(experts());
  const auto backend = make_backend(disk.model, *disk.experts, kOptions).value();
  const std::size_t before = cudaemu::live_objects();
  for (const std::size_t slots : {std::size_t{2}, experts(), std::size_t{7}}) {
    disk.slotted->set_slots(slots);
    test::Texts texts(*backend, model_->spec());
    ASSERT_TRUE(texts.run(1));
    EXPECT_TRUE(as_expected(texts.logits())) << slots;
    EXPECT_EQ(cudaemu::live_objects(), before - experts() + slots);  // each of them is registered
  }
}

// The host's kernels want the file's layout.
TEST_F(CudaIntegrated, WhoComputesAfterTheDeviceFindsNoExpertInItsLayout) {
  cudaemu::play({.integrated = true});
  BackendOptions host = kOptions;
  host.backend = "cpu";
  WatchedExperts mapped(model_);
  const std::vector<float> on_host = test::logits_of(model_, mapped, host, 1);
  Residency disk = residency(experts());
  EXPECT_TRUE(as_expected(test::logits_of(disk.model, *disk.experts, kOptions, 1)));
  EXPECT_EQ(test::logits_of(disk.model, *disk.experts, host, 1), on_host);
  EXPECT_TRUE(as_expected(test::logits_of(disk.model, *disk.experts, kOptions, 1)));
}

TEST_F(CudaIntegrated, AnExpertThatCannotBeReadFailsTheSequencesThatNeedIt) {
  cudaemu::play({.integrated = true});
  BackendOptions options = kOptions;
  options.device_memory = test::least_memory(*model_, options);
  const std::uint32_t last = model_->spec().layers - 1;
  WatchedExperts experts(model_);
  const auto backend = make_backend(model_, experts, options).value();
  const std::vector<TokenId> tokens = {3, 90, 41, 150, 7, 66};
  std::vector<BlockId> blocks(tokens.size());
  std::iota(blocks.begin(), blocks.end(), 0U);
  std::vector<StepSequence> sequences;
  for (std::size_t i = 0; i < tokens.size(); ++i)
    sequences.push_back({.tokens = {&tokens[i], 1}, .position = 0, .block_table = {&blocks[i], 1}});
  const std::size_t vocabulary = model_->spec().vocabulary;
  std::vector<float> sound(tokens.size() * vocabulary);
  std::vector<float> logits(sound.size());
  StepReport report;
  std::vector<std::uint32_t> asked;  // of the last layer
  experts.fails = [&](ExpertId expert) {
    if (expert.layer == last) asked.push_back(expert.index);
    return false;
  };
  ASSERT_TRUE(backend->step({.sequences = sequences}, sound, report));
  ASSERT_TRUE(report.failures.empty());
  ASSERT_FALSE(asked.empty());
  const std::uint32_t broken = asked.front();
  experts.fails = [&](ExpertId expert) { return expert.layer == last && expert.index == broken; };
  ASSERT_TRUE(backend->step({.sequences = sequences}, logits, report));
  std::vector<bool> failed(tokens.size());
  for (const SequenceFailure& failure : report.failures) failed[failure.sequence] = true;
  EXPECT_GT(report.failures.size(), 0U);
  EXPECT_LT(report.failures.size(), tokens.size());
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    const auto begin = static_cast<std::ptrdiff_t>(i * vocabulary);
    const bool same =
        std::equal(logits.begin() + begin, logits.begin() + begin + static_cast<std::ptrdiff_t>(vocabulary),
                   sound.begin() + begin);
    EXPECT_EQ(same, !failed[i]) << i;
  }
  experts.fails = [](ExpertId) { return false; };
  ASSERT_TRUE(backend->step({.sequences = sequences}, logits, report));
  EXPECT_TRUE(report.failures.empty());
  EXPECT_EQ(logits, sound);
}

// The source must be as usable as before: the next backend has the same one.
TEST_F(CudaIntegrated, AFailureOfAnyCallIsAnErrorAndTheNextBackendComputes) {
  const test::TemporaryDirectory folder;
  const auto model = test::larger_model(folder.path(), 1);
  cudaemu::play({.integrated = true});
  Residency disk =
      make_residency(
          model, {.slots = 2, .slot_bytes = cuda::SlotLayout(*model).slot_bytes(), .dense = false, .queue = nullptr})
          .value();
  BackendOptions options = kOptions;
  options.limits = {.rows = 4, .logit_rows = 1, .context = 32};
  options.kv_blocks = 1;
  std::vector<float> logits(model->spec().vocabulary);
  const auto run = [&]() -> Result<void> {
    SIROCCO_TRY(const auto backend, make_backend(disk.model, *disk.experts, options));
    const TokenId tokens[] = {5, 80, 9};
    const BlockId block = 0;
    const StepSequence sequence = {.tokens = tokens, .position = 0, .block_table = {&block, 1}};
    return backend->step_all({.sequences = {&sequence, 1}}, logits);
  };
  ASSERT_TRUE(run());
  const std::vector<float> expected = logits;
  int refused = 0;
  const auto fails = [&] {
    const auto done = run();
    EXPECT_EQ(cudaemu::live_objects(), 0U);
    refused += done ? 0 : 1;
    if (done) {
      EXPECT_EQ(logits, expected);  // registering a slot, or a page of the file, is among the calls
    } else {
      EXPECT_NE(done.error().message().find("cudaError"), std::string::npos) << done.error().message();
    }
  };
  const int failed = cudaemu::for_each_failure(fails, test::kEveryCall);
  EXPECT_GT(failed, 60 / test::kEveryCall);
  EXPECT_GT(refused, failed - 20);
  ASSERT_TRUE(run());
  EXPECT_EQ(logits, expected);
}

}  // namespace
}  // namespace sirocco

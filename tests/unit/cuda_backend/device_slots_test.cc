// Slots on a device are fewer while others need its memory, at the start and later, and while nobody asks; what was in
// them comes back. No answer depends on it.
#include <cuda_emulator_control.h>

#include <future>
#include <thread>

#include "engine/engine.h"
#include "engine/experts/hot_set.h"
#include "tests/support/fake_engine.h"
#include "tests/support/temporary_directory.h"
#include "tests/unit/cuda_backend/slot_support.h"

namespace sirocco {
namespace {

using testing::Contains;
using testing::HasSubstr;

constexpr std::size_t kMemory = std::size_t{1} << 30;  // of the device
constexpr std::size_t kSlots = 16;

class DeviceSlots : public testing::Test {
 protected:
  DeviceSlots() {
    cudaemu::play({.memory = kMemory});
    const auto model = test::larger_model(folder_.path(), 2);
    options_.model = folder_.path() / "larger.gguf";
    options_.backend = "cuda";
    options_.threads = 1;
    options_.max_rows_per_step = 32;
    options_.max_running = 4;
    options_.kv_tokens = 64;
    const BackendOptions planned = plan_engine(model, options_).value().backend;
    options_.device_memory = test::with_slots(*model, planned, kSlots).device_memory;
  }
  ~DeviceSlots() override {
    engine_.reset();
    cudaemu::play({});
  }

  Engine& open() {
    engine_ = Engine::open(prepare_model(options_).value(), events_.sink(), {}).value();
    engine_->number_requests_from(next_);
    return *engine_;
  }
  std::vector<TokenId> ask() {
    const GenerateRequest request = {.prompt = std::vector<TokenId>{5, 18, 31, 44, 57, 70, 83},
                                     .sampling = {.temperature = 0},
                                     .max_tokens = 12,
                                     .stops = {}};
    next_ = engine_->submit(request).value().id + 1;
    const auto answer = events_.wait(next_ - 1);
    EXPECT_FALSE(answer.error) << answer.error->message();
    return answer.ids;
  }
  ExpertSlots& slots() { return *engine_->parts().backend->device_slots(); }

  // Waits for the memory thread and the engine's.
  void expect_slots(std::size_t count) {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    while (slots().slots() != count) {
      ASSERT_LT(std::chrono::steady_clock::now(), deadline) << slots().slots();
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
  }

  test::TemporaryDirectory folder_;
  EngineOptions options_;
  test::Events events_;
  RequestId next_ = 1;
  std::unique_ptr<Engine> engine_;
};

TEST_F(DeviceSlots, AreGivenBackWhileOthersNeedTheMemoryAndTakenAgain) {
  open();
  EXPECT_EQ(slots().slots(), kSlots);
  const std::vector<TokenId> answer = ask();
  const std::size_t objects = cudaemu::live_objects();
  EXPECT_TRUE(engine_->status().degraded.empty());

  cudaemu::use_by_others(kMemory);
  expect_slots(slots().least_slots());
  EXPECT_EQ(slots().least_slots(), kSlots / 8);
  EXPECT_LT(cudaemu::live_objects(), objects);
  EXPECT_THAT(engine_->status().degraded, Contains(HasSubstr("the GPU's memory is short: experts have 2 of the 16")));
  EXPECT_EQ(ask(), answer);

  cudaemu::use_by_others(0);
  expect_slots(kSlots);
  EXPECT_EQ(ask(), answer);
  EXPECT_TRUE(engine_->status().degraded.empty());
}

TEST_F(DeviceSlots, AreGivenBackWhenNobodyAsksAndWhatWasInThemComesBack) {
  open();
  const std::vector<TokenId> answer = ask();
  std::promise<ReleasedMemory> released;
  ASSERT_TRUE(engine_->release_memory([&](const ReleasedMemory& what) { released.set_value(what); }));
  const ReleasedMemory what = released.get_future().get();
  const std::size_t fewer = kSlots - slots().least_slots();
  EXPECT_GE(what.experts, fewer - 2);  // two may be on their way
  EXPECT_GE(what.bytes, fewer * slots().slot_bytes());
  EXPECT_EQ(slots().slots(), slots().least_slots());
  EXPECT_TRUE(engine_->status().degraded.empty());
  EXPECT_EQ(ask(), answer);
  expect_slots(kSlots);
  EXPECT_EQ(ask(), answer);
}

TEST_F(DeviceSlots, FollowABudget) {
  open();
  const std::vector<TokenId> answer = ask();
  const auto set = [&](std::uint64_t bytes) {
    std::promise<BudgetReport> told;
    EXPECT_TRUE(engine_->set_device_budget(bytes, [&](const BudgetReport& report) { told.set_value(report); }));
    return told.get_future().get();
  };
  const std::uint64_t arena = engine_->parts().backend->device_state()->arena;
  BudgetReport report = set(arena - 5 * slots().slot_bytes());
  EXPECT_EQ(report.slots, kSlots - 6);  // whole pieces
  EXPECT_EQ(report.budget, arena - 6 * slots().slot_bytes());
  EXPECT_EQ(engine_->parts().backend->device_state()->arena, report.budget);
  EXPECT_EQ(ask(), answer);
  EXPECT_TRUE(engine_->status().degraded.empty());  // it is meant
  const auto refused = engine_->set_device_budget(1, {});
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code(), ErrorCode::out_of_memory);
  report = set(0);
  EXPECT_EQ(report.slots, kSlots);
  EXPECT_EQ(report.budget, arena);
  EXPECT_EQ(ask(), answer);
}

TEST_F(DeviceSlots, HoldFromTheStartWhatWasInThemAtTheEnd) {
  options_.hot_set = folder_.path() / "hot-set";
  open();
  const std::vector<TokenId> answer = ask();
  engine_->close();
  std::vector<ExpertId> hot = slots().hot_set();
  ASSERT_GE(hot.size(), kSlots - 2);  // two may be on their way
  std::reverse(hot.begin(), hot.end());
  hot.resize(3);
  hot.push_back({.layer = 1, .index = 15});
  ASSERT_TRUE(save_hot_set(options_.hot_set.string() + ".device", *engine_->parts().model, hot));
  engine_.reset();
  open();
  const std::vector<ExpertId> now = slots().hot_set();
  for (const ExpertId expert : hot) EXPECT_THAT(now, Contains(expert));
  EXPECT_TRUE(engine_->parts().warnings.empty());
  EXPECT_EQ(ask(), answer);
  engine_->close();
  ASSERT_TRUE(engine_->save_hot_set(options_.hot_set));
  EXPECT_EQ(load_hot_set(options_.hot_set.string() + ".device", *engine_->parts().model).value(), slots().hot_set());
}

TEST_F(DeviceSlots, AreFewerWhereTheDeviceGivesLessThanItSaid) {
  open();
  const std::vector<TokenId> answer = ask();
  engine_.reset();
  for (const int nth : {1, 4}) {
    cudaemu::fail_call("cudaMalloc", nth, cudaErrorMemoryAllocation);
    open();
    EXPECT_LT(slots().slots(), kSlots);
    EXPECT_THAT(engine_->parts().warnings, Contains(HasSubstr("the GPU did not give")));
    EXPECT_THAT(engine_->parts().plan.lines,
                Contains(testing::Field(&MemoryPlan::Line::note,
                                        testing::StartsWith(fmt::format("{} of 32 (", slots().slots())))));
    EXPECT_EQ(ask(), answer);
    engine_.reset();
  }
}

TEST_F(DeviceSlots, CountHitsAndMisses) {
  open();
  ask();
  const ExpertCounters counters = slots().counters();
  EXPECT_GT(counters.hits, 0U);
  EXPECT_GT(counters.misses, 0U);
  const DeviceState state = engine_->parts().backend->device_state().value();
  EXPECT_EQ(state.name, "emulated GPU");
  EXPECT_EQ(state.memory, kMemory);
  EXPECT_GE(state.used, state.arena);
  EXPECT_GT(state.arena, kSlots * slots().slot_bytes());
}

TEST_F(DeviceSlots, AllStreamsHaveTheLeastPriority) {
  open();
  ask();
  EXPECT_EQ(cudaemu::most_urgent_stream(), 1);
}

}  // namespace
}  // namespace sirocco

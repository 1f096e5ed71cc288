#include "engine/sched/step_plan.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <limits>
#include <random>
#include <utility>

#include "tests/unit/sched/simulator.h"

namespace sirocco {
namespace {

// SIROCCO_SIM_SEED=N runs that workload alone; SIROCCO_SIM_RUNS=N that many.
TEST(StepPlan, PromisesHoldInTenThousandRandomWorkloads) {
  const char* one = std::getenv("SIROCCO_SIM_SEED");
  const char* many = std::getenv("SIROCCO_SIM_RUNS");
  const std::uint64_t first = one != nullptr ? std::strtoull(one, nullptr, 10) : 1;
  const std::uint64_t runs = one != nullptr ? 1 : many != nullptr ? std::strtoull(many, nullptr, 10) : 10'000;
  std::map<std::string, std::uint64_t> seen;
  std::uint64_t steps = 0;
  std::uint64_t rows = 0;
  for (std::uint64_t seed = first; seed < first + runs; ++seed) {
    const SimulatedRun run = Simulator(seed).run();
    ASSERT_EQ(run.broken, "") << "again: SIROCCO_SIM_SEED=" << seed;
    steps += run.steps;
    rows += run.rows;
    for (const auto& [what, count] : run.seen) seen[what] += count;
  }
  std::printf("%llu workloads, %llu steps, %llu rows\n", static_cast<unsigned long long>(runs),
              static_cast<unsigned long long>(steps), static_cast<unsigned long long>(rows));
  for (const auto& [what, count] : seen)
    std::printf("  %s: %llu\n", what.c_str(), static_cast<unsigned long long>(count));
}

TEST(StepPlan, DecodeRowsComeFirstAndPromptsShareWhatTheBoundLeaves) {
  SchedState state;
  state.limits = {.max_running = 4, .max_rows_per_step = 100, .step_time_bound = 0.05, .kv_blocks = 40};
  state.cost = {.step = 0.01, .decode_row = 0.001, .prompt_row = 0.001};
  state.free_blocks = 40;
  submit_request(state, {.id = 1, .request_class = RequestClass::batch, .prompt = 70, .generate = 5, .blocks = 4});
  submit_request(state, {.id = 2, .prompt = 20, .generate = 5, .blocks = 4});
  StepPlan plan;
  plan_step(state, 0, plan);  // no stream: all rows, and both prompts in one step
  EXPECT_EQ(plan.prompt_rows, 90U);
  EXPECT_EQ(plan.rows.front().id, 2U);
  apply_plan(state, plan);
  submit_request(state, {.id = 3, .request_class = RequestClass::realtime, .prompt = 90, .generate = 5, .blocks = 4});
  plan_step(state, 0, plan);
  ASSERT_EQ(plan.rows.size(), 3U);
  EXPECT_EQ(plan.rows[0].id, 3U);
  EXPECT_EQ(plan.rows[0].rows, 38U);  // 10 ms, 2 streams, 38 rows: 50 ms
  EXPECT_EQ(plan.decode_rows, 2U);
}

// One row of a prompt with each step of some hundred ms: it would never end.
TEST(StepPlan, PromptsHaveAQuarterOfTheBoundHoweverLongAnswersTake) {
  SchedState state;
  state.limits = {.max_running = 8, .max_rows_per_step = 100, .step_time_bound = 0.042, .kv_blocks = 40};
  state.cost = {.step = 0.01, .decode_row = 0.02, .prompt_row = 0.001};
  state.free_blocks = 40;
  StepPlan plan;
  for (RequestId id = 1; id <= 3; ++id) submit_request(state, {.id = id, .prompt = 1, .generate = 9, .blocks = 4});
  plan_step(state, 0, plan);
  apply_plan(state, plan);
  for (RequestId id = 4; id <= 5; ++id) submit_request(state, {.id = id, .prompt = 50, .generate = 9, .blocks = 4});
  plan_step(state, 0, plan);
  EXPECT_EQ(plan.decode_rows, 3U);  // 70 ms
  EXPECT_EQ(plan.rows.size(), 5U);
  EXPECT_EQ(plan.prompt_rows, 10U);
}

TEST(StepPlan, BesideARealtimePromptOnlyStreamsHaveRows) {
  SchedState state;
  state.limits = {.max_running = 4, .max_rows_per_step = 100, .age_steps = 3, .kv_blocks = 40};
  state.cost = {.step = 0.001, .decode_row = 0.0001, .prompt_row = 0.0001};
  state.free_blocks = 40;
  StepPlan plan;
  submit_request(state, {.id = 1, .request_class = RequestClass::batch, .prompt = 1, .generate = 50, .blocks = 4});
  plan_step(state, 0, plan);
  apply_plan(state, plan);
  submit_request(state, {.id = 2, .prompt = 1000, .generate = 5, .blocks = 10});
  plan_step(state, 0, plan);
  EXPECT_EQ(plan.prompt_rows, 99U);
  apply_plan(state, plan);
  submit_request(state, {.id = 3, .request_class = RequestClass::realtime, .prompt = 600, .generate = 5, .blocks = 10});
  for (int step = 0; step < 3; ++step) {
    plan_step(state, 0, plan);
    ASSERT_EQ(plan.rows.size(), 2U) << "step " << step;
    EXPECT_EQ(plan.rows[0].id, 3U);
    EXPECT_EQ(plan.rows[0].rows, 99U);
    EXPECT_EQ(plan.rows[1].id, 1U);
    apply_plan(state, plan);
  }
  plan_step(state, 0, plan);  // its class has aged: a quarter for the long prompt
  ASSERT_EQ(plan.rows.size(), 3U);
  EXPECT_EQ(plan.rows[0].id, 2U);
  EXPECT_EQ(plan.rows[0].rows, 1U + 97U / 4);
  EXPECT_EQ(plan.rows[1].rows, 99U - plan.rows[0].rows);
}

// What one large request waits for, small ones could take away again and again.
TEST(StepPlan, ForAnAgedClassBlocksAreHeldBackFromRealtimeOnlyAfterEightTimesAsLong) {
  SchedState state;
  state.limits = {.max_running = 4, .max_rows_per_step = 100, .age_steps = 5, .kv_blocks = 10};
  state.cost = {.step = 0.001, .decode_row = 0.0001, .prompt_row = 0.0001};
  state.free_blocks = 10;
  StepPlan plan;
  RequestId next = 1;
  const auto realtime = [&] {
    submit_request(state,
                   {.id = next++, .request_class = RequestClass::realtime, .prompt = 1, .generate = 100, .blocks = 4});
  };
  realtime();
  plan_step(state, 0, plan);
  apply_plan(state, plan);
  const RequestId large = next++;
  submit_request(state, {.id = large, .request_class = RequestClass::batch, .prompt = 1, .generate = 1, .blocks = 8});
  RequestId newest = 1;
  for (std::uint32_t step = 0; step < 8 * state.limits.age_steps; ++step) {  // there is always a realtime request
    const RequestId older = std::exchange(newest, next);
    realtime();
    plan_step(state, 0, plan);
    ASSERT_EQ(plan.rows.size(), 2U) << "step " << step;
    EXPECT_EQ(plan.rows[1].id, newest) << "step " << step;
    apply_plan(state, plan);
    ASSERT_TRUE(end_request(state, older));
  }
  EXPECT_EQ(state.steps_without[2], 8 * state.limits.age_steps);
  const RequestId held_back = next;
  realtime();
  plan_step(state, 0, plan);
  ASSERT_EQ(plan.rows.size(), 1U);
  EXPECT_EQ(plan.rows[0].id, newest);
  apply_plan(state, plan);
  ASSERT_TRUE(end_request(state, newest));
  plan_step(state, 0, plan);
  ASSERT_EQ(plan.rows.size(), 1U);
  EXPECT_EQ(plan.rows[0].id, large);
  apply_plan(state, plan);
  ASSERT_TRUE(end_request(state, large));
  plan_step(state, 0, plan);
  ASSERT_EQ(plan.rows.size(), 1U);
  EXPECT_EQ(plan.rows[0].id, held_back);
}

TEST(CostModel, FollowsTheMachineAndForgivesAStall) {
  CostModel model;
  const CostModel truth = {.step = 0.03, .decode_row = 0.004, .prompt_row = 0.0005};
  std::mt19937 random(1);
  for (int i = 0; i < 3000; ++i) {
    const std::uint32_t decode = random() % 8;
    const std::uint32_t prompt = random() % 3 == 0 ? random() % 256 : 0;
    model.observe(decode, prompt, truth.seconds(decode, prompt));
  }
  EXPECT_NEAR(model.seconds(4, 0), truth.seconds(4, 0), 0.005);
  EXPECT_NEAR(model.seconds(4, 200), truth.seconds(4, 200), 0.02);
  const double before = model.seconds(1, 0);
  model.observe(1, 0, 1000);
  EXPECT_LT(model.seconds(1, 0), 2 * before);
  for (const double nonsense : {-1.0, std::nan(""), std::numeric_limits<double>::infinity()}) {
    const double kept = model.seconds(3, 30);
    model.observe(1, 1, nonsense);
    EXPECT_EQ(model.seconds(3, 30), kept);
  }
  for (int i = 0; i < 10000; ++i) model.observe(4, 64, 0);
  EXPECT_GE(std::min({model.step, model.decode_row, model.prompt_row}), 0.0);
}

}  // namespace
}  // namespace sirocco

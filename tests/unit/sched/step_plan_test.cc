#include "engine/sched/step_plan.h"

#include <gtest/gtest.h>

#include <cstdlib>

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

}  // namespace
}  // namespace sirocco

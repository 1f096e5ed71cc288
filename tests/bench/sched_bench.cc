// Decisions of the scheduler a second. One decision is plan_step and apply_plan, the requests that have had all of
// their tokens leaving and new ones coming (admission included), so that the numbers of running and queued ones stay.
#include <chrono>
#include <cstdio>
#include <random>
#include <vector>

#include "engine/sched/step_plan.h"

namespace sirocco {
namespace {

double decisions_per_second(std::uint32_t running, std::uint32_t queued, std::uint32_t uids) {
  std::mt19937_64 generator(1);
  const auto random = [&](std::uint32_t below) { return static_cast<std::uint32_t>(generator() % below); };
  SchedState state;
  state.limits.max_running = running;
  state.limits.max_queued = state.limits.max_queued_per_uid = queued + running + 1;
  state.limits.kv_blocks = state.free_blocks = 64 * (running + queued);
  StepPlan plan;
  RequestId next = 1;
  double now = 0;
  std::vector<RequestId> done;
  const auto fill = [&] {
    while (state.requests.size() < running + queued) {
      SchedRequest r = {.id = next++, .uid = random(uids), .arrival = now};
      r.request_class = static_cast<RequestClass>(random(kClasses));
      r.prompt = 1 + random(500);
      r.generate = 1 + random(200);
      r.blocks = 1 + (r.prompt + r.generate) / 32;
      if (admit_request(state, r, now).verdict == Admission::Verdict::accepted) submit_request(state, r);
    }
  };
  constexpr int kDecisions = 300'000;
  const auto began = std::chrono::steady_clock::now();
  for (int i = 0; i < kDecisions; ++i) {
    fill();
    plan_step(state, now, plan);
    apply_plan(state, plan);
    state.cost.observe(plan.decode_rows, plan.prompt_rows, 0.03);
    now += 0.03;
    done.clear();
    for (const PlannedRows& rows : plan.rows)  // none has a deadline: their indices are still the same
      if (state.requests[rows.request].pending() == 0) done.push_back(rows.id);
    for (const RequestId id : done) end_request(state, id);
  }
  return kDecisions / std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count();
}

}  // namespace
}  // namespace sirocco

int main() {
  std::printf("decisions a second: plan_step, apply_plan, cost, endings, admissions\n");
  for (const auto [running, queued, uids] :
       {std::array{4U, 0U, 2U}, {4U, 4U, 2U}, {8U, 0U, 3U}, {8U, 24U, 4U}, {8U, 248U, 8U}})
    std::printf("  %3u places, %3u more requests, %u uids: %.2f million\n", running, queued, uids,
                sirocco::decisions_per_second(running, queued, uids) / 1e6);
  return 0;
}

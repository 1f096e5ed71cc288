#include "engine/sched/step_plan.h"

#include <algorithm>
#include <cassert>

namespace sirocco {

namespace {

constexpr std::uint32_t kBlockPatience = 8;  // times age_steps
constexpr std::uint32_t kAgedShare = 4;      // the part of the prompt rows is one over this
constexpr int kIndexBits = 20;
constexpr int kClassShift = 62;

using Mark = StepPlan::Mark;

std::size_t class_of(const SchedRequest& request) {
  return static_cast<std::size_t>(request.request_class);
}
std::size_t class_of(std::uint64_t key) {
  return key >> kClassShift;
}
std::uint32_t index_of(std::uint64_t key) {
  return static_cast<std::uint32_t>(key & ((1U << kIndexBits) - 1));
}

class Planner {
 public:
  Planner(const SchedState& state, StepPlan& plan)
      : state_(state),
        plan_(plan),
        slots_(std::min(state.limits.max_running, state.limits.max_rows_per_step)),
        free_blocks_(state.free_blocks) {}

  void end_late(double now);
  void list_candidates();
  void choose();
  void give_rows();

 private:
  void list(std::uint32_t index);
  void choose_aged();
  bool try_choose(std::uint32_t index);
  bool has_blocks(const SchedRequest& request);
  void swap_out_for(const SchedRequest& request);

  const SchedState& state_;
  StepPlan& plan_;
  std::uint32_t slots_;
  std::uint32_t free_blocks_;
  bool streams_ = false;             // an interactive or realtime answer has begun
  bool held_back_ = false;           // blocks, because one that stands ahead lacks them
  bool held_back_realtime_ = false;  // from realtime too
  bool aged_ = false;                // the first of the plan's rows is there because its class has aged
  bool realtime_prompt_ = false;     // one is in the step: prompts below yield to it
  std::uint32_t prompts_ = 0;        // chosen
};

void Planner::end_late(double now) {
  plan_.marks.assign(state_.requests.size(), Mark::none);
  for (std::uint32_t i = 0; i < state_.requests.size(); ++i) {
    const SchedRequest& r = state_.requests[i];
    const bool queued = r.state == SchedRequestState::queued;
    PlannedEnd end = {.request = i, .id = r.id};
    if (r.deadline > 0 && r.deadline <= now) {
    } else if (r.deadline > 0 && queued && !r.partial_at_deadline && now + seconds_alone(state_, r) > r.deadline) {
      end.estimate = seconds_alone(state_, r);
    } else if (queued && r.max_queue_time > 0 && now - r.arrival > r.max_queue_time) {
      end.reason = PlannedEnd::Reason::queue_time;
    } else {
      continue;
    }
    plan_.ended.push_back(end);
    plan_.marks[i] = Mark::ended;
    if (r.holds_blocks()) free_blocks_ += r.blocks;
  }
}

// In order of the step's choice: class, what the uid is owed less what stands ahead of the request in its uid, arrival.
void Planner::list_candidates() {
  assert(state_.requests.size() < 1U << kIndexBits);
  plan_.candidates.assign(state_.accounts.size(), {});
  for (std::uint32_t i = 0; i < state_.requests.size(); ++i) {
    const SchedRequest& r = state_.requests[i];
    if (r.state == SchedRequestState::queued) continue;
    if (r.holds_blocks() && r.decoding() && r.pending() > 0 && r.request_class != RequestClass::batch &&
        plan_.marks[i] != Mark::ended)
      streams_ = true;
    list(i);
  }
  for (std::uint32_t i = 0; i < state_.requests.size(); ++i)
    if (state_.requests[i].state == SchedRequestState::queued) list(i);
  std::sort(plan_.order.begin(), plan_.order.end());
}

void Planner::list(std::uint32_t index) {
  const SchedRequest& r = state_.requests[index];
  if (plan_.marks[index] == Mark::ended || r.pending() == 0) return;
  const std::uint32_t ahead = plan_.candidates[r.account][class_of(r)]++;
  if (ahead >= slots_ && r.state == SchedRequestState::queued) return;  // more of one uid cannot start in one step
  const double behind = ahead - state_.accounts[r.account].deficit[class_of(r)];
  const auto position = static_cast<std::uint64_t>(std::min(behind * 256, 2e12));
  plan_.order.push_back(std::uint64_t{class_of(r)} << kClassShift | position << kIndexBits | index);
}

void Planner::choose() {
  choose_aged();
  for (const std::uint64_t key : plan_.order) {
    if (plan_.rows.size() == slots_) return;
    try_choose(index_of(key));
  }
}

// The class that has waited longer; the other one if none of its requests can run.
void Planner::choose_aged() {
  const auto& without = state_.steps_without;
  const std::size_t oldest = without[2] >= without[1] ? 2 : 1;
  for (const std::size_t c : {oldest, 3 - oldest}) {
    if (without[c] < state_.limits.age_steps) return;
    for (const std::uint64_t key : plan_.order) {
      if (class_of(key) != c || !try_choose(index_of(key))) continue;
      aged_ = true;
      return;
    }
  }
}

bool Planner::try_choose(std::uint32_t index) {
  if (plan_.marks[index] != Mark::none) return false;
  const SchedRequest& r = state_.requests[index];
  const bool realtime = r.request_class == RequestClass::realtime;
  if (realtime_prompt_ && !realtime && !r.decoding()) return false;
  const auto chosen = static_cast<std::uint32_t>(plan_.rows.size());
  if (streams_ && !r.decoding() && !realtime && prompts_ > 0 &&
      state_.cost.seconds(chosen - prompts_, prompts_ + 1) > state_.limits.step_time_bound)
    return false;
  const bool takes_blocks = !r.holds_blocks();
  if (takes_blocks) {
    if (!has_blocks(r)) return false;
    free_blocks_ -= r.blocks;
  }
  plan_.marks[index] = Mark::chosen;
  plan_.rows.push_back(
      {.request = index, .id = r.id, .rows = 1, .decoding = r.decoding(), .takes_blocks = takes_blocks});
  prompts_ += r.decoding() ? 0 : 1;
  realtime_prompt_ |= realtime && !r.decoding();
  return true;
}

bool Planner::has_blocks(const SchedRequest& request) {
  const bool realtime = request.request_class == RequestClass::realtime;
  if (realtime ? held_back_realtime_ : held_back_) return false;
  if (request.blocks > free_blocks_ && realtime && state_.limits.can_swap) swap_out_for(request);
  if (request.blocks <= free_blocks_) return true;
  held_back_ = true;
  held_back_realtime_ = realtime || state_.steps_without[class_of(request)] >= kBlockPatience * state_.limits.age_steps;
  return false;
}

void Planner::swap_out_for(const SchedRequest& request) {
  const auto may_go = [&](std::uint32_t i) {
    const SchedRequest& r = state_.requests[i];
    return r.request_class == RequestClass::batch && r.holds_blocks() && plan_.marks[i] == Mark::none;
  };
  std::uint64_t blocks = free_blocks_;
  for (std::uint32_t i = 0; i < state_.requests.size(); ++i)
    if (may_go(i)) blocks += state_.requests[i].blocks;
  if (blocks < request.blocks) return;
  while (free_blocks_ < request.blocks) {
    std::uint32_t last = 0;
    bool found = false;
    for (std::uint32_t i = 0; i < state_.requests.size(); ++i) {
      if (!may_go(i) || (found && state_.requests[i].started < state_.requests[last].started)) continue;
      last = i;
      found = true;
    }
    plan_.marks[last] = Mark::swapped;
    plan_.swapped_out.push_back(last);
    free_blocks_ += state_.requests[last].blocks;
  }
}

void Planner::give_rows() {
  plan_.decode_rows = static_cast<std::uint32_t>(plan_.rows.size()) - prompts_;
  std::uint32_t room = state_.limits.max_rows_per_step - plan_.decode_rows;
  if (streams_) {
    const double within = state_.cost.prompt_rows_within(state_.limits.step_time_bound, plan_.decode_rows);
    if (within < room) room = std::max(prompts_, static_cast<std::uint32_t>(within));
  }
  std::uint32_t left = room - prompts_;
  const auto give = [&](PlannedRows& planned, std::uint32_t most) {
    const std::uint32_t more = std::min({state_.requests[planned.request].pending() - planned.rows, most, left});
    planned.rows += more;
    left -= more;
  };
  if (prompts_ > 0) {
    if (aged_) give(plan_.rows[0], left / kAgedShare);
    for (PlannedRows& planned : plan_.rows) {
      // Beyond its share the aged one stands where its class does.
      if (aged_ && class_of(state_.requests[planned.request]) < class_of(state_.requests[plan_.rows[0].request]))
        give(planned, left);
    }
    for (PlannedRows& planned : plan_.rows)
      if (!realtime_prompt_ || state_.requests[planned.request].request_class == RequestClass::realtime)
        give(planned, left);
    plan_.prompt_rows = room - left;
  }
  plan_.seconds = state_.cost.seconds(plan_.decode_rows, plan_.prompt_rows);
}

// Shifts the deficits of a class so that the most owed of those with requests in it stands at 0.
void settle(SchedState& state, const StepPlan& plan, std::size_t c) {
  const auto cap = -static_cast<double>(state.limits.fair_tokens);
  double most = -2e12;
  bool any = false;
  for (std::size_t a = 0; a < plan.candidates.size(); ++a) {
    if (plan.candidates[a][c] == 0) continue;
    any = true;
    most = std::max(most, state.accounts[a].deficit[c]);
  }
  if (!any) return;
  for (Account& account : state.accounts) account.deficit[c] = std::clamp(account.deficit[c] - most, cap, 0.0);
}

}  // namespace

void plan_step(const SchedState& state, double now, StepPlan& plan) {
  plan.ended.clear();
  plan.swapped_out.clear();
  plan.rows.clear();
  plan.order.clear();
  plan.decode_rows = 0;
  plan.prompt_rows = 0;
  plan.seconds = 0;
  Planner planner(state, plan);
  planner.end_late(now);
  planner.list_candidates();
  planner.choose();
  if (!plan.rows.empty()) planner.give_rows();
}

void apply_plan(SchedState& state, const StepPlan& plan) {
  assert(plan.marks.size() == state.requests.size());
  for (const PlannedEnd& end : plan.ended) release_request(state, state.requests[end.request]);
  for (const std::uint32_t index : plan.swapped_out) {
    state.requests[index].state = SchedRequestState::swapped;
    state.free_blocks += state.requests[index].blocks;
  }
  for (SchedRequest& r : state.requests)
    if (r.state == SchedRequestState::running) r.state = SchedRequestState::paused;
  std::array<bool, kClasses> had_rows = {};
  for (const PlannedRows& planned : plan.rows) {
    SchedRequest& r = state.requests[planned.request];
    if (planned.takes_blocks) {
      assert(r.blocks <= state.free_blocks);
      state.free_blocks -= r.blocks;
      if (r.state == SchedRequestState::queued) r.started = state.steps;
    }
    r.state = SchedRequestState::running;
    if (!planned.decoding) r.prompt -= planned.rows;
    if (r.prompt == 0 && r.generate > 0) --r.generate;
    state.accounts[r.account].deficit[class_of(r)] -= planned.rows / static_cast<double>(r.weight);
    had_rows[class_of(r)] = true;
  }
  for (std::size_t c = 0; c < kClasses; ++c) {
    const bool wanted = std::any_of(plan.candidates.begin(), plan.candidates.end(),
                                    [&](const auto& candidates) { return candidates[c] > 0; });
    state.steps_without[c] = wanted && !had_rows[c] ? state.steps_without[c] + 1 : 0;
    settle(state, plan, c);
  }
  ++state.steps;
  if (plan.ended.empty()) return;
  std::size_t kept = 0;
  for (std::size_t i = 0; i < state.requests.size(); ++i)
    if (plan.marks[i] != StepPlan::Mark::ended) state.requests[kept++] = state.requests[i];
  state.requests.resize(kept);
}

}  // namespace sirocco

#include "engine/sched/step_plan.h"

#include <algorithm>
#include <cassert>

namespace sirocco {

namespace {

constexpr std::uint32_t kBlockPatience = 8;  // times age_steps
constexpr std::uint32_t kAgedShare = 4;      // the part of the prompt rows is one over this
constexpr double kPromptShare = 0.25;        // of the bound, which prompts have however long answers take
constexpr int kIndexBits = 20;

using Mark = StepPlan::Mark;
using Chain = StepPlan::Chain;
using Head = StepPlan::Head;
constexpr std::uint32_t kNone = StepPlan::kNone;

std::size_t class_of(const SchedRequest& request) {
  return static_cast<std::size_t>(request.request_class);
}

class Planner {
 public:
  Planner(const SchedState& state, StepPlan& plan)
      : state_(state),
        plan_(plan),
        slots_(std::min(state.limits.max_running, state.limits.max_rows_per_step)),
        free_blocks_(state.free_blocks) {}

  void list_requests(double now);
  void choose();
  void give_rows();

 private:
  bool end_if_late(std::uint32_t index, double now);
  template <class Function>
  bool in_order(std::size_t request_class, Function done);
  Head head(std::uint32_t request, std::uint32_t account, std::uint32_t ahead) const;
  void choose_aged();
  bool try_choose(std::uint32_t index);
  bool has_blocks(const SchedRequest& request);
  void swap_out_for(const SchedRequest& request);
  double bound(std::uint32_t decode_rows) const;

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

bool Planner::end_if_late(std::uint32_t index, double now) {
  const SchedRequest& r = state_.requests[index];
  const bool queued = r.state == SchedRequestState::queued;
  PlannedEnd end = {.request = index, .id = r.id};
  if (r.deadline > 0 && r.deadline <= now) {
  } else if (r.deadline > 0 && queued && !r.partial_at_deadline && now + seconds_alone(state_, r) > r.deadline) {
    end.estimate = seconds_alone(state_, r);
  } else if (queued && r.max_queue_time > 0 && now - r.arrival > r.max_queue_time) {
    end.reason = PlannedEnd::Reason::queue_time;
  } else {
    return false;
  }
  plan_.ended.push_back(end);
  plan_.marks[index] = Mark::ended;
  if (r.holds_blocks()) free_blocks_ += r.blocks;
  return true;
}

// Once over all requests: a step in which many wait costs little more than that.
void Planner::list_requests(double now) {
  assert(state_.requests.size() < 1U << kIndexBits);
  plan_.marks.assign(state_.requests.size(), Mark::none);
  plan_.behind.assign(state_.requests.size(), kNone);
  plan_.chains.assign(state_.accounts.size(), {});
  plan_.running.clear();
  std::array<Chain, kClasses>* const chains = plan_.chains.data();
  std::uint32_t* const behind = plan_.behind.data();
  const auto append = [&](Chain::Part& part, std::uint32_t first, std::uint32_t last) {
    (part.first == kNone ? part.first : behind[part.last]) = first;
    part.last = last;
  };
  std::uint32_t next = 0;
  for (const SchedRequest& r : state_.requests) {
    const std::uint32_t index = next++;
    if (r.state == SchedRequestState::running) plan_.running.push_back(index);
    if ((r.deadline > 0 || r.max_queue_time > 0) && end_if_late(index, now)) continue;
    if (r.pending() == 0) continue;
    Chain& chain = chains[r.account][class_of(r)];
    const bool queued = r.state == SchedRequestState::queued;
    append(queued ? chain.queued : chain.started, index, index);
    streams_ |= !queued && r.decoding() && r.holds_blocks() && r.request_class != RequestClass::batch;
  }
  for (auto& of_account : plan_.chains)
    for (Chain& chain : of_account)
      if (chain.queued.first != kNone) append(chain.started, chain.queued.first, chain.queued.last);
}

Head Planner::head(std::uint32_t request, std::uint32_t account, std::uint32_t ahead) const {
  const SchedRequest& r = state_.requests[request];
  const double behind = ahead - state_.accounts[account].deficit[class_of(r)];
  const auto position = static_cast<std::uint64_t>(std::min(behind * 256, 2e12));
  return {.key = position << kIndexBits | request, .request = request, .account = account, .ahead = ahead};
}

// The requests of a class in order of the step's choice (what the uid is owed less what stands ahead of the request in
// its uid, arrival), until done(request). Whether it was.
template <class Function>
bool Planner::in_order(std::size_t request_class, Function done) {
  plan_.heads.clear();
  for (std::uint32_t account = 0; account < plan_.chains.size(); ++account) {
    const std::uint32_t first = plan_.chains[account][request_class].started.first;
    if (first != kNone) plan_.heads.push_back(head(first, account, 0));
  }
  while (!plan_.heads.empty()) {
    Head& least =
        *std::min_element(plan_.heads.begin(), plan_.heads.end(), [](auto& a, auto& b) { return a.key < b.key; });
    const std::uint32_t request = least.request;
    const std::uint32_t next = plan_.behind[request];
    const std::uint32_t ahead = least.ahead + 1;
    // More of one uid cannot start in one step.
    if (next == kNone || (ahead >= slots_ && state_.requests[next].state == SchedRequestState::queued)) {
      least = plan_.heads.back();
      plan_.heads.pop_back();
    } else {
      least = head(next, least.account, ahead);
    }
    if (done(request)) return true;
  }
  return false;
}

void Planner::choose() {
  choose_aged();
  const auto full = [this] { return plan_.rows.size() == slots_; };
  for (std::size_t c = 0; c < kClasses && !full(); ++c) {
    in_order(c, [&](std::uint32_t request) {
      try_choose(request);
      return full();
    });
  }
}

// The class that has waited longer; the other one if none of its requests can run.
void Planner::choose_aged() {
  const auto& without = state_.steps_without;
  const std::size_t oldest = without[2] >= without[1] ? 2 : 1;
  for (const std::size_t c : {oldest, 3 - oldest}) {
    if (without[c] < state_.limits.age_steps) return;
    if (in_order(c, [&](std::uint32_t request) { return try_choose(request); })) {
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
      state_.cost.seconds(chosen - prompts_, prompts_ + 1) > bound(chosen - prompts_))
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

// Seconds that a step may take while streams run. Where many answers take nearly all of the bound, or more, prompts
// would never end with the one row that is left to them.
double Planner::bound(std::uint32_t decode_rows) const {
  const double bound = state_.limits.step_time_bound;
  return std::max(bound, state_.cost.seconds(decode_rows, 0) + kPromptShare * bound);
}

void Planner::give_rows() {
  plan_.decode_rows = static_cast<std::uint32_t>(plan_.rows.size()) - prompts_;
  std::uint32_t room = state_.limits.max_rows_per_step - plan_.decode_rows;
  if (streams_) {
    const double within = state_.cost.prompt_rows_within(bound(plan_.decode_rows), plan_.decode_rows);
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
  for (std::size_t a = 0; a < plan.chains.size(); ++a) {
    if (plan.chains[a][c].started.first == kNone) continue;
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
  plan.decode_rows = 0;
  plan.prompt_rows = 0;
  plan.seconds = 0;
  Planner planner(state, plan);
  planner.list_requests(now);
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
  for (const std::uint32_t index : plan.running)
    if (SchedRequest& r = state.requests[index]; r.state == SchedRequestState::running)
      r.state = SchedRequestState::paused;
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
    const bool wanted = std::any_of(plan.chains.begin(), plan.chains.end(),
                                    [&](const auto& chains) { return chains[c].started.first != kNone; });
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

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "tests/unit/sched/simulator.h"

namespace sirocco {

namespace {

std::uint32_t number(RequestClass request_class) {
  return static_cast<std::uint32_t>(request_class);
}

}  // namespace

void Simulator::fail(const char* promise, const std::string& what) {
  if (run_.broken.empty())
    run_.broken = fmt::format("{}: {} (seed {}, step {}, {:.3f} s)", promise, what, seed_, run_.steps, now_);
}

bool Simulator::aged(RequestClass request_class) const {
  return request_class != RequestClass::realtime &&
         state_.steps_without[number(request_class)] >= state_.limits.age_steps;
}

bool Simulator::planned(const SchedRequest& r) const {
  return std::any_of(plan_.rows.begin(), plan_.rows.end(), [&](const auto& rows) { return rows.id == r.id; });
}

bool Simulator::realtime_prompt() const {
  return std::any_of(plan_.rows.begin(), plan_.rows.end(), [&](const auto& rows) {
    return !rows.decoding && state_.requests[rows.request].request_class == RequestClass::realtime;
  });
}

void Simulator::check_admission(const SchedRequest& request, const Admission& admission) {
  std::uint32_t queued = 0;
  std::uint32_t of_uid = 0;
  for (const SchedRequest& r : state_.requests) {
    const bool replaced = r.uid == request.uid && r.latest_wins != 0 && r.latest_wins == request.latest_wins;
    if (r.state != SchedRequestState::queued || replaced) continue;
    ++queued;
    of_uid += r.uid == request.uid ? 1 : 0;
  }
  // Alone, step by step.
  double alone = 0;
  for (std::uint32_t left = request.prompt; left > 0;) {
    const std::uint32_t rows = std::min(left, state_.limits.max_rows_per_step);
    alone += state_.cost.seconds(0, rows);
    left -= rows;
  }
  const bool full = queued >= state_.limits.max_queued || of_uid >= state_.limits.max_queued_per_uid;
  const bool in_time = request.deadline == 0 || request.partial_at_deadline || now_ + alone <= request.deadline + 1e-9;
  const std::string what = fmt::format("request {}, {} queued, {} of its uid", request.id, queued, of_uid);
  switch (admission.verdict) {
    case Admission::Verdict::accepted:
      if (full) fail("busy", "accepted: " + what);
      break;
    case Admission::Verdict::busy:
      if (!full) fail("busy", "refused: " + what);
      if (!(admission.retry_after >= 0.05 && admission.retry_after <= 60)) fail("busy", "no sensible retry-after");
      break;
    case Admission::Verdict::deadline:
      if (in_time) fail("deadline", "refused, but could be in time: " + what);
      if (std::abs(admission.estimate - alone) > 1e-6) fail("deadline", "the estimate is not that of running alone");
      break;
    case Admission::Verdict::too_long:
      if (request.blocks <= state_.limits.kv_blocks) fail("blocks", "refused: " + what);
  }
}

void Simulator::check_plan() {
  if (run_.steps % 16 == 0) {
    plan_step(state_, now_, again_);
    const bool same = std::equal(plan_.rows.begin(), plan_.rows.end(), again_.rows.begin(), again_.rows.end(),
                                 [](const auto& a, const auto& b) { return a.id == b.id && a.rows == b.rows; }) &&
                      plan_.ended.size() == again_.ended.size() && plan_.swapped_out == again_.swapped_out;
    if (!same) fail("pure", "the same state gave another plan");
  }
  check_endings();
  check_rows();
  if (run_.broken.empty()) check_left_out();
  check_ageing();
}

void Simulator::check_endings() {
  std::set<RequestId> ended;
  for (const PlannedEnd& e : plan_.ended) {
    const SchedRequest& r = state_.requests[e.request];
    if (r.id != e.id || books_[e.id].ended || !ended.insert(e.id).second) fail("one ending", "planned twice");
    const bool queued = r.state == SchedRequestState::queued;
    const bool late = r.deadline > 0 && r.deadline <= now_;
    const bool hopeless = r.deadline > 0 && queued && !r.partial_at_deadline && now_ + e.estimate > r.deadline &&
                          std::abs(e.estimate - seconds_alone(state_, r)) < 1e-9;
    const bool waited = queued && r.max_queue_time > 0 && now_ - r.arrival > r.max_queue_time;
    if (!(e.reason == PlannedEnd::Reason::deadline ? late || hopeless : waited))
      fail("deadline", fmt::format("request {} is ended for no reason", r.id));
  }
  for (const SchedRequest& r : state_.requests) {
    if (ended.contains(r.id)) continue;
    if (r.deadline > 0 && r.deadline <= now_) fail("deadline", fmt::format("request {} is past it and goes on", r.id));
    if (r.state == SchedRequestState::queued && r.max_queue_time > 0 && now_ - r.arrival > r.max_queue_time)
      fail("queue time", fmt::format("request {} goes on waiting", r.id));
  }
}

void Simulator::check_rows() {
  const SchedLimits& limits = state_.limits;
  std::set<RequestId> ids;
  for (const PlannedEnd& e : plan_.ended) ids.insert(e.id);
  std::uint32_t decode_rows = 0;
  std::uint32_t prompt_rows = 0;
  for (const PlannedRows& rows : plan_.rows) {
    const SchedRequest& r = state_.requests[rows.request];
    const Books& books = books_[rows.id];
    const std::uint32_t left = books.request.prompt - books.computed;
    if (r.id != rows.id || !ids.insert(rows.id).second) fail("rows", "a request is there twice, or has ended");
    if (rows.decoding != (left == 0) || rows.rows == 0 || rows.rows > std::max(left, 1U))
      fail("rows", fmt::format("request {}: {} rows of {}", rows.id, rows.rows, left));
    if (rows.takes_blocks != (r.state == SchedRequestState::queued || r.state == SchedRequestState::swapped))
      fail("blocks", "taken by who has them");
    (rows.decoding ? decode_rows : prompt_rows) += rows.rows;
  }
  if (decode_rows != plan_.decode_rows || prompt_rows != plan_.prompt_rows) fail("rows", "counted wrongly");
  if (decode_rows + prompt_rows > limits.max_rows_per_step) fail("rows", "more than max_rows_per_step");
  if (plan_.rows.size() > limits.max_running) fail("rows", "more sequences than max_running");
}

void Simulator::check_left_out() {
  std::uint32_t free = state_.free_blocks;
  for (const PlannedEnd& e : plan_.ended)
    if (state_.requests[e.request].holds_blocks()) free += state_.requests[e.request].blocks;
  check_realtime(free);
  for (const std::uint32_t index : plan_.swapped_out) {
    const SchedRequest& r = state_.requests[index];
    if (r.request_class != RequestClass::batch || !r.holds_blocks() || planned(r) || !state_.limits.can_swap)
      fail("swap", fmt::format("request {} is moved out", r.id));
    free += r.blocks;
  }
  for (const PlannedRows& rows : plan_.rows) {
    if (!rows.takes_blocks) continue;
    const std::uint32_t blocks = state_.requests[rows.request].blocks;
    if (blocks > free) return fail("blocks", "more taken than there are");
    free -= blocks;
  }
  bool streams = false;
  bool any = false;
  for (std::uint32_t i = 0; i < state_.requests.size(); ++i) {
    const SchedRequest& r = state_.requests[i];
    if (plan_.marks[i] == StepPlan::Mark::ended) continue;
    any = true;
    streams |= r.holds_blocks() && r.decoding() && r.request_class != RequestClass::batch;
  }
  if (any && plan_.rows.empty()) fail("idle", "there are requests and nothing runs");
  for (std::uint32_t i = 0; i < state_.requests.size(); ++i)
    if (plan_.marks[i] != StepPlan::Mark::ended && plan_.marks[i] != StepPlan::Mark::swapped &&
        !planned(state_.requests[i]))
      check_left_out(state_.requests[i], free, streams);
  check_time(streams);
  check_realtime_prompt();
}

// Why a request is not in the step: the places are taken by requests of its class or above, it lacks blocks or must not
// overtake one that does, it would make the step too long, or a realtime prompt is read first. `free`: blocks that are
// left.
void Simulator::check_left_out(const SchedRequest& r, std::uint32_t free, bool streams) {
  // To a realtime prompt that is in the step.
  const bool yields = realtime_prompt() && !r.decoding() && r.request_class != RequestClass::realtime;
  if (yields) return;
  const bool needs_blocks = !r.holds_blocks();
  bool overtakes = false;
  for (std::uint32_t i = 0; i < state_.requests.size(); ++i) {
    const SchedRequest& other = state_.requests[i];
    if (plan_.marks[i] != StepPlan::Mark::none || other.holds_blocks()) continue;
    if (other.blocks > free && (other.request_class <= r.request_class || aged(other.request_class))) overtakes = true;
  }
  for (const PlannedRows& rows : plan_.rows) {
    const SchedRequest& other = state_.requests[rows.request];
    if (needs_blocks && rows.takes_blocks && other.request_class > r.request_class && !aged(other.request_class) &&
        (r.request_class == RequestClass::realtime || !streams || !other.decoding()))
      fail("order", fmt::format("request {} lacks blocks and {} takes some", r.id, other.id));
  }
  // What is moved out for a realtime request may leave blocks over that others get in the next step.
  const bool lacks = needs_blocks && (r.blocks > free || overtakes || !plan_.swapped_out.empty());
  std::uint32_t prompts = 0;
  for (const PlannedRows& rows : plan_.rows) prompts += rows.decoding ? 0 : 1;
  const bool slow = streams && !r.decoding() && r.request_class != RequestClass::realtime && prompts > 0 &&
                    state_.cost.seconds(plan_.decode_rows, prompts + 1) > time_bound(plan_.decode_rows);
  if (slow) saturated_ = false;  // a uid with prompts alone then gets less than one with streams
  if (lacks || slow) return;
  if (plan_.rows.size() < state_.limits.max_running)
    fail("idle", fmt::format("request {} could run and there is a place", r.id));
  std::uint32_t guests = 0;
  for (const PlannedRows& rows : plan_.rows) {
    const SchedRequest& other = state_.requests[rows.request];
    if (other.request_class > r.request_class && (!aged(other.request_class) || ++guests > 1))
      fail("classes", fmt::format("request {} waits for {} of a lower class", r.id, other.id));
    if (other.state == SchedRequestState::queued && r.state == SchedRequestState::queued && other.uid == r.uid &&
        other.request_class == r.request_class && other.id > r.id)
      fail("order", fmt::format("request {} is overtaken by {} of its uid", r.id, other.id));
  }
}

// The promise as step_plan.h states it. `free`: blocks before any start.
void Simulator::check_realtime(std::uint32_t free) {
  std::uint32_t requests = 0;
  std::uint64_t needs = 0;
  std::uint64_t available = free;
  bool held_back = false;
  // One whose class has aged may stand before, with blocks of its own.
  const SchedRequest* const first = plan_.rows.empty() ? nullptr : &state_.requests[plan_.rows[0].request];
  if (first != nullptr && aged(first->request_class) && plan_.rows[0].takes_blocks) {
    needs += first->blocks;
    ++run_.seen["aged took blocks before realtime"];
  }
  for (std::uint32_t i = 0; i < state_.requests.size(); ++i) {
    const SchedRequest& r = state_.requests[i];
    if (plan_.marks[i] == StepPlan::Mark::ended) continue;
    held_back |= r.request_class != RequestClass::realtime &&
                 state_.steps_without[number(r.request_class)] >= 8 * state_.limits.age_steps;
    if (r.request_class == RequestClass::realtime) {
      ++requests;
      needs += r.holds_blocks() ? 0 : r.blocks;
    } else if (r.request_class == RequestClass::batch && r.holds_blocks() && state_.limits.can_swap && &r != first) {
      available += r.blocks;
    }
  }
  if (held_back) ++run_.seen["may be held back from realtime"];
  if (requests == 0 || requests >= state_.limits.max_running || (needs > 0 && (needs > available || held_back))) return;
  ++run_.seen["realtime at once"];
  for (std::uint32_t i = 0; i < state_.requests.size(); ++i) {
    const SchedRequest& r = state_.requests[i];
    if (r.request_class == RequestClass::realtime && plan_.marks[i] != StepPlan::Mark::ended && !planned(r))
      fail("realtime", fmt::format("request {} waits more than one step", r.id));
  }
}

// From a realtime request's first row to its first token nobody else's prompt is read, but for the share of one that
// has aged.
void Simulator::check_realtime_prompt() {
  if (!realtime_prompt()) return;
  ++run_.seen["realtime prompt"];
  std::uint32_t guests = 0;
  for (const PlannedRows& rows : plan_.rows) {
    const SchedRequest& r = state_.requests[rows.request];
    if (rows.decoding || r.request_class == RequestClass::realtime) continue;
    ++run_.seen["aged beside a realtime prompt"];
    if (!aged(r.request_class) || ++guests > 1 || rows.rows > 1 + state_.limits.max_rows_per_step / 4)
      fail("realtime", fmt::format("{} prompt rows of {} delay a realtime prompt", rows.rows, rows.id));
  }
}

// While streams run: the configured one, but a quarter of it is for prompts whatever answers take.
double Simulator::time_bound(std::uint32_t decode_rows) const {
  const double configured = state_.limits.step_time_bound;
  const double answers = state_.cost.step + state_.cost.decode_row * decode_rows;
  return answers > 0.75 * configured ? answers + 0.25 * configured : configured;
}

void Simulator::check_time(bool streams) {
  if (plan_.rows.empty()) return;
  const auto prompts = static_cast<std::uint32_t>(
      std::count_if(plan_.rows.begin(), plan_.rows.end(), [](const auto& rows) { return !rows.decoding; }));
  const double expected = state_.cost.seconds(plan_.decode_rows, plan_.prompt_rows);
  const double least = state_.cost.seconds(plan_.decode_rows, prompts);
  const double bound = time_bound(plan_.decode_rows);
  if (std::abs(expected - plan_.seconds) > 1e-9) fail("time", "the plan expects another");
  if (streams && expected > std::max(bound, least) + 1e-9)
    fail("time", fmt::format("a step of {:.3f} s, {:.3f} s may be", expected, std::max(bound, least)));
  // The sequences in the order in which they were chosen.
  std::array<std::uint32_t, 2> before = {};  // prompts, streams
  for (const PlannedRows& rows : plan_.rows) {
    const bool may_wait = !rows.decoding && state_.requests[rows.request].request_class != RequestClass::realtime;
    if (streams && may_wait && before[0] > 0 && state_.cost.seconds(before[1], before[0] + 1) > time_bound(before[1]))
      fail("time", fmt::format("the prompt of {} makes the step too long", rows.id));
    ++before[rows.decoding ? 1 : 0];
  }
  const bool full = plan_.decode_rows + plan_.prompt_rows == state_.limits.max_rows_per_step ||
                    (streams && state_.cost.seconds(plan_.decode_rows, plan_.prompt_rows + 1) > bound - 1e-9);
  const bool realtime = realtime_prompt();
  for (const PlannedRows& rows : plan_.rows)
    if (!full && rows.rows < state_.requests[rows.request].pending() &&
        (!realtime || state_.requests[rows.request].request_class == RequestClass::realtime))
      fail("idle", fmt::format("request {} could have more rows", rows.id));
  // Rows go by class: who has more than one in a lower class leaves none wanting above, but for the aged share.
  for (const PlannedRows& low : plan_.rows)
    for (const PlannedRows& high : plan_.rows)
      if (low.rows > 1 && !aged(state_.requests[low.request].request_class) &&
          number(state_.requests[high.request].request_class) < number(state_.requests[low.request].request_class) &&
          high.rows < state_.requests[high.request].pending())
        fail("classes", fmt::format("prompt rows for {} that {} wants", low.id, high.id));
}

void Simulator::check_ageing() {
  for (std::uint32_t c = 0; c < kClasses; ++c) {
    bool could = false;
    bool had = false;
    for (std::uint32_t i = 0; i < state_.requests.size(); ++i) {
      const SchedRequest& r = state_.requests[i];
      if (number(r.request_class) != c) continue;
      had |= planned(r);
      could |= r.holds_blocks() && plan_.marks[i] == StepPlan::Mark::none;
    }
    without_[c] = could && !had ? without_[c] + 1 : 0;
    if (c > 0) {
      run_.seen["aged in two classes at once"] =
          std::max<std::uint64_t>(run_.seen["aged in two classes at once"],
                                  without_[c] > state_.limits.age_steps ? without_[c] - state_.limits.age_steps : 0);
      if (without_[c] > state_.limits.age_steps + 1)
        fail("starvation", fmt::format("class {} had no row in {} steps", c, without_[c]));
    }
  }
}

// After the step: nothing that was computed is lost, and every block is where the books say.
void Simulator::check_books() {
  std::uint64_t blocks = state_.free_blocks;
  std::set<std::pair<std::uint32_t, std::uint64_t>> keys;
  for (const SchedRequest& r : state_.requests) {
    const Books& books = books_[r.id];
    if (r.prompt + books.computed != books.request.prompt || r.generate + books.generated != books.request.generate)
      fail("no work lost", fmt::format("request {}", r.id));
    if (books.ended) fail("one ending", fmt::format("request {} goes on after its", r.id));
    if (r.state != SchedRequestState::queued || planned(r)) {
      if ((r.state == SchedRequestState::running) != planned(r)) fail("states", fmt::format("request {}", r.id));
    }
    if (books.computed > 0 && r.state == SchedRequestState::queued) fail("no work lost", "back in the queue");
    if (r.holds_blocks()) blocks += books.request.blocks;
    if (r.latest_wins != 0 && !keys.emplace(r.uid, r.latest_wins).second) fail("latest wins", "two with one key");
  }
  std::size_t open = 0;
  for (const auto& [id, books] : books_) open += books.ended ? 0 : 1;
  if (open != state_.requests.size()) fail("one ending", "a request is gone without one");
  if (blocks != state_.limits.kv_blocks) fail("blocks", fmt::format("{} of {}", blocks, state_.limits.kv_blocks));
}

// While every uid could fill all places, tokens by weight differ by what one step can give and take.
void Simulator::check_fairness() {
  if (!saturated_) return;
  std::map<std::uint32_t, std::uint32_t> open;
  std::uint32_t least_weight = UINT32_MAX;
  for (const SchedRequest& r : state_.requests) {
    open[r.uid] += r.pending() > 0 ? 1 : 0;
    least_weight = std::min(least_weight, r.weight);
  }
  if (open.size() < uids_) saturated_ = false;
  for (const auto& [uid, count] : open) saturated_ = saturated_ && count >= state_.limits.max_running;
  if (!saturated_) return;
  double least = 1e18;
  double most = 0;
  for (std::uint32_t uid = 1000; uid < 1000 + uids_; ++uid) {
    least = std::min(least, served_[uid]);
    most = std::max(most, served_[uid]);
  }
  ++run_.seen["fairness compared"];
  // Who is owed least gets a place only beside one that is owed up to max_running more, and then a step's rows at most.
  const double bound = state_.limits.max_rows_per_step / static_cast<double>(least_weight) + state_.limits.max_running;
  if (most - least > bound) fail("fairness", fmt::format("{:.0f} and {:.0f} tokens by weight", least, most));
}

}  // namespace sirocco

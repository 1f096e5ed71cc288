#include "tests/unit/sched/simulator.h"

#include <fmt/format.h>

#include <algorithm>

namespace sirocco {

Simulator::Simulator(std::uint64_t seed) : seed_(seed), generator_(seed) {
  SchedLimits& limits = state_.limits;
  limits.max_running = 1 + random(8);
  limits.max_rows_per_step = limits.max_running + random(120);
  limits.step_time_bound = 0.02 + 0.2 * fraction();
  limits.max_queued = 2 + random(30);
  limits.max_queued_per_uid = 1 + random(limits.max_queued);
  limits.age_steps = 1 + random(20);
  limits.kv_blocks = 8 + random(60);
  limits.can_swap = random(2) == 0;
  truth_ = {.step = 0.02 * fraction(), .decode_row = 0.02 * fraction(), .prompt_row = 0.002 * fraction()};
  saturated_ = seed % 4 == 0;
  saturated_ ? make_saturated() : make_mixed();
  state_.free_blocks = limits.kv_blocks;
}

SchedRequest Simulator::random_request(double arrival) {
  const bool is_long = random(5) == 0;
  SchedRequest r = {.id = arrivals_.size() + 1, .uid = 1000 + random(uids_), .arrival = arrival};
  r.request_class = static_cast<RequestClass>(random(kClasses));
  r.weight = 1 + random(4);
  if (random(4) == 0) r.deadline = arrival + 3 * fraction();
  r.partial_at_deadline = random(2) == 0;
  if (random(4) == 0) r.max_queue_time = 2 * fraction();
  if (random(4) == 0) r.latest_wins = 1 + random(2);
  r.prompt = 1 + random(is_long ? 800 : 60);
  r.generate = 1 + random(is_long ? 100 : 20);
  r.blocks = 1 + (r.prompt + r.generate) / 32;
  return r;
}

// Bursts of requests of any kind, some cancelled, some whose answer ends early; too much work for some of the time.
void Simulator::make_mixed() {
  uids_ = 1 + random(5);
  const std::uint32_t count = 5 + random(40);
  const double pause = 0.3 * fraction();
  const std::uint32_t only = random(4);  // some workloads have much of one class
  double time = 0;
  while (arrivals_.size() < count) {
    time += pause * fraction();
    for (std::uint32_t burst = 1 + (random(4) == 0 ? random(8) : 0); burst > 0; --burst) {
      Arrival a = {.request = random_request(time)};
      if (only < kClasses && random(2) == 0) a.request.request_class = static_cast<RequestClass>(only);
      if (random(6) == 0) a.cancelled = time + slack_ * fraction();
      a.stops_after = random(3) == 0 ? 1 + random(a.request.generate) : a.request.generate;
      arrivals_.push_back(a);
    }
  }
}

// One class; every uid has more work than it gets done, and one weight.
void Simulator::make_saturated() {
  uids_ = 2 + random(3);
  SchedLimits& limits = state_.limits;
  const auto request_class = static_cast<RequestClass>(random(kClasses));
  const std::uint32_t each = limits.max_running + 6;
  limits.max_queued = limits.max_queued_per_uid = each * uids_;
  limits.kv_blocks = 1000 * each * uids_;
  for (std::uint32_t i = 0; i < each * uids_; ++i) {
    Arrival a = {.request = random_request(0)};
    a.request.uid = 1000 + i % uids_;
    a.request.weight = 1 + static_cast<std::uint32_t>((seed_ / 7 + i % uids_) % 3);
    a.request.request_class = request_class;
    a.request.deadline = a.request.max_queue_time = 0;
    a.request.latest_wins = 0;
    a.stops_after = a.request.generate;
    arrivals_.push_back(a);
  }
}

SimulatedRun Simulator::run() {
  while (run_.broken.empty()) {
    arrive();
    cancel();
    if (state_.requests.empty()) {
      if (arrived_ == arrivals_.size()) break;
      now_ = arrivals_[arrived_].request.arrival;
      continue;
    }
    step();
  }
  for (const auto& [id, books] : books_)
    if (!books.ended && run_.broken.empty()) fail("one ending", fmt::format("request {} has none", id));
  if (run_.broken.empty() && state_.free_blocks != state_.limits.kv_blocks) fail("blocks", "not all came back");
  return std::move(run_);
}

void Simulator::arrive() {
  for (; arrived_ < arrivals_.size() && arrivals_[arrived_].request.arrival <= now_; ++arrived_) {
    const Arrival& a = arrivals_[arrived_];
    const Admission admission = admit_request(state_, a.request, now_);
    check_admission(a.request, admission);
    constexpr std::array names = {"accepted", "busy", "refused: deadline", "refused: too long"};
    ++run_.seen[names[static_cast<std::size_t>(admission.verdict)]];
    if (admission.verdict != Admission::Verdict::accepted) continue;
    if (const auto older = superseded(state_, a.request)) end(*older, "ended: latest wins");
    submit_request(state_, a.request);
    books_[a.request.id] = {.request = a.request, .stops_after = a.stops_after};
    if (a.cancelled > 0) cancels_.emplace(a.cancelled, a.request.id);
  }
}

void Simulator::cancel() {
  while (!cancels_.empty() && cancels_.begin()->first <= now_) {
    const RequestId id = cancels_.begin()->second;
    cancels_.erase(cancels_.begin());
    if (!books_[id].ended) end(id, "ended: cancelled");
  }
}

void Simulator::end(RequestId id, const char* how) {
  ++run_.seen[how];
  if (books_[id].ended || !end_request(state_, id) || end_request(state_, id))
    fail("one ending", fmt::format("request {}, {}", id, how));
  books_[id].ended = true;
}

// The prefix cache: what is left of the prompts that wait changes from step to step.
void Simulator::change_prompts() {
  if (random(4) != 0) return;
  for (const SchedRequest& r : state_.requests) {
    if (r.state != SchedRequestState::queued || random(4) != 0) continue;
    std::uint32_t& prompt = books_[r.id].request.prompt;
    prompt = 1 + random(2 * prompt);
    set_prompt(state_, r.id, prompt);
    ++run_.seen["other prompt"];
  }
}

// A request starts, and less of its prompt is cached than was thought; or one is moved in, and some of it is lost.
void Simulator::return_prompts() {
  for (const PlannedRows& rows : plan_.rows) {
    Books& books = books_[rows.id];
    const bool moved_in = moved_in_.contains(rows.id);
    const bool started = !rows.decoding && books.computed == rows.rows;
    if ((!started && !moved_in) || random(8) != 0) continue;
    if (moved_in) ++run_.seen["lost while out"];
    const std::uint32_t more = 1 + random(31);
    if (books.computed == books.request.prompt) --books.generated;
    books.request.prompt += more;
    return_prompt(state_, rows.id, more);
    ++run_.seen["prompt returned"];
  }
}

void Simulator::step() {
  change_prompts();
  plan_step(state_, now_, plan_);
  check_plan();
  if (!run_.broken.empty()) return;
  for (const PlannedEnd& e : plan_.ended) {
    ++run_.seen[e.reason == PlannedEnd::Reason::queue_time ? "ended: queue time" : "ended: deadline"];
    books_[e.id].ended = true;
  }
  moved_in_.clear();
  run_.seen["moved out"] += plan_.swapped_out.size();
  for (const PlannedRows& rows : plan_.rows) {
    Books& books = books_[rows.id];
    if (state_.requests[rows.request].state == SchedRequestState::paused) ++run_.seen["went on after a pause"];
    if (state_.requests[rows.request].state == SchedRequestState::swapped) {
      ++run_.seen["moved in"];
      moved_in_.insert(rows.id);
    }
    if (!rows.decoding) books.computed += rows.rows;
    if (books.computed == books.request.prompt) ++books.generated;
    served_[books.request.uid] += rows.rows / static_cast<double>(books.request.weight);
    run_.rows += rows.rows;
  }
  apply_plan(state_, plan_);
  return_prompts();
  check_books();
  check_fairness();
  if (!run_.broken.empty()) return;
  finish();
  ++run_.steps;
  const double noise = random(50) == 0 ? 20 : 0.8 + 0.4 * fraction();
  const double seconds = truth_.seconds(plan_.decode_rows, plan_.prompt_rows) * noise;
  if (!plan_.rows.empty()) {
    state_.cost.observe(plan_.decode_rows, plan_.prompt_rows, seconds);
    now_ += seconds;
  }
}

void Simulator::finish() {
  for (const PlannedRows& rows : plan_.rows) {
    const Books& books = books_[rows.id];
    if (books.generated > 0 && books.generated >= std::min(books.stops_after, books.request.generate))
      end(rows.id, books.generated == books.request.generate ? "ended: length" : "ended: stop");
  }
}

}  // namespace sirocco

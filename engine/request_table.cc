#include "engine/request_table.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace sirocco {
namespace {

double seconds_of(Clock::time_point time) {
  return std::chrono::duration<double>(time.time_since_epoch()).count();
}

std::uint32_t milliseconds_up(double seconds) {
  return static_cast<std::uint32_t>(std::ceil(1000 * seconds));
}

// Of the user and the key; 0: none. That two keys meet is as likely as that the memory fails.
std::uint64_t latest_wins(const GenerateRequest& request) {
  return request.latest_wins_key.empty() ? 0 : std::hash<std::string>()(request.latest_wins_key) | 1U;
}

Error late(const PlannedEnd& end) {
  if (end.reason == PlannedEnd::Reason::queue_time)
    return {ErrorCode::deadline, "it has waited for its first step as long as it may (max_queue_ms)"};
  if (end.estimate == 0) return {ErrorCode::deadline, "the deadline has passed before the answer was complete"};
  return {ErrorCode::deadline,
          fmt::format("the deadline cannot be met: the first token would take {:.2f} s more at least", end.estimate)};
}

}  // namespace

RequestTable::RequestTable(const EngineParts& parts, KvCache& cache, KvSwap& swap) : cache_(cache), swap_(swap) {
  state_.limits = {.max_running = parts.max_running,
                   .max_rows_per_step = parts.max_rows_per_step,
                   .step_time_bound = parts.max_step_seconds,
                   .max_queued = parts.max_queued,
                   .max_queued_per_uid = parts.max_queued_per_uid,
                   .kv_blocks = parts.kv_blocks};
  state_.free_blocks = parts.kv_blocks;
}

Result<Submitted> RequestTable::add(std::unique_ptr<RunningRequest> request, const GenerateRequest& attributes) {
  const double now = seconds_of(Clock::now());
  const double arrival = seconds_of(request->submitted());
  const std::uint32_t cached = cache_.cached_tokens(request->cache_owner(), request->prompt());
  const SchedRequest wanted = {.id = next_id_,
                               .uid = attributes.uid,
                               .request_class = attributes.request_class,
                               .weight = attributes.weight,
                               .arrival = arrival,
                               .deadline = attributes.deadline_ms == 0 ? 0 : arrival + attributes.deadline_ms / 1000.0,
                               .partial_at_deadline = attributes.partial,
                               .max_queue_time = attributes.max_queue_ms / 1000.0,
                               .max_queued = attributes.max_queued,
                               .latest_wins = latest_wins(attributes),
                               .prompt = request->prompt_tokens() - cached,
                               .generate = request->longest() - request->prompt_tokens(),
                               .blocks = cache_.most_blocks(request->longest())};
  const Admission admission = admit_request(state_, wanted, now);
  if (admission.verdict == Admission::Verdict::deadline)
    return fail(ErrorCode::deadline, "the deadline cannot be met: the first token would take {:.2f} s at least",
                admission.estimate);
  if (admission.verdict == Admission::Verdict::busy)
    return fail(Error(ErrorCode::busy,
                      "too many requests are waiting, of all users or of this one (engine.max_queued, max_queued in "
                      "clients); try again later")
                    .worth_retrying_after(milliseconds_up(admission.retry_after)));
  if (admission.verdict == Admission::Verdict::too_long)
    return fail(ErrorCode::context_overflow, "the KV cache is smaller than the longest text of this request");
  while (const auto older = superseded(state_, wanted)) ask_to_end(*older, FinishReason::superseded);

  const auto queued = std::count_if(state_.requests.begin(), state_.requests.end(),
                                    [](const SchedRequest& r) { return r.state == SchedRequestState::queued; });
  const Submitted submitted = {
      .id = next_id_, .prompt_tokens = request->prompt_tokens(), .queue_position = static_cast<std::uint32_t>(queued)};
  request->id = next_id_++;
  submit_request(state_, wanted);
  requests_.emplace(submitted.id, std::move(request));
  return submitted;
}

void RequestTable::ask_to_end(RequestId id, FinishReason reason) {
  if (!requests_.contains(id) || !asked_.emplace(id, reason).second) return;
  end_request(state_, id);  // its blocks are given back with its ending, which comes before the next step
}

Clock::time_point RequestTable::next_deadline() const {
  double earliest = std::numeric_limits<double>::infinity();
  for (const SchedRequest& r : state_.requests) {
    if (r.deadline != 0) earliest = std::min(earliest, r.deadline);
    if (r.max_queue_time != 0 && r.state == SchedRequestState::queued)
      earliest = std::min(earliest, r.arrival + r.max_queue_time);
  }
  if (std::isinf(earliest)) return Clock::time_point::max();
  // Just after it: at the very moment it has not passed.
  return Clock::time_point(std::chrono::ceil<std::chrono::microseconds>(std::chrono::duration<double>(earliest))) +
         std::chrono::microseconds(1);
}

void RequestTable::next(Turn& turn) {
  turn.endings.clear();
  turn.moved_out.clear();
  turn.rows.clear();
  const auto end = [&](RequestId id, std::optional<FinishReason> reason, std::optional<Error> error) {
    const auto at = requests_.find(id);
    give_back(*at->second);  // before the requests that start take theirs
    turn.endings.push_back({.request = std::move(at->second), .reason = reason, .error = std::move(error)});
    requests_.erase(at);
  };
  for (const auto& [id, reason] : asked_) end(id, reason, {});
  asked_.clear();

  refresh_prompts();
  state_.limits.can_swap = can_move_out();
  plan_step(state_, seconds_of(Clock::now()), plan_);
  for (const PlannedEnd& planned : plan_.ended) {
    const bool partial =
        planned.reason == PlannedEnd::Reason::deadline && state_.requests[planned.request].partial_at_deadline;
    if (partial) {
      end(planned.id, FinishReason::deadline, {});
    } else {
      end(planned.id, {}, late(planned));
    }
  }
  for (const std::uint32_t index : plan_.swapped_out)
    turn.moved_out.push_back(requests_.at(state_.requests[index].id).get());
  for (const PlannedRows& planned : plan_.rows) {
    RunningRequest* const request = requests_.at(planned.id).get();
    const bool moves_in = state_.requests[planned.request].state == SchedRequestState::swapped;
    const bool starts = planned.takes_blocks && !moves_in;
    if (starts) request->mark_started();
    turn.rows.push_back({.request = request, .rows = planned.rows, .starts = starts, .moves_in = moves_in});
  }
  turn.decode_rows = plan_.decode_rows;
  turn.prompt_rows = plan_.prompt_rows;
  turn.expected_seconds = plan_.seconds;
  apply_plan(state_, plan_);
  hold_prefixes(turn);
}

// Of a request that needs blocks of others, the planner may choose any of the batch requests that hold some.
bool RequestTable::can_move_out() const {
  const bool wanted = std::any_of(state_.requests.begin(), state_.requests.end(), [&](const SchedRequest& r) {
    return r.request_class == RequestClass::realtime && !r.holds_blocks() && r.blocks > state_.free_blocks;
  });
  if (!wanted) return false;
  std::uint64_t blocks = 0;
  for (const SchedRequest& r : state_.requests)
    if (r.request_class == RequestClass::batch && r.holds_blocks())
      blocks += std::min(r.blocks, cache_.blocks_for(requests_.at(r.id)->cached()));
  return swap_.has_room(blocks);
}

// What others computed meanwhile need not be computed by those that wait, and what was dropped must be.
void RequestTable::refresh_prompts() {
  if (cache_version_ == cache_.version()) return;
  cache_version_ = cache_.version();
  for (const SchedRequest& r : state_.requests) {
    if (r.state != SchedRequestState::queued) continue;
    const RunningRequest& request = *requests_.at(r.id);
    set_prompt(state_, r.id, request.prompt_tokens() - cache_.cached_tokens(request.cache_owner(), request.prompt()));
  }
}

void RequestTable::hold_prefixes(Turn& turn) {
  for (Rows& rows : turn.rows) {
    RunningRequest& request = *rows.request;
    if (rows.starts) {
      request.begin_after(cache_.cached_tokens(request.cache_owner(), request.prompt()));  // as planned
      cache_.hold_prefix(request.cache_owner(), request.prompt(), request.blocks());
    } else if (rows.moves_in) {
      // Where experts were done without, only its own copies are what it had; behind a window there are no others.
      const std::uint32_t first = request.moved_out().first;
      const CacheOwner owner = request.computed().empty() || first > 0 ? kNobody : request.cache_owner();
      cache_.hold_prefix(owner, request.until_next(), request.blocks());
      request.blocks().resize(std::max<std::size_t>(request.blocks().size(), first), kNoBlock);
      rows.restored = static_cast<std::uint32_t>(request.blocks().size());
    }
  }
}

void RequestTable::take_blocks(Turn& turn) {
  for (RunningRequest* const request : turn.moved_out) give_blocks_back(*request);
  for (const Rows& rows : turn.rows) {
    RunningRequest& request = *rows.request;
    if (rows.moves_in) {
      cache_.take_rest(request.moved_out().first, request.longest(), request.blocks());
    } else if (rows.starts) {
      const std::uint32_t planned = request.hit_tokens();
      // No more than planned, though more may be there by now.
      const std::span<const TokenId> beginning = request.prompt().first(planned + 1);
      request.begin_after(cache_.take(request.cache_owner(), beginning, request.longest(), request.blocks()));
      return_prompt(state_, request.id, planned - request.hit_tokens());
    }
    cache_.slide(request.cache_owner(), request.computed(), request.cached(), rows.rows, request.blocks());
  }
}

void RequestTable::go_on(const Turn& turn) {
  for (const Rows& rows : turn.rows) {
    if (!rows.moves_in) continue;
    RunningRequest& request = *rows.request;
    std::uint32_t there = std::min(request.cached(), rows.restored * cache_.block_tokens());
    if (there < request.cached() && cache_.first_block(request.cached()) > 0) {
      // What is before it has been released long ago.
      there = 0;
      cache_.release(std::exchange(request.blocks(), {}));
      cache_.take_rest(0, request.longest(), request.blocks());
    }
    return_prompt(state_, request.id, request.cached() - there);
    request.go_back_to(there);
  }
}

void RequestTable::share_prompt(RunningRequest& request) {
  const std::span<const TokenId> computed = request.computed();
  cache_.insert(request.cache_owner(), computed.first(computed.size() / cache_.block_tokens() * cache_.block_tokens()),
                request.blocks());
}

void RequestTable::give_back(RunningRequest& request) {
  swap_.forget(request);
  give_blocks_back(request);
}

void RequestTable::give_blocks_back(RunningRequest& request) {
  if (request.blocks().empty()) return;  // it has not started, or this has been done
  cache_.insert(request.cache_owner(), request.computed(), request.blocks());
  cache_.release(std::exchange(request.blocks(), {}));
}

std::unique_ptr<RunningRequest> RequestTable::remove(RequestId id) {
  const auto at = requests_.find(id);
  std::unique_ptr<RunningRequest> request = std::move(at->second);
  requests_.erase(at);
  if (asked_.erase(id) == 0) end_request(state_, id);
  return request;
}

std::vector<std::unique_ptr<RunningRequest>> RequestTable::remove_all() {
  std::vector<std::unique_ptr<RunningRequest>> all;
  for (auto& [id, request] : requests_) all.push_back(std::move(request));
  std::sort(all.begin(), all.end(), [](const auto& a, const auto& b) { return a->id < b->id; });
  requests_.clear();
  asked_.clear();
  while (!state_.requests.empty()) end_request(state_, state_.requests.back().id);
  return all;
}

std::vector<EngineStatus::Request> RequestTable::status() const {
  std::vector<EngineStatus::Request> all;
  for (const SchedRequest& r : state_.requests) {
    const RunningRequest& request = *requests_.at(r.id);
    all.push_back({.id = r.id,
                   .state = r.state,
                   .request_class = r.request_class,
                   .prompt_tokens = request.prompt_tokens(),
                   .prefilled_tokens = request.prompt_tokens() - std::min(request.prompt_tokens(), r.prompt),
                   .generated_tokens = request.longest() - request.prompt_tokens() - r.generate,
                   .submitted = request.submitted(),
                   .started = request.started()});
  }
  // Asked to end, and perhaps still in a step.
  for (const auto& [id, reason] : asked_) {
    const RunningRequest& request = *requests_.at(id);
    all.push_back({.id = id,
                   .state = request.started() ? SchedRequestState::running : SchedRequestState::queued,
                   .prompt_tokens = request.prompt_tokens(),
                   .submitted = request.submitted(),
                   .started = request.started()});
  }
  std::sort(all.begin(), all.end(), [](const auto& a, const auto& b) { return a.id < b.id; });
  return all;
}

}  // namespace sirocco

#include "engine/sched/sched_state.h"

#include <algorithm>
#include <cassert>
#include <cmath>

namespace sirocco {

double seconds_alone(const SchedState& state, const SchedRequest& request) {
  if (request.decoding()) return state.cost.step + state.cost.decode_row;
  const double steps = std::ceil(request.prompt / static_cast<double>(state.limits.max_rows_per_step));
  return steps * state.cost.step + request.prompt * state.cost.prompt_row;
}

namespace {

// How long it takes, on average, until one more request has left: all work, with streams sharing steps.
double seconds_per_request(const SchedState& state) {
  double seconds = 0;
  for (const SchedRequest& r : state.requests)
    seconds += r.prompt * (state.cost.prompt_row + state.cost.step / state.limits.max_rows_per_step) +
               r.generate * (state.cost.decode_row + state.cost.step / state.limits.max_running);
  return seconds / static_cast<double>(std::max<std::size_t>(1, state.requests.size()));
}

}  // namespace

Admission admit_request(const SchedState& state, const SchedRequest& request, double now) {
  const SchedLimits& limits = state.limits;
  if (request.blocks > limits.kv_blocks) return {.verdict = Admission::Verdict::too_long};
  if (request.deadline > 0 && !request.partial_at_deadline) {
    const double estimate = seconds_alone(state, request);
    if (now + estimate > request.deadline) return {.verdict = Admission::Verdict::deadline, .estimate = estimate};
  }
  const auto older = superseded(state, request);
  std::uint32_t queued = 0;
  std::uint32_t of_uid = 0;
  for (const SchedRequest& r : state.requests) {
    if (r.state != SchedRequestState::queued || r.id == older) continue;
    ++queued;
    of_uid += r.uid == request.uid ? 1 : 0;
  }
  const std::uint32_t most_of_uid = request.max_queued != 0 ? request.max_queued : limits.max_queued_per_uid;
  if (queued < limits.max_queued && of_uid < most_of_uid) return {};
  return {.verdict = Admission::Verdict::busy, .retry_after = std::clamp(seconds_per_request(state), 0.05, 60.0)};
}

std::optional<RequestId> superseded(const SchedState& state, const SchedRequest& request) {
  if (request.latest_wins == 0) return std::nullopt;
  for (const SchedRequest& r : state.requests)
    if (r.uid == request.uid && r.latest_wins == request.latest_wins && r.id != request.id) return r.id;
  return std::nullopt;
}

void submit_request(SchedState& state, SchedRequest request) {
  assert(request.state == SchedRequestState::queued && request.weight > 0);
  auto& accounts = state.accounts;
  auto at = std::find_if(accounts.begin(), accounts.end(),
                         [&](const Account& a) { return a.uid == request.uid && a.in_use(); });
  if (at == accounts.end()) {
    at = std::find_if(accounts.begin(), accounts.end(), [](const Account& a) { return !a.in_use(); });
    if (at == accounts.end()) at = accounts.insert(at, Account());
    *at = {.uid = request.uid, .requests = 0, .deficit = {}};
  }
  ++at->requests;
  request.account = static_cast<std::uint32_t>(at - accounts.begin());
  state.requests.push_back(request);
}

void release_request(SchedState& state, const SchedRequest& request) {
  if (request.holds_blocks()) state.free_blocks += request.blocks;
  assert(state.free_blocks <= state.limits.kv_blocks);
  --state.accounts[request.account].requests;
}

namespace {

std::vector<SchedRequest>::iterator find_request(SchedState& state, RequestId id) {
  return std::find_if(state.requests.begin(), state.requests.end(), [&](const auto& r) { return r.id == id; });
}

}  // namespace

void set_prompt(SchedState& state, RequestId id, std::uint32_t rows) {
  const auto at = find_request(state, id);
  assert(at->state == SchedRequestState::queued && rows > 0);
  at->prompt = rows;
}

void return_prompt(SchedState& state, RequestId id, std::uint32_t rows) {
  const auto at = find_request(state, id);
  if (rows == 0 || at == state.requests.end()) return;
  if (at->prompt == 0) ++at->generate;  // the step did not compute its last row after all
  at->prompt += rows;
}

bool end_request(SchedState& state, RequestId id) {
  const auto at = find_request(state, id);
  if (at == state.requests.end()) return false;
  release_request(state, *at);
  state.requests.erase(at);
  return true;
}

}  // namespace sirocco

// What the scheduler knows: the requests with their attributes, the free blocks of the KV cache, the limits, what a
// step costs, and who is owed what. Plain values that only the functions here and in step_plan.h change. Owned and
// called by the engine thread; times are seconds on any one clock.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <vector>

#include "engine/base/ids.h"
#include "engine/sched/cost_model.h"

namespace sirocco {

enum class RequestClass : std::uint8_t { realtime, interactive, batch };
constexpr std::size_t kClasses = 3;

enum class SchedRequestState : std::uint8_t {
  queued,
  running,  // had rows in the last step
  paused,   // keeps its KV blocks
  swapped,  // its KV has been moved out; it holds no blocks
};

struct SchedRequest {
  RequestId id = 0;
  std::uint32_t uid = 0;
  RequestClass request_class = RequestClass::interactive;
  std::uint32_t weight = 1;  // tokens of a uid in its class go by it; at least 1
  double arrival = 0;
  double deadline = 0;               // 0: none
  bool partial_at_deadline = false;  // a missed deadline ends it with what there is; else with an error
  double max_queue_time = 0;         // 0: any
  std::uint32_t max_queued = 0;      // of its uid that may wait, it included; 0: limits.max_queued_per_uid
  std::uint64_t latest_wins = 0;     // hash of the client's key; 0: none
  std::uint32_t prompt = 0;          // tokens of the prompt that are not computed yet
  std::uint32_t generate = 0;        // tokens that may still be generated; the last row of the prompt gives the first
  std::uint32_t blocks = 0;          // of its longest text: taken all at once when it starts

  SchedRequestState state = SchedRequestState::queued;
  std::uint64_t started = 0;  // the step in which it started
  std::uint32_t account = 0;  // index into SchedState::accounts, set by submit_request

  bool decoding() const { return prompt == 0; }
  bool holds_blocks() const { return state == SchedRequestState::running || state == SchedRequestState::paused; }
  // Rows that could be computed next: of a stream only the token that was sampled last.
  std::uint32_t pending() const { return prompt > 0 ? prompt : generate > 0 ? 1U : 0U; }
};

struct SchedLimits {
  std::uint32_t max_running = 8;  // sequences in a step; at most max_rows_per_step
  std::uint32_t max_rows_per_step = 512;
  double step_time_bound = 0.25;  // seconds, while streams run; prompts always have a quarter of it
  std::uint32_t max_queued = 64;  // requests
  std::uint32_t max_queued_per_uid = 32;
  std::uint32_t age_steps = 16;      // without a row for a class that could have one, until it goes first
  std::uint32_t fair_tokens = 4096;  // that a uid can be owed at most, for weight 1
  std::uint32_t kv_blocks = 0;       // in all
  bool can_swap = false;             // the engine can move KV out and in again
};

// A uid's standing in each class. Most owed is 0, everybody else stands below by the tokens, divided by the weight,
// that he had more: a deficit counter whose quantum is what brings the most owed one to 0.
struct Account {
  std::uint32_t uid = 0;
  std::uint32_t requests = 0;
  std::array<double, kClasses> deficit = {};

  bool in_use() const { return requests > 0 || deficit[0] < 0 || deficit[1] < 0 || deficit[2] < 0; }
};

struct SchedState {
  SchedLimits limits;
  CostModel cost;
  std::vector<SchedRequest> requests;  // in order of arrival
  std::vector<Account> accounts;       // those not in use are taken again
  std::uint32_t free_blocks = 0;
  std::uint64_t steps = 0;
  std::array<std::uint32_t, kClasses> steps_without = {};  // a row, in a row, though the class has requests
};

// Seconds until the request's next token if it runs alone from the next step on: the shortest answer that it may give.
// Nothing is faster by the cost model, so that what misses its deadline by this estimate misses it in truth, as far as
// the model is true.
double seconds_alone(const SchedState& state, const SchedRequest& request);

struct Admission {
  enum class Verdict : std::uint8_t { accepted, busy, deadline, too_long };
  Verdict verdict = Verdict::accepted;
  double retry_after = 0;  // busy: seconds until a place in the queue should be free
  double estimate = 0;     // deadline: seconds_alone
};

// Refuses with `busy` instead of a longer queue, with `deadline` what cannot have even its first token in
// time, and with `too_long` what could never have its blocks. A request that ends another one by latest-wins is
// judged as if that one had left.
Admission admit_request(const SchedState& state, const SchedRequest& request, double now);

// The request that this one ends: of the same uid, with the same key.
std::optional<RequestId> superseded(const SchedState& state, const SchedRequest& request);

void submit_request(SchedState& state, SchedRequest request);

// Finished, cancelled, disconnected, superseded or failed: gone, with its blocks, at once. False if it is unknown.
bool end_request(SchedState& state, RequestId id);

// Rows of a prompt, as the prefix cache changes: what is left of one that has not started; and after apply_plan, rows
// that were thought to be cached and are not, or that were computed and have been lost. Of an unknown request: ignored.
void set_prompt(SchedState& state, RequestId id, std::uint32_t rows);
void return_prompt(SchedState& state, RequestId id, std::uint32_t rows);

// For step_plan.cc: gives back what the request holds; it is still in the list.
void release_request(SchedState& state, const SchedRequest& request);

}  // namespace sirocco

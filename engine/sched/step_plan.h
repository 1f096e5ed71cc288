// Which requests start, run, pause, move or end, and how many rows each has in the next step: a pure function of the
// state and the time.
//
// - Order: realtime, interactive, batch; inside a class the uid that is owed most, inside a uid what has started, then
//   in order of arrival. The first max_running of that order make the step; who is left out pauses with its KV in
//   place. So a request is never paused for one of a lower class, except:
// - Ageing: a class that had no row for age_steps steps, though it has requests, places one of them ahead of all
//   others, one class a step. A prompt has a quarter of the prompt rows then.
// - Rows: one for every sequence in the step. What is left goes to the prompts, in the same order; beside a realtime
//   prompt no other one has rows, but for an aged one its quarter.
// - Time: while an interactive or realtime stream has begun, prompts are cut so that the step is not expected to take
//   longer than step_time_bound, or than the answers' rows and a quarter of it, if that is longer; no further prompt
//   below realtime joins if even its one row would exceed it, but one always may (fairness yields to that). The
//   promise: no longer than that, or than one row for each sequence if that is longer.
// - Blocks are taken for the longest text at the start. Who stands ahead and lacks blocks is not overtaken by its own
//   or a lower class. Ahead of realtime, an aged class holds back blocks only when it has waited eight times as long.
// - With can_swap, the batch requests that started last are moved out for a realtime request that lacks blocks, if that
//   gives it enough.
//
// A realtime request thus has a row in the next step if fewer than max_running realtime requests are there and its
// blocks are free (or can be made free) and not held back, and from there to its first token its steps have no prompts
// but those of its class (ageing excepted): it waits for the step under way and for its own prompt. And every class
// that can run has a row at least once in age_steps + 2 steps.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "engine/sched/sched_state.h"

namespace sirocco {

struct PlannedRows {
  std::uint32_t request = 0;  // index into SchedState::requests
  RequestId id = 0;
  std::uint32_t rows = 0;  // of its pending tokens, from the first
  bool decoding = false;
  bool takes_blocks = false;  // it starts, or its KV is moved in again (state swapped)
};

struct PlannedEnd {
  enum class Reason : std::uint8_t { deadline, queue_time };
  std::uint32_t request = 0;
  RequestId id = 0;
  Reason reason = Reason::deadline;
  double estimate = 0;  // seconds it would still need, if it has not started and cannot be in time
};

// In the order in which it is to be done: endings, KV out, KV in, rows. Kept from step to step, nothing is allocated
// once the vectors have grown.
struct StepPlan {
  std::vector<PlannedEnd> ended;
  std::vector<std::uint32_t> swapped_out;  // indices into SchedState::requests
  std::vector<PlannedRows> rows;           // empty: nothing can run
  std::uint32_t decode_rows = 0;
  std::uint32_t prompt_rows = 0;
  double seconds = 0;  // that the step is expected to take

  // What plan_step notes for itself and apply_plan.
  enum class Mark : std::uint8_t { none, ended, swapped, chosen };
  std::vector<Mark> marks;             // of each request
  std::vector<std::uint32_t> running;  // those that had rows in the last step
  static constexpr std::uint32_t kNone = UINT32_MAX;
  // The requests of a uid and class that could have a row, in order: those that have started, then those that wait.
  struct Chain {
    struct Part {
      std::uint32_t first = kNone;  // kNone: there are none
      std::uint32_t last = kNone;
    };
    Part started;  // and behind them, in the end, those of the other part
    Part queued;
  };
  std::vector<std::array<Chain, kClasses>> chains;  // of each account
  std::vector<std::uint32_t> behind;                // of each request: the next of its chain
  struct Head {
    std::uint64_t key = 0;  // what is least is next: how much its uid has had, then the order of arrival
    std::uint32_t request = 0;
    std::uint32_t account = 0;
    std::uint32_t ahead = 0;  // of its chain
  };
  std::vector<Head> heads;  // of the chains of a class
};

void plan_step(const SchedState& state, double now, StepPlan& plan);

// The state once the step was taken. A request that may generate nothing more stays until end_request; requests may
// not come or go between plan_step and this.
void apply_plan(SchedState& state, const StepPlan& plan);

}  // namespace sirocco

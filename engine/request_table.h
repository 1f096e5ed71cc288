// Every request that has no ending yet, as the scheduler sees it and as the engine computes it, with its blocks of the
// KV cache. What each step consists of is plan_step's decision; this keeps all sides in step. Guarded by the Engine's
// mutex; what a RunningRequest holds beside its constants belongs to the engine thread.
#pragma once

#include <memory>
#include <unordered_map>
#include <vector>

#include "engine/kv/kv_cache.h"
#include "engine/kv_swap.h"
#include "engine/running_request.h"
#include "engine/sched/step_plan.h"

namespace sirocco {

class RequestTable {
 public:
  RequestTable(const EngineParts& parts, KvCache& cache, KvSwap& swap);

  // A request of the same user with the same key is asked to end. Errors: BUSY, or DEADLINE with the estimate; it is
  // not in the table then.
  Result<Submitted> add(std::unique_ptr<RunningRequest> request, const GenerateRequest& attributes);

  // With what it has, before the next step. Unknown ids are ignored.
  void ask_to_end(RequestId id, FinishReason reason);

  void number_from(RequestId first) { next_id_ = first; }

  bool empty() const { return requests_.empty(); }
  bool contains(RequestId id) const { return requests_.contains(id); }

  // What is to be done next: the endings, which are out of the table; KV that is moved out, and in; then the step.
  struct Ending {
    std::unique_ptr<RunningRequest> request;
    std::optional<FinishReason> reason;  // with what there is; or
    std::optional<Error> error;
  };
  struct Rows {
    RunningRequest* request = nullptr;
    std::uint32_t rows = 0;
    bool starts = false;         // and takes its blocks
    bool moves_in = false;       // likewise, and what lay in others is copied into them
    std::uint32_t restored = 0;  // blocks that have its KV, of one that is moved in
  };
  struct Turn {
    std::vector<Ending> endings;
    std::vector<RunningRequest*> moved_out;
    std::vector<Rows> rows;
    std::uint32_t decode_rows = 0;
    std::uint32_t prompt_rows = 0;
    double expected_seconds = 0;
  };
  // In this order: next, KvSwap::move_out, take_blocks, KvSwap::move_in, go_on. Between them requests may be asked to
  // end; those of the turn stay until the next one.
  void next(Turn& turn);
  void take_blocks(Turn& turn);
  void go_on(const Turn& turn);

  // When a request is to end, or to fail, if it is still there; the earliest. Never: the end of time.
  Clock::time_point next_deadline() const;

  // How long the step of the last turn took.
  void observe(const Turn& turn, double seconds) { state_.cost.observe(turn.decode_rows, turn.prompt_rows, seconds); }

  // Lets others find what a request that goes on has computed of its prompt; and gives back the blocks of one that has
  // ended, of which what it computed stays in the prefix cache.
  void share_prompt(RunningRequest& request);
  void give_back(RunningRequest& request);

  // It has ended: out of the table.
  std::unique_ptr<RunningRequest> remove(RequestId id);
  // Everything that is there.
  std::vector<std::unique_ptr<RunningRequest>> remove_all();

  // In order of arrival.
  std::vector<EngineStatus::Request> status() const;

 private:
  void refresh_prompts();
  bool can_move_out() const;
  void hold_prefixes(Turn& turn);
  void give_blocks_back(RunningRequest& request);

  KvCache& cache_;
  KvSwap& swap_;
  std::uint64_t cache_version_ = 0;  // that the prompts of queued requests agree with
  RequestId next_id_ = 1;
  SchedState state_;
  StepPlan plan_;
  std::unordered_map<RequestId, std::unique_ptr<RunningRequest>> requests_;
  std::unordered_map<RequestId, FinishReason> asked_;  // to end, and still in the table
};

}  // namespace sirocco

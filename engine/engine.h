// The one face of the engine: open a model, submit requests, cancel them, observe. The Engine owns the engine thread,
// which takes steps over the rows of all running requests. What happens to a request is told to the EventSink, on the
// engine thread: it must not wait, and it may be called until close() or the destructor returns.
//
// All but save_hot_set may be called from any thread.
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "engine/backend/backend.h"
#include "engine/base/ids.h"
#include "engine/base/load_progress.h"
#include "engine/base/memory_plan.h"
#include "engine/base/result.h"
#include "engine/experts/residency.h"
#include "engine/kv/kv_cache.h"
#include "engine/kv/swap_file.h"
#include "engine/model/model.h"
#include "engine/pace.h"
#include "engine/sample/sampler.h"
#include "engine/sched/sched_state.h"
#include "engine/sessions.h"
#include "engine/text/chat_format.h"
#include "engine/text/tokenizer.h"

namespace sirocco {

// What a step did and what it took.
struct StepFacts {
  std::uint64_t step = 0;       // of this engine, from 1
  double seconds = 0;           // that it took
  double expected_seconds = 0;  // by what has been learnt of the steps before
  std::uint32_t sequences = 0;
  std::uint32_t decode_rows = 0;
  std::uint32_t prompt_rows = 0;
  std::uint64_t experts_read = 0;  // that were wanted and not in memory
  std::uint64_t bytes_read = 0;    // of experts
  double disk_seconds = 0;         // waited for them
  std::uint64_t major_faults = 0;  // of the process: pages that had to be read
  std::uint64_t preemptions = 0;   // of the process: another had the processor
};
// Told after each step, on the engine thread.
using StepWatch = std::function<void(const StepFacts&)>;

struct EngineOptions {
  std::filesystem::path model = {};
  std::string backend = "auto";
  std::string isa = "auto";             // of the cpu backend, or one of isa_names()
  std::size_t threads = 0;              // 0: every CPU this process may use
  bool pin_threads = false;             // each to a CPU of its own
  std::uint32_t context = 0;            // tokens of one sequence; 0: the model's own
  std::uint32_t max_rows_per_step = 0;  // 0: 64, or 256 where experts are read from disk
  std::uint32_t max_running = 16;       // sequences in a step
  std::uint32_t max_queued = 64;        // requests waiting; more are refused with BUSY
  std::uint32_t max_queued_per_uid = 32;
  // That prompts may make a step last while answers run that are not of the class batch; 0: 0.25, or any time where
  // experts are read from disk, since each piece of a prompt reads nearly all of them.
  double max_step_seconds = 0;
  std::uint64_t kv_tokens = 0;           // of all sequences together; 0: up to four contexts in a quarter of the budget
  TensorType kv_type = TensorType::f16;  // or f32 or q8_0
  CacheShare cache_share = CacheShare::uid;
  SessionOptions sessions = {};
  std::filesystem::path kv_swap = {};     // the folder for KV that is moved out; empty: none is
  std::uint64_t kv_swap_bytes = 4 * GiB;  // that it may take there
  std::uint64_t memory_budget = 0;        // bytes; 0: what is free, less the headroom
  std::uint64_t memory_headroom = 512 * MiB;
  std::uint64_t device_memory = 0;     // bytes of a device's memory; 0: what is free there, less some headroom
  std::string eviction = "lfru";       // which expert leaves, where not all fit: one of policy_names()
  std::filesystem::path hot_set = {};  // where the list of experts in memory is kept between runs; empty: nowhere
  std::filesystem::path read_shape =
      {};                   // where the depth and size of reads that suit the disk are kept; empty: nowhere
  bool foresight = false;   // read what the next layer probably wants while the disk is idle
  LossyOptions lossy = {};  // off, unless asked for
  std::vector<std::string> degraded = {};  // what is known not to work as well as it should, and why
  // So long without a request, and the memory of weights is given back until the next; 0: never.
  std::chrono::milliseconds idle_after{0};
  StepWatch step_watch = {};                    // empty: nobody
  std::shared_ptr<LoadProgress> progress = {};  // null: nobody looks
};

// Gets BOS in front where the model wants one, unless it begins with one.
struct TextPrompt {
  std::string text;
  bool special = false;  // control tokens in the text are control tokens
};
using Prompt = std::variant<TextPrompt, Conversation, std::vector<TokenId>>;

struct GenerateRequest {
  Prompt prompt;
  SamplingParameters sampling;
  std::uint32_t max_tokens = 0;  // 0: as many as the context holds
  std::vector<std::string> stops;
  std::string session = {};   // of the user, that the prompt continues; empty: none
  bool prefill_only = false;  // nothing is generated: the prompt is computed, and appended to the session
  // For the scheduler.
  std::chrono::steady_clock::time_point arrived = std::chrono::steady_clock::now();
  std::uint32_t uid = 0;
  RequestClass request_class = RequestClass::interactive;
  std::uint32_t weight = 1;          // tokens of a user in a class go by it
  std::uint32_t deadline_ms = 0;     // after arrival; 0: none
  bool partial = false;              // at the deadline it ends with what there is; else with an error
  std::uint32_t max_queue_ms = 0;    // until its first step; 0: any time
  std::uint32_t max_queued = 0;      // of the user, this one included; 0: the engine's max_queued_per_uid
  std::string latest_wins_key = {};  // a newer request of the user with the same key ends this one; empty: none
};

enum class FinishReason : std::uint8_t {
  end_token,
  stop_string,
  max_tokens,
  context_full,
  cancelled,
  deadline,
  superseded
};

struct TokensEvent {
  std::vector<TokenId> ids;
  std::string text;  // what has become certain; may lag behind the ids
};
struct DoneEvent {
  FinishReason reason = FinishReason::end_token;
  std::string stop;  // the stop string reached
  std::uint32_t prompt_tokens = 0;
  std::uint32_t cached_tokens = 0;  // of the prompt, that were in the KV cache already
  std::uint32_t generated_tokens = 0;
  std::uint64_t queued_us = 0;      // from arrival to the first step
  std::uint64_t prefill_us = 0;     // from there to the first token
  std::uint64_t decode_us = 0;      // from there to the end
  std::uint64_t lossy_experts = 0;  // that its rows did without (LossyCounts); 0: the answer is exact
  std::uint32_t dropped_turns = 0;  // of the session, so that the prompt fits
};
// Exactly one ending: DoneEvent or Error.
using Event = std::variant<TokensEvent, DoneEvent, Error>;
using EventSink = std::function<void(RequestId, Event&&)>;

// Called once, on the engine thread, when the engine cannot go on: why. Every request has had its ending by then.
using FailureSink = std::function<void(const Error&)>;

struct Submitted {
  RequestId id = 0;
  std::uint32_t prompt_tokens = 0;
  std::uint32_t queue_position = 0;  // requests in front of it
};

// KV of requests that made room for others.
struct KvSwapCounters {
  std::uint64_t requests_out = 0;  // that were moved out, since the start
  std::uint64_t bytes_out = 0;     // likewise
  std::uint64_t bytes_in = 0;
  std::uint64_t bytes_now = 0;  // that are out
};

struct EngineStatus {
  struct Request {
    RequestId id = 0;
    SchedRequestState state = SchedRequestState::queued;
    RequestClass request_class = RequestClass::interactive;
    std::uint32_t prompt_tokens = 0;
    std::uint32_t prefilled_tokens = 0;
    std::uint32_t generated_tokens = 0;
    std::chrono::steady_clock::time_point submitted;
    std::optional<std::chrono::steady_clock::time_point> started;
  };
  std::vector<Request> requests;  // in order of arrival
  std::uint64_t prefill_tokens = 0;
  std::uint64_t decode_tokens = 0;
  double prefill_tokens_per_s = 0;  // recently; the time of a mixed step is shared by rows
  double decode_tokens_per_s = 0;
  KvCounters kv;
  KvSwapCounters kv_swap;
  std::size_t sessions = 0;
  std::vector<std::string> degraded;  // what does not work as well as it should, and why
  MemoryPlan plan;
  std::size_t planned_slots = 0;         // of experts, that the budget buys
  std::size_t planned_device_slots = 0;  // in a device's memory, where it does not hold all
  bool memory_released = false;          // until the next step
  Pace pace;
  std::optional<Error> failure;  // the engine stopped: why
};

// What another budget has led to.
struct BudgetReport {
  std::uint64_t budget = 0;       // bytes
  std::size_t slots = 0;          // that experts have; fewer than planned where others need the memory
  std::size_t planned_slots = 0;  // that the budget buys
  std::size_t experts = 0;        // of the model
};

// What the engine did without for a while.
struct ReleasedMemory {
  std::size_t experts = 0;  // that left their slots
  std::uint64_t bytes = 0;  // by which the resident memory of the process, and its memory on a device, have become less
};

// What an Engine is made of; tests bring their own backend.
struct EngineParts {
  std::shared_ptr<const Tokenizer> tokenizer;
  std::shared_ptr<const ChatFormat> chat;  // null: the file's template is not recognised
  std::optional<Error> chat_error;         // why
  std::shared_ptr<const Model> model;      // null with a fake backend
  std::unique_ptr<ExpertSource> experts;
  SlottedExperts* slotted = nullptr;  // `experts`, where it has slots
  ResidencyPlan residency;
  std::uint64_t memory_reserve = 0;          // bytes that slots leave free on the machine and in the cgroup
  std::uint64_t device_reserve = 128 * MiB;  // likewise, on a device
  std::unique_ptr<Backend> backend;
  std::vector<std::string> warnings;  // what was passed over at the start
  std::vector<std::string> degraded;  // what does not work as well as it should here, and why
  MemoryPlan plan;
  std::uint32_t context = 0;  // at most what the blocks hold
  std::uint32_t kv_blocks = 0;
  std::uint32_t kv_block_tokens = 32;
  std::uint32_t window = 0;  // of the model, in tokens; 0: none
  CacheShare cache_share = CacheShare::uid;
  SessionOptions sessions = {};
  std::unique_ptr<SessionStore> session_store;  // null: they are not saved
  std::unique_ptr<SwapFile> swap_file;          // for KV that is moved out; null: none is
  std::uint32_t max_rows_per_step = 64;
  std::uint32_t max_running = 16;
  std::uint32_t max_queued = 64;
  std::uint32_t max_queued_per_uid = 32;
  double max_step_seconds = 0.25;
  std::chrono::milliseconds idle_after{0};
  StepWatch step_watch = {};  // empty: nobody
};

// A model that can be served: read, checked, its memory planned, and nothing taken for it yet. It stays what it is when
// its file is replaced.
struct PreparedModel {
  EngineOptions options;
  std::shared_ptr<const Model> model;
  std::shared_ptr<const Tokenizer> tokenizer;
  std::shared_ptr<const ChatFormat> chat;  // null: the file's template is not recognised
  std::optional<Error> chat_error;         // why
  bool fits_beside = false;                // what is in memory now
};
// freed: bytes of what is in memory now that will be free before it is opened, where it does not fit beside that.
Result<PreparedModel> prepare_model(const EngineOptions& options, std::uint64_t freed = 0);

class Engine {
 public:
  static Result<std::unique_ptr<Engine>> open(const PreparedModel& model, EventSink sink, FailureSink on_failure);
  static std::unique_ptr<Engine> start(EngineParts parts, EventSink sink, FailureSink on_failure);
  ~Engine();  // close()

  // Checks and tokenises on the calling thread, which may take seconds; a text too long for the context is refused
  // before that. Errors: an impossible request, CONTEXT_OVERFLOW, BUSY, SHUTTING_DOWN. Events may arrive before submit
  // returns: `announce` is called first, with the queue locked, so that the caller knows the id.
  Result<Submitted> submit(const GenerateRequest& request, const std::function<void(const Submitted&)>& announce = {});

  // Ends the request within one step, with what it has: DoneEvent, cancelled. Unknown or ended ids are ignored.
  void cancel(RequestId id);

  // Another memory budget, from here on; 0: the one of the start. Experts' slots give memory back, or take it, before
  // the next layer is computed; requests go on. `done` is called once, when they have, from a thread of the engine; not
  // after an error: a budget that cannot work, a model that is all in memory.
  Result<void> set_budget(std::uint64_t bytes, std::function<void(const BudgetReport&)> done);

  // The same of a device's memory, for what the backend takes of it; 0: as many slots as at the start. Error:
  // OUT_OF_MEMORY with the smallest that works; UNSUPPORTED where no device holds some of the experts.
  Result<void> set_device_budget(std::uint64_t bytes, std::function<void(const BudgetReport&)> done);

  // The memory of weights is given back without waiting for idle_after; the next step takes it again. `done` is called
  // once, when it is given back, on the engine thread. Error: shutting down.
  Result<void> release_memory(std::function<void(const ReleasedMemory&)> done);

  // EngineOptions::idle_after, from here on.
  void set_idle_after(std::chrono::milliseconds idle_after);

  // How much of the time steps may take, from here on. A rest between two steps ends early for a cancel, a deadline, a
  // realtime request and close().
  void set_pace(Pace pace);

  // Requests get the numbers from here on: so that those of an engine that follows another are new.
  void number_requests_from(RequestId first);

  // How often the engine thread has shown that it lives: each time round its loop, and in a step after each layer and
  // each arrival of experts. An idle one shows it when it is asked, soon after.
  std::uint64_t pulse() const;
  void ask_for_pulse();

  // Ends all requests with SHUTTING_DOWN, takes no new ones and stops the engine thread. Idempotent.
  void close();

  // After close(): where the next start finds which experts were in memory (EngineOptions::hot_set). Nothing where all
  // were.
  Result<void> save_hot_set(const std::filesystem::path& file) const;

  Result<std::vector<TokenId>> tokenize(const Prompt& prompt) const;

  // Open, list, fork, rewind, close and save them, and submit requests of them, from one thread at a time.
  Sessions& sessions();

  EngineStatus status() const;
  const EngineParts& parts() const;

 private:
  struct State;
  explicit Engine(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

// Plans the memory and the backend's options for a model, without allocating. Error: OUT_OF_MEMORY with the smallest
// workable budget.
struct EnginePlan {
  BackendOptions backend;
  MemoryPlan memory;
  ResidencyPlan residency;
  std::size_t device_slots = 0;       // for experts, in memory of the device's own; 0: it has all of them, or none
  std::vector<std::string> warnings;  // backends that were passed over, and why
};
Result<EnginePlan> plan_engine(const std::shared_ptr<const Model>& model, const EngineOptions& options);

}  // namespace sirocco

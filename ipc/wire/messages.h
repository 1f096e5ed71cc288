// The messages of the protocol as native types, one per table of ipc/schema/sirocco.fbs, where every field is
// explained. A message that decode() returned has been verified and validated: everything after it trusts it. Values of
// the enumerations are those of the schema.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace sirocco::wire {

enum class MessageType : std::uint16_t {
  hello = 1,
  welcome = 2,
  generate = 3,
  accepted = 4,
  token_batch = 5,
  done = 6,
  error = 7,
  cancel = 8,
  tokenize = 9,
  tokenized = 10,
  detokenize = 11,
  detokenized = 12,
  status = 13,
  status_report = 14,
  set_budget = 15,
  budget_report = 16,
  drain = 17,
  drain_report = 18,
  reload = 19,
  reload_report = 20,
  evict = 21,
  evict_report = 22,
  session = 23,
  session_report = 24,
};

enum class State : std::uint8_t { starting = 1, ready, degraded, draining, no_model, failed };
enum class Role : std::uint8_t { system = 1, user, assistant, tool };
enum class Priority : std::uint8_t { batch = 1, interactive, realtime };
enum class DoneReason : std::uint8_t {
  stop_token = 1,
  stop_string,
  max_tokens,
  context_full,
  cancelled,
  deadline,
  superseded
};
enum class RequestState : std::uint8_t { queued = 1, prefill, decode, paused };
enum class SessionAction : std::uint8_t { open = 1, list, fork, rewind, close };
enum class SessionOverflow : std::uint8_t { fail = 1, drop_oldest };

enum class ErrorCode : std::uint16_t {
  // 1xx: the connection or the frame
  malformed = 100,
  frame_too_large = 101,
  unknown_type = 102,
  invalid_message = 103,
  unexpected_message = 104,
  version_mismatch = 105,
  timeout = 106,
  duplicate_request = 107,
  // 2xx: the request
  invalid_argument = 200,
  not_found = 201,
  permission_denied = 202,
  unsupported = 203,
  context_overflow = 204,
  deadline = 205,
  // 3xx: too much at once
  busy = 300,
  too_many_connections = 301,
  too_many_requests = 302,
  slow_consumer = 303,
  out_of_memory = 304,
  // 4xx: the daemon's state
  shutting_down = 400,
  no_model = 401,
  // 5xx: a failure of the daemon
  internal = 500,
  corrupt = 501,
  io = 502,
  device_failed = 503,
};

struct Hello {
  std::uint16_t version_min = 0;
  std::uint16_t version_max = 0;
  std::string client{};

  bool operator==(const Hello&) const = default;
};

struct ModelCard {
  std::string name{};
  std::string architecture{};
  std::uint64_t parameters = 0;
  std::uint32_t context = 0;
  std::string chat_format{};
  std::string tokenizer{};
  std::uint32_t experts = 0;
  std::uint32_t experts_used = 0;
  std::string quantisation{};
  std::uint64_t file_bytes = 0;

  bool operator==(const ModelCard&) const = default;
};

struct Welcome {
  std::uint16_t version = 0;
  std::string daemon_version{};
  std::vector<std::string> features{};
  std::uint32_t max_payload_bytes = 0;
  std::uint32_t max_in_flight = 0;
  State state = State::starting;
  std::optional<ModelCard> model{};

  bool operator==(const Welcome&) const = default;
};

struct TextPrompt {
  std::string text{};
  bool special = false;

  bool operator==(const TextPrompt&) const = default;
};

struct ToolCall {
  std::string id{};
  std::string name{};
  std::string arguments{};

  bool operator==(const ToolCall&) const = default;
};

struct ChatMessage {
  Role role = Role::user;
  std::string content{};
  std::vector<ToolCall> tool_calls{};
  std::string tool_call_id{};

  bool operator==(const ChatMessage&) const = default;
};

struct ChatPrompt {
  std::vector<ChatMessage> messages{};
  std::string tools{};

  bool operator==(const ChatPrompt&) const = default;
};

struct TokenPrompt {
  std::vector<std::int32_t> ids{};

  bool operator==(const TokenPrompt&) const = default;
};

using Prompt = std::variant<TextPrompt, ChatPrompt, TokenPrompt>;

struct Sampling {
  float temperature = 0;
  std::uint32_t top_k = 0;
  float top_p = 1;
  float min_p = 0;
  float repetition_penalty = 1;
  float frequency_penalty = 0;
  float presence_penalty = 0;
  std::uint64_t seed = 0;
  std::vector<std::pair<std::int32_t, float>> logit_bias{};

  bool operator==(const Sampling&) const = default;
};

struct Generate {
  Prompt prompt{};
  bool raw = false;
  Sampling sampling{};
  std::vector<std::string> stop{};
  std::uint32_t max_tokens = 0;
  bool omit_ids = false;
  Priority priority = Priority::interactive;
  std::uint32_t deadline_ms = 0;
  std::string latest_wins_key{};
  std::string session{};
  bool partial = false;
  std::uint32_t max_queue_ms = 0;
  bool prefill_only = false;

  bool operator==(const Generate&) const = default;
};

struct Accepted {
  std::uint32_t prompt_tokens = 0;
  std::uint32_t queue_position = 0;

  bool operator==(const Accepted&) const = default;
};

struct TokenBatch {
  std::vector<std::int32_t> ids{};
  std::string text{};

  bool operator==(const TokenBatch&) const = default;
};

struct Done {
  DoneReason reason = DoneReason::stop_token;
  std::string stop_string{};
  std::uint32_t prompt_tokens = 0;
  std::uint32_t generated_tokens = 0;
  std::uint64_t queued_us = 0;
  std::uint64_t prefill_us = 0;
  std::uint64_t decode_us = 0;
  std::uint64_t lossy_experts = 0;
  std::uint32_t cached_tokens = 0;
  std::uint32_t dropped_turns = 0;

  bool operator==(const Done&) const = default;
};

// Its name on the wire is error_name(code).
struct Error {
  ErrorCode code = ErrorCode::internal;
  std::string message{};
  std::uint32_t retry_after_ms = 0;

  bool operator==(const Error&) const = default;
};

struct Cancel {
  bool operator==(const Cancel&) const = default;
};

struct Tokenize {
  std::string text{};
  bool special = false;
  bool bos = false;

  bool operator==(const Tokenize&) const = default;
};

struct Tokenized {
  std::vector<std::int32_t> ids{};

  bool operator==(const Tokenized&) const = default;
};

struct Detokenize {
  std::vector<std::int32_t> ids{};

  bool operator==(const Detokenize&) const = default;
};

struct Detokenized {
  std::string text{};

  bool operator==(const Detokenized&) const = default;
};

struct Status {
  bool operator==(const Status&) const = default;
};

struct MemoryItem {
  std::string name{};
  std::uint64_t bytes = 0;
  std::string note{};

  bool operator==(const MemoryItem&) const = default;
};

struct ActiveRequest {
  std::uint64_t id = 0;
  std::uint32_t uid = 0;
  std::int32_t pid = 0;
  RequestState state = RequestState::queued;
  std::uint32_t prompt_tokens = 0;
  std::uint32_t generated = 0;
  Priority priority = Priority::interactive;
  std::uint64_t age_ms = 0;
  std::uint64_t queued_ms = 0;

  bool operator==(const ActiveRequest&) const = default;
};

struct ExpertLayer {
  std::uint32_t slots = 0;
  std::uint64_t hits = 0;
  std::uint64_t misses = 0;
  std::uint64_t evictions = 0;
  std::uint64_t bytes_read = 0;
  std::uint64_t waited_ms = 0;

  bool operator==(const ExpertLayer&) const = default;
};

struct ExpertReport {
  std::uint32_t slots = 0;
  std::uint32_t experts = 0;
  std::uint64_t hits = 0;
  std::uint64_t misses = 0;
  std::uint64_t evictions = 0;
  std::uint64_t bytes_read = 0;
  std::uint64_t failures = 0;
  std::uint64_t waited_ms = 0;
  std::string reads{};
  std::uint32_t planned_slots = 0;
  std::uint64_t reading_ms = 0;
  std::vector<ExpertLayer> layers{};
  std::uint64_t skipped = 0;
  std::uint64_t substituted = 0;

  bool operator==(const ExpertReport&) const = default;
};

struct CacheReport {
  std::uint32_t blocks = 0;
  std::uint32_t block_tokens = 0;
  std::uint32_t available = 0;
  std::uint32_t cached = 0;
  std::uint64_t hit_tokens = 0;
  std::uint64_t evicted_blocks = 0;
  std::uint32_t sessions = 0;
  std::uint64_t moved_out = 0;
  std::uint64_t moved_out_bytes = 0;

  bool operator==(const CacheReport&) const = default;
};

struct PowerReport {
  double duty = 1;
  std::string zone{};
  double celsius = 0;
  double limit_celsius = 0;

  bool operator==(const PowerReport&) const = default;
};

struct DeviceReport {
  std::string name{};
  std::string driver{};
  std::string architecture{};
  bool integrated = false;
  std::uint64_t memory_bytes = 0;
  std::uint64_t used_bytes = 0;
  std::uint64_t arena_bytes = 0;
  std::uint32_t slots = 0;
  std::uint32_t planned_slots = 0;
  std::uint64_t hits = 0;
  std::uint64_t misses = 0;
  std::uint32_t clock_mhz = 0;
  std::uint32_t max_clock_mhz = 0;
  double celsius = 0;
  std::string throttled{};
  std::string unknown{};
  std::uint32_t experts = 0;

  bool operator==(const DeviceReport&) const = default;
};

struct StatusReport {
  std::string daemon_version{};
  State state = State::starting;
  std::vector<std::string> reasons{};
  std::optional<ModelCard> model{};
  std::vector<MemoryItem> memory{};
  std::uint32_t requests_running = 0;
  std::uint32_t requests_queued = 0;
  std::uint64_t requests_done = 0;
  std::uint64_t requests_failed = 0;
  std::uint64_t tokens_prefilled = 0;
  std::uint64_t tokens_generated = 0;
  double prefill_tokens_per_s = 0;
  double decode_tokens_per_s = 0;
  std::uint64_t uptime_ms = 0;
  std::string backend{};
  std::string isa{};
  std::uint32_t threads = 0;
  std::uint32_t connections = 0;
  std::vector<ActiveRequest> active{};
  std::optional<ExpertReport> experts{};
  bool memory_released = false;
  std::optional<CacheReport> cache{};
  std::optional<PowerReport> power{};
  std::optional<DeviceReport> device{};

  bool operator==(const StatusReport&) const = default;
};

struct SetBudget {
  std::uint64_t bytes = 0;
  bool device = false;

  bool operator==(const SetBudget&) const = default;
};

struct BudgetReport {
  std::uint64_t bytes = 0;
  std::uint32_t slots = 0;
  std::uint32_t planned_slots = 0;
  std::uint32_t experts = 0;

  bool operator==(const BudgetReport&) const = default;
};

struct Drain {
  bool undo = false;
  bool stop = false;

  bool operator==(const Drain&) const = default;
};

struct DrainReport {
  bool draining = false;
  std::uint32_t requests = 0;

  bool operator==(const DrainReport&) const = default;
};

struct Reload {
  std::string model{};

  bool operator==(const Reload&) const = default;
};

struct ReloadReport {
  std::optional<ModelCard> model{};
  bool loaded = false;
  std::vector<std::string> need_restart{};

  bool operator==(const ReloadReport&) const = default;
};

struct Evict {
  bool operator==(const Evict&) const = default;
};

struct EvictReport {
  std::uint32_t experts = 0;
  std::uint64_t bytes = 0;

  bool operator==(const EvictReport&) const = default;
};

struct Session {
  SessionAction action = SessionAction::list;
  std::string name{};
  std::string to{};
  std::uint32_t turns = 0;
  SessionOverflow overflow = SessionOverflow::fail;
  bool save = false;

  bool operator==(const Session&) const = default;
};

struct SessionState {
  std::string name{};
  std::uint32_t uid = 0;
  std::uint32_t turns = 0;
  std::uint32_t tokens = 0;
  SessionOverflow overflow = SessionOverflow::fail;
  bool busy = false;
  std::uint64_t idle_ms = 0;
  std::uint64_t saved_bytes = 0;

  bool operator==(const SessionState&) const = default;
};

struct SessionReport {
  std::vector<SessionState> sessions{};

  bool operator==(const SessionReport&) const = default;
};

// In the order of MessageType, which is index() + 1.
using Message = std::variant<Hello, Welcome, Generate, Accepted, TokenBatch, Done, Error, Cancel, Tokenize, Tokenized,
                             Detokenize, Detokenized, Status, StatusReport, SetBudget, BudgetReport, Drain, DrainReport,
                             Reload, ReloadReport, Evict, EvictReport, Session, SessionReport>;

inline MessageType message_type(const Message& message) {
  return static_cast<MessageType>(message.index() + 1);
}

// "Generate"; empty for a number that is no MessageType.
std::string_view message_name(MessageType type);

// "CONTEXT_OVERFLOW": stable, written to clients and logs. Empty for a number that is no ErrorCode.
std::string_view error_name(ErrorCode code);

// As written in the schema: "READY", "MAX_TOKENS", "QUEUED". Empty for a number outside the enumeration.
std::string_view state_name(State state);
std::string_view done_reason_name(DoneReason reason);
std::string_view request_state_name(RequestState state);
std::string_view priority_name(Priority priority);
std::string_view overflow_name(SessionOverflow overflow);

}  // namespace sirocco::wire

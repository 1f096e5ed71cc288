#include "daemon/conversion.h"

#include <algorithm>
#include <chrono>
#include <map>

#include "ipc/wire/limits.h"

namespace sirocco::daemon {
namespace {

// Before another try: by then a queue has moved on, or a daemon that systemd restarts is back.
constexpr std::uint32_t kRetryMs = 1000;

bool worth_retrying(ErrorCode code) {
  return code == ErrorCode::busy || code == ErrorCode::shutting_down || code == ErrorCode::device_failed;
}

wire::ErrorCode to_wire(ErrorCode code) {
  switch (code) {
    case ErrorCode::internal:
      return wire::ErrorCode::internal;
    case ErrorCode::invalid_argument:
      return wire::ErrorCode::invalid_argument;
    case ErrorCode::not_found:
      return wire::ErrorCode::not_found;
    case ErrorCode::permission_denied:
      return wire::ErrorCode::permission_denied;
    case ErrorCode::unsupported:
      return wire::ErrorCode::unsupported;
    case ErrorCode::corrupt:
      return wire::ErrorCode::corrupt;
    case ErrorCode::io:
      return wire::ErrorCode::io;
    case ErrorCode::device_failed:
      return wire::ErrorCode::device_failed;
    case ErrorCode::out_of_memory:
      return wire::ErrorCode::out_of_memory;
    case ErrorCode::context_overflow:
      return wire::ErrorCode::context_overflow;
    case ErrorCode::busy:
      return wire::ErrorCode::busy;
    case ErrorCode::deadline:
      return wire::ErrorCode::deadline;
    case ErrorCode::shutting_down:
      return wire::ErrorCode::shutting_down;
    case ErrorCode::cancelled:
      break;  // an ending of its own: Done
  }
  return wire::ErrorCode::internal;
}

wire::DoneReason to_wire(FinishReason reason) {
  switch (reason) {
    case FinishReason::end_token:
      return wire::DoneReason::stop_token;
    case FinishReason::stop_string:
      return wire::DoneReason::stop_string;
    case FinishReason::max_tokens:
      return wire::DoneReason::max_tokens;
    case FinishReason::context_full:
      return wire::DoneReason::context_full;
    case FinishReason::deadline:
      return wire::DoneReason::deadline;
    case FinishReason::superseded:
      return wire::DoneReason::superseded;
    case FinishReason::cancelled:
      break;
  }
  return wire::DoneReason::cancelled;
}

RequestClass class_of(wire::Priority priority) {
  switch (priority) {
    case wire::Priority::batch:
      return RequestClass::batch;
    case wire::Priority::realtime:
      return RequestClass::realtime;
    case wire::Priority::interactive:
      break;
  }
  return RequestClass::interactive;
}

wire::Priority to_wire(RequestClass request_class) {
  switch (request_class) {
    case RequestClass::batch:
      return wire::Priority::batch;
    case RequestClass::realtime:
      return wire::Priority::realtime;
    case RequestClass::interactive:
      break;
  }
  return wire::Priority::interactive;
}

wire::RequestState to_wire(const EngineStatus::Request& request) {
  if (request.state == SchedRequestState::queued) return wire::RequestState::queued;
  if (request.state != SchedRequestState::running) return wire::RequestState::paused;
  return request.generated_tokens == 0 ? wire::RequestState::prefill : wire::RequestState::decode;
}

Role from_wire(wire::Role role) {
  switch (role) {
    case wire::Role::system:
      return Role::system;
    case wire::Role::user:
      return Role::user;
    case wire::Role::assistant:
      return Role::assistant;
    case wire::Role::tool:
      break;
  }
  return Role::tool;
}

Conversation conversation_of(wire::ChatPrompt&& prompt) {
  Conversation conversation;
  conversation.tools = std::move(prompt.tools);
  for (wire::ChatMessage& from : prompt.messages) {
    ChatMessage& to = conversation.messages.emplace_back();
    to.role = from_wire(from.role);
    to.content = std::move(from.content);
    to.tool_call_id = std::move(from.tool_call_id);
    for (wire::ToolCall& call : from.tool_calls)
      to.tool_calls.push_back({std::move(call.id), std::move(call.name), std::move(call.arguments)});
  }
  return conversation;
}

// The type that most of the file's bytes are in.
std::string quantisation(const GgufFile& file) {
  std::map<std::string_view, std::uint64_t> bytes;
  for (const GgufTensor& tensor : file.tensors()) bytes[tensor_type_info(tensor.type)->name] += tensor.bytes;
  const auto most = std::max_element(bytes.begin(), bytes.end(), [](auto& a, auto& b) { return a.second < b.second; });
  return most == bytes.end() ? "" : std::string(most->first);
}

}  // namespace

wire::Error to_wire(const Error& error) {
  return {.code = to_wire(error.code()),
          .message = error.message(),
          .retry_after_ms = error.retry_after_ms() != 0    ? error.retry_after_ms()
                            : worth_retrying(error.code()) ? kRetryMs
                                                           : 0};
}

wire::Done to_wire(const DoneEvent& done) {
  return {.reason = to_wire(done.reason),
          .stop_string = done.stop,
          .prompt_tokens = done.prompt_tokens,
          .generated_tokens = done.generated_tokens,
          .queued_us = done.queued_us,
          .prefill_us = done.prefill_us,
          .decode_us = done.decode_us,
          .lossy_experts = done.lossy_experts,
          .cached_tokens = done.cached_tokens,
          .dropped_turns = done.dropped_turns};
}

wire::ModelCard model_card(const EngineParts& parts) {
  wire::ModelCard card;
  card.context = parts.context;
  card.chat_format = parts.chat ? parts.chat->name() : "";
  card.tokenizer = parts.tokenizer->kind();
  if (!parts.model) return card;
  const ModelSpec& spec = parts.model->spec();
  card.name = spec.name;
  card.architecture = spec.architecture;
  card.parameters = parts.model->sizes().parameters;
  card.experts = spec.moe ? spec.moe->experts : 0;
  card.experts_used = spec.moe ? spec.moe->used : 0;
  card.quantisation = quantisation(parts.model->file());
  card.file_bytes = parts.model->sizes().dense_bytes + parts.model->sizes().expert_bytes;
  return card;
}

Result<GenerateRequest> from_wire(wire::Generate&& generate, std::uint32_t uid, const ClientPolicy& policy) {
  GenerateRequest request;
  if (auto* text = std::get_if<wire::TextPrompt>(&generate.prompt)) {
    if (generate.raw) {
      request.prompt = TextPrompt{.text = std::move(text->text), .special = text->special};
    } else {
      Conversation conversation;
      conversation.messages.emplace_back().content = std::move(text->text);
      request.prompt = std::move(conversation);
    }
  } else if (auto* chat = std::get_if<wire::ChatPrompt>(&generate.prompt)) {
    request.prompt = conversation_of(std::move(*chat));
  } else {
    request.prompt = std::move(std::get<wire::TokenPrompt>(generate.prompt).ids);
  }
  const wire::Sampling& sampling = generate.sampling;
  request.sampling = {.temperature = sampling.temperature,
                      .top_k = sampling.top_k,
                      .top_p = sampling.top_p,
                      .min_p = sampling.min_p,
                      .repetition_penalty = sampling.repetition_penalty,
                      .frequency_penalty = sampling.frequency_penalty,
                      .presence_penalty = sampling.presence_penalty,
                      .seed = sampling.seed,
                      .logit_bias = sampling.logit_bias};
  request.max_tokens = generate.max_tokens;
  request.stops = std::move(generate.stop);
  request.session = std::move(generate.session);
  request.prefill_only = generate.prefill_only;
  request.uid = uid;
  request.weight = policy.weight;
  request.max_queued = policy.max_queued;
  request.request_class = class_of(generate.priority);
  request.deadline_ms = generate.deadline_ms;
  request.partial = generate.partial;
  request.max_queue_ms = generate.max_queue_ms;
  request.latest_wins_key = std::move(generate.latest_wins_key);
  return request;
}

namespace {

wire::ExpertReport expert_report(const EngineStatus& status, const SlottedExperts& experts) {
  const ExpertCounters counters = experts.counters();
  wire::ExpertReport report = {.slots = static_cast<std::uint32_t>(experts.slots()),
                               .experts = static_cast<std::uint32_t>(experts.experts()),
                               .hits = counters.hits,
                               .misses = counters.misses,
                               .evictions = counters.evictions,
                               .bytes_read = counters.bytes_read,
                               .failures = counters.failures,
                               .waited_ms = counters.wait_ns / 1'000'000,
                               .reads = experts.reads(),
                               .planned_slots = static_cast<std::uint32_t>(status.planned_slots),
                               .reading_ms = experts.reading_ns() / 1'000'000,
                               .skipped = counters.skipped,
                               .substituted = counters.substituted};
  for (std::uint32_t layer = 0; layer < std::min<std::size_t>(experts.layers(), wire::kMaxLayers); ++layer) {
    const ExpertCounters of = experts.counters(layer);
    report.layers.push_back({.slots = experts.slots_of(layer),
                             .hits = of.hits,
                             .misses = of.misses,
                             .evictions = of.evictions,
                             .bytes_read = of.bytes_read,
                             .waited_ms = of.wait_ns / 1'000'000});
  }
  return report;
}

wire::DeviceReport device_report(const EngineParts& parts, const EngineStatus& status, const DeviceState& device) {
  wire::DeviceReport report = {.name = device.name,
                               .driver = device.driver,
                               .architecture = device.architecture,
                               .integrated = device.integrated,
                               .memory_bytes = device.memory,
                               .used_bytes = device.used,
                               .arena_bytes = device.arena,
                               .clock_mhz = device.clock_mhz.value_or(0),
                               .max_clock_mhz = device.most_mhz.value_or(0),
                               .celsius = device.celsius.value_or(0),
                               .throttled = device.throttled,
                               .unknown = device.unknown};
  if (const ExpertSlots* const slots = parts.backend->device_slots(); slots != nullptr) {
    const ExpertCounters counters = slots->counters();
    report.slots = static_cast<std::uint32_t>(slots->slots());
    report.planned_slots = static_cast<std::uint32_t>(status.planned_device_slots);
    report.experts = static_cast<std::uint32_t>(slots->experts());
    report.hits = counters.hits;
    report.misses = counters.misses;
  }
  return report;
}

}  // namespace

wire::State state_of(const EngineStatus& status) {
  if (status.failure) return wire::State::failed;
  return status.degraded.empty() ? wire::State::ready : wire::State::degraded;
}

void fill_status(const EngineParts& parts, const EngineStatus& status, wire::StatusReport& report) {
  if (status.failure) report.reasons.push_back(status.failure->message());
  report.reasons.insert(report.reasons.end(), status.degraded.begin(), status.degraded.end());
  report.backend = parts.backend->name();
  report.isa = parts.backend->isa();
  report.threads = static_cast<std::uint32_t>(parts.backend->threads());
  report.tokens_prefilled = status.prefill_tokens;
  report.tokens_generated = status.decode_tokens;
  report.prefill_tokens_per_s = status.prefill_tokens_per_s;
  report.decode_tokens_per_s = status.decode_tokens_per_s;
  report.memory.push_back(
      {.name = "budget", .bytes = status.plan.budget, .note = "what the lines marked * may take together"});
  for (const MemoryPlan::Line& line : status.plan.lines)
    report.memory.push_back({.name = (line.charged ? "* " : "") + line.name, .bytes = line.bytes, .note = line.note});
  report.memory_released = status.memory_released;
  if (parts.slotted != nullptr) report.experts = expert_report(status, *parts.slotted);
  report.cache = wire::CacheReport{.blocks = status.kv.blocks,
                                   .block_tokens = parts.kv_block_tokens,
                                   .available = status.kv.available,
                                   .cached = status.kv.cached,
                                   .hit_tokens = status.kv.hit_tokens,
                                   .evicted_blocks = status.kv.evicted_blocks,
                                   .sessions = static_cast<std::uint32_t>(status.sessions),
                                   .moved_out = status.kv_swap.requests_out,
                                   .moved_out_bytes = status.kv_swap.bytes_now};
  report.power = wire::PowerReport{.duty = status.pace.duty,
                                   .zone = status.pace.zone,
                                   .celsius = status.pace.celsius,
                                   .limit_celsius = status.pace.limit_celsius};
  if (const auto device = parts.backend->device_state()) report.device = device_report(parts, status, *device);
  const auto now = std::chrono::steady_clock::now();
  const auto milliseconds = [](auto duration) {
    return static_cast<std::uint64_t>(std::chrono::duration_cast<std::chrono::milliseconds>(duration).count());
  };
  for (const EngineStatus::Request& request : status.requests) {
    const bool queued = request.state == SchedRequestState::queued;
    report.requests_running += queued ? 0 : 1;
    report.requests_queued += queued ? 1 : 0;
    if (report.active.size() >= wire::kMaxActiveRequests) continue;
    report.active.push_back({.id = request.id,
                             .uid = 0,
                             .pid = 0,
                             .state = to_wire(request),
                             .prompt_tokens = request.prompt_tokens,
                             .generated = request.generated_tokens,
                             .priority = to_wire(request.request_class),
                             .age_ms = milliseconds(now - request.submitted),
                             .queued_ms = milliseconds(request.started.value_or(now) - request.submitted)});
  }
}

}  // namespace sirocco::daemon

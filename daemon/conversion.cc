#include "daemon/conversion.h"

#include <algorithm>
#include <map>

namespace sirocco::daemon {
namespace {

// Before another try: by then a queue has moved on, or a daemon that systemd restarts is back.
constexpr std::uint32_t kRetryMs = 1000;

bool worth_retrying(ErrorCode code) {
  return code == ErrorCode::busy || code == ErrorCode::shutting_down;
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
    case FinishReason::cancelled:
      break;
  }
  return wire::DoneReason::cancelled;
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
          .retry_after_ms = worth_retrying(error.code()) ? kRetryMs : 0};
}

wire::Done to_wire(const DoneEvent& done) {
  return {.reason = to_wire(done.reason),
          .stop_string = done.stop,
          .prompt_tokens = done.prompt_tokens,
          .generated_tokens = done.generated_tokens,
          .queued_us = done.queued_us,
          .prefill_us = done.prefill_us,
          .decode_us = done.decode_us,
          .lossy_experts = done.lossy_experts};
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

Result<GenerateRequest> from_wire(wire::Generate&& generate) {
  const auto unsupported = [](std::string_view field) {
    return fail(ErrorCode::unsupported, "Generate.{} is not supported by this version of the daemon: leave it out",
                field);
  };
  if (generate.priority != wire::Priority::normal) return unsupported("priority");
  if (generate.deadline_ms != 0) return unsupported("deadline_ms");
  if (!generate.latest_wins_key.empty()) return unsupported("latest_wins_key");
  if (!generate.session.empty()) return unsupported("session");

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
  return request;
}

void fill_status(const Engine& engine, wire::StatusReport& report) {
  const EngineParts& parts = engine.parts();
  const EngineStatus status = engine.status();
  report.state = status.failure ? wire::State::failed : wire::State::ready;
  if (status.failure) report.reasons.push_back(status.failure->message());
  report.reasons.insert(report.reasons.end(), parts.degraded.begin(), parts.degraded.end());
  if (parts.slotted != nullptr && parts.slotted->counters().failures != 0)
    report.reasons.push_back(
        fmt::format("{} reads of experts failed: look at the disk (dmesg)", parts.slotted->counters().failures));
  if (!status.failure && !report.reasons.empty()) report.state = wire::State::degraded;
  report.backend = parts.backend->name();
  report.isa = parts.backend->isa();
  report.threads = static_cast<std::uint32_t>(parts.backend->threads());
  report.tokens_prefilled = status.prefill_tokens;
  report.tokens_generated = status.decode_tokens;
  report.prefill_tokens_per_s = status.prefill_tokens_per_s;
  report.decode_tokens_per_s = status.decode_tokens_per_s;
  report.memory.push_back(
      {.name = "budget", .bytes = parts.plan.budget, .note = "what the lines marked * may take together"});
  for (const MemoryPlan::Line& line : parts.plan.lines)
    report.memory.push_back({.name = (line.charged ? "* " : "") + line.name, .bytes = line.bytes, .note = line.note});
  if (parts.slotted != nullptr) {
    const ExpertCounters counters = parts.slotted->counters();
    report.experts = wire::ExpertReport{.slots = static_cast<std::uint32_t>(parts.slotted->slots()),
                                        .experts = static_cast<std::uint32_t>(parts.slotted->experts()),
                                        .hits = counters.hits,
                                        .misses = counters.misses,
                                        .evictions = counters.evictions,
                                        .bytes_read = counters.bytes_read,
                                        .failures = counters.failures,
                                        .waited_ms = counters.wait_ns / 1'000'000,
                                        .reads = std::string(parts.slotted->queue_kind()),
                                        .skipped = counters.skipped,
                                        .substituted = counters.substituted};
  }
  for (const EngineStatus::Request& request : status.requests) {
    report.requests_running += request.running ? 1 : 0;
    report.requests_queued += request.running ? 0 : 1;
    if (report.active.size() >= 256) continue;
    report.active.push_back({.id = request.id,
                             .uid = 0,
                             .pid = 0,
                             .state = !request.running                ? wire::RequestState::queued
                                      : request.generated_tokens == 0 ? wire::RequestState::prefill
                                                                      : wire::RequestState::decode,
                             .prompt_tokens = request.prompt_tokens,
                             .generated = request.generated_tokens});
  }
}

}  // namespace sirocco::daemon

#include "ipc/wire/validate.h"

#include <algorithm>
#include <cmath>
#include <span>

#include "ipc/wire/limits.h"
#include "ipc/wire/utf8.h"

namespace sirocco::wire {
namespace {

using Valid = tl::expected<void, WireError>;

template <class... Args>
tl::unexpected<WireError> invalid(fmt::format_string<Args...> format, Args&&... args) {
  return refuse(ErrorCode::invalid_message, format, std::forward<Args>(args)...);
}

#define CHECK_FIELD(expression) \
  if (Valid result = (expression); !result) return result

Valid text(std::string_view field, std::string_view value, std::size_t max_bytes) {
  if (value.size() > max_bytes) return invalid("{}: {} bytes, at most {}", field, value.size(), max_bytes);
  if (!is_utf8(value)) return invalid("{}: not well-formed UTF-8", field);
  return {};
}

// A text that is shown in logs and lists: no control characters.
Valid name(std::string_view field, std::string_view value, std::size_t max_bytes = kMaxNameBytes) {
  CHECK_FIELD(text(field, value, max_bytes));
  const auto control = [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7F; };
  if (std::ranges::any_of(value, control)) return invalid("{}: has control characters", field);
  return {};
}

// A name that a client makes up for something of its own.
Valid key(std::string_view field, std::string_view value) {
  CHECK_FIELD(text(field, value, kMaxKeyBytes));
  const auto allowed = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' || c == '_' ||
           c == '-' || c == ':';
  };
  if (!std::ranges::all_of(value, allowed)) {
    return invalid("{}: may have only letters, digits and the characters . _ - :", field);
  }
  return {};
}

Valid count(std::string_view field, std::size_t value, std::size_t max) {
  if (value > max) return invalid("{}: {} entries, at most {}", field, value, max);
  return {};
}

template <class Enum>
Valid enumeration(std::string_view field, Enum value, Enum last) {
  const auto number = static_cast<unsigned>(value);
  if (number < 1 || number > static_cast<unsigned>(last)) {
    return invalid("{}: {} is not one of 1 to {}", field, number, static_cast<unsigned>(last));
  }
  return {};
}

Valid number(std::string_view field, double value, double low, double high) {
  if (!(value >= low && value <= high)) return invalid("{}: {} is not within {} to {}", field, value, low, high);
  return {};
}

Valid token_ids(std::string_view field, std::span<const std::int32_t> ids, std::size_t max) {
  CHECK_FIELD(count(field, ids.size(), max));
  const auto negative = std::ranges::find_if(ids, [](std::int32_t id) { return id < 0; });
  if (negative != ids.end()) return invalid("{}[{}]: {} is negative", field, negative - ids.begin(), *negative);
  return {};
}

Valid check(const Hello& hello) {
  if (hello.version_min == 0 || hello.version_min > hello.version_max) {
    return invalid("Hello.version_min: {} to version_max {} is no range of versions from 1", hello.version_min,
                   hello.version_max);
  }
  return name("Hello.client", hello.client, kMaxClientBytes);
}

Valid check(const ModelCard& card) {
  CHECK_FIELD(name("ModelCard.name", card.name));
  CHECK_FIELD(name("ModelCard.architecture", card.architecture));
  CHECK_FIELD(name("ModelCard.chat_format", card.chat_format));
  CHECK_FIELD(name("ModelCard.tokenizer", card.tokenizer));
  return name("ModelCard.quantisation", card.quantisation);
}

Valid check(const Welcome& welcome) {
  if (welcome.version == 0) return invalid("Welcome.version: 0, the first version is 1");
  CHECK_FIELD(name("Welcome.daemon_version", welcome.daemon_version));
  CHECK_FIELD(count("Welcome.features", welcome.features.size(), kMaxFeatures));
  for (const std::string& feature : welcome.features) CHECK_FIELD(name("Welcome.features", feature));
  CHECK_FIELD(enumeration("Welcome.state", welcome.state, State::failed));
  return welcome.model ? check(*welcome.model) : Valid{};
}

Valid check(const TextPrompt& prompt) {
  return text("Generate.prompt.text", prompt.text, kMaxTextBytes);
}

Valid check(const ToolCall& call) {
  CHECK_FIELD(name("ToolCall.id", call.id));
  CHECK_FIELD(name("ToolCall.name", call.name));
  return text("ToolCall.arguments", call.arguments, kMaxTextBytes);
}

Valid check(const ChatMessage& message) {
  CHECK_FIELD(enumeration("ChatMessage.role", message.role, Role::tool));
  CHECK_FIELD(text("ChatMessage.content", message.content, kMaxTextBytes));
  if (!message.tool_calls.empty() && message.role != Role::assistant) {
    return invalid("ChatMessage.tool_calls: only a message of the assistant has them");
  }
  if (!message.tool_call_id.empty() && message.role != Role::tool) {
    return invalid("ChatMessage.tool_call_id: only a message of a tool has one");
  }
  for (const ToolCall& call : message.tool_calls) CHECK_FIELD(check(call));
  return name("ChatMessage.tool_call_id", message.tool_call_id);
}

Valid check(const ChatPrompt& prompt) {
  if (prompt.messages.empty()) return invalid("Generate.prompt.messages: empty, a conversation has at least one");
  CHECK_FIELD(count("Generate.prompt.messages", prompt.messages.size(), kMaxChatMessages));
  CHECK_FIELD(text("Generate.prompt.tools", prompt.tools, kMaxTextBytes));
  std::size_t bytes = prompt.tools.size();
  std::size_t calls = 0;
  for (const ChatMessage& message : prompt.messages) {
    CHECK_FIELD(check(message));
    bytes += message.content.size();
    calls += message.tool_calls.size();
    for (const ToolCall& call : message.tool_calls) bytes += call.arguments.size();
  }
  CHECK_FIELD(count("Generate.prompt.messages: tool_calls", calls, kMaxToolCalls));
  if (bytes > kMaxTextBytes) {
    return invalid("Generate.prompt: {} bytes of text in all, at most {}", bytes, kMaxTextBytes);
  }
  return {};
}

Valid check(const TokenPrompt& prompt) {
  if (prompt.ids.empty()) return invalid("Generate.prompt.ids: empty, a prompt has at least one token");
  return token_ids("Generate.prompt.ids", prompt.ids, kMaxIds);
}

Valid check(const Sampling& sampling) {
  CHECK_FIELD(number("Sampling.temperature", sampling.temperature, 0, kMaxTemperature));
  CHECK_FIELD(number("Sampling.top_p", sampling.top_p, 0, 1));
  if (sampling.top_p == 0) return invalid("Sampling.top_p: 0 leaves no token; 1 is off");
  CHECK_FIELD(number("Sampling.min_p", sampling.min_p, 0, 1));
  CHECK_FIELD(number("Sampling.repetition_penalty", sampling.repetition_penalty, 0, kMaxPenalty));
  if (sampling.repetition_penalty == 0) return invalid("Sampling.repetition_penalty: 0 divides by zero; 1 is off");
  CHECK_FIELD(number("Sampling.frequency_penalty", sampling.frequency_penalty, -kMaxPenalty, kMaxPenalty));
  CHECK_FIELD(number("Sampling.presence_penalty", sampling.presence_penalty, -kMaxPenalty, kMaxPenalty));
  CHECK_FIELD(count("Sampling.logit_bias_ids", sampling.logit_bias.size(), kMaxLogitBias));
  for (const auto& [id, shift] : sampling.logit_bias) {
    if (id < 0) return invalid("Sampling.logit_bias_ids: {} is negative", id);
    CHECK_FIELD(number("Sampling.logit_bias_values", shift, -kMaxLogitShift, kMaxLogitShift));
  }
  return {};
}

Valid check(const Generate& generate) {
  CHECK_FIELD(std::visit([](const auto& prompt) { return check(prompt); }, generate.prompt));
  if (generate.raw && !std::holds_alternative<TextPrompt>(generate.prompt)) {
    return invalid("Generate.raw: only a text prompt can be raw");
  }
  const auto* text_prompt = std::get_if<TextPrompt>(&generate.prompt);
  if (text_prompt != nullptr && text_prompt->special && !generate.raw) {
    return invalid("Generate.prompt.special: only a raw prompt can have control tokens, in a message they are text");
  }
  CHECK_FIELD(check(generate.sampling));
  CHECK_FIELD(count("Generate.stop", generate.stop.size(), kMaxStops));
  for (const std::string& stop : generate.stop) {
    if (stop.empty()) return invalid("Generate.stop: an empty string stops everything");
    CHECK_FIELD(text("Generate.stop", stop, kMaxNameBytes));
  }
  if (generate.max_tokens > kMaxGenerateTokens) {
    return invalid("Generate.max_tokens: {}, at most {}", generate.max_tokens, kMaxGenerateTokens);
  }
  CHECK_FIELD(enumeration("Generate.priority", generate.priority, Priority::realtime));
  if (generate.deadline_ms > kMaxDeadlineMs) {
    return invalid("Generate.deadline_ms: {}, at most {} (a day)", generate.deadline_ms, kMaxDeadlineMs);
  }
  if (generate.partial && generate.deadline_ms == 0) {
    return invalid("Generate.partial: only with a deadline (deadline_ms)");
  }
  if (generate.max_queue_ms > kMaxDeadlineMs) {
    return invalid("Generate.max_queue_ms: {}, at most {} (a day)", generate.max_queue_ms, kMaxDeadlineMs);
  }
  CHECK_FIELD(key("Generate.latest_wins_key", generate.latest_wins_key));
  return key("Generate.session", generate.session);
}

Valid check(const Accepted&) {
  return {};
}

Valid check(const TokenBatch& batch) {
  CHECK_FIELD(token_ids("TokenBatch.ids", batch.ids, kMaxIds));
  return text("TokenBatch.text", batch.text, kMaxTextBytes);
}

Valid check(const Done& done) {
  CHECK_FIELD(enumeration("Done.reason", done.reason, DoneReason::superseded));
  if (done.stop_string.empty() != (done.reason != DoneReason::stop_string)) {
    return invalid("Done.stop_string: present with the reason STOP_STRING, and only then");
  }
  return text("Done.stop_string", done.stop_string, kMaxNameBytes);
}

Valid check(const Error& error) {
  if (error_name(error.code).empty()) {
    return invalid("Error.code: {} is not a code of this version", static_cast<unsigned>(error.code));
  }
  return text("Error.message", error.message, kMaxMessageBytes);
}

Valid check(const Cancel&) {
  return {};
}

Valid check(const Tokenize& tokenize) {
  return text("Tokenize.text", tokenize.text, kMaxTokenizeBytes);
}

Valid check(const Tokenized& tokenized) {
  return token_ids("Tokenized.ids", tokenized.ids, kMaxIds);
}

Valid check(const Detokenize& detokenize) {
  return token_ids("Detokenize.ids", detokenize.ids, kMaxDetokenizeIds);
}

Valid check(const Detokenized& detokenized) {
  return text("Detokenized.text", detokenized.text, kMaxTextBytes);
}

Valid check(const Status&) {
  return {};
}

Valid check(const StatusReport& report) {
  CHECK_FIELD(name("StatusReport.daemon_version", report.daemon_version));
  CHECK_FIELD(enumeration("StatusReport.state", report.state, State::failed));
  CHECK_FIELD(count("StatusReport.reasons", report.reasons.size(), kMaxReasons));
  for (const std::string& reason : report.reasons) CHECK_FIELD(text("StatusReport.reasons", reason, kMaxMessageBytes));
  if (report.model) CHECK_FIELD(check(*report.model));
  CHECK_FIELD(count("StatusReport.memory", report.memory.size(), kMaxMemoryItems));
  for (const MemoryItem& item : report.memory) {
    CHECK_FIELD(name("MemoryItem.name", item.name));
    CHECK_FIELD(text("MemoryItem.note", item.note, kMaxMessageBytes));
  }
  constexpr double kMaxSpeed = 1e12;  // any finite speed: what is refused is NaN, infinity and less than nothing
  CHECK_FIELD(number("StatusReport.prefill_tokens_per_s", report.prefill_tokens_per_s, 0, kMaxSpeed));
  CHECK_FIELD(number("StatusReport.decode_tokens_per_s", report.decode_tokens_per_s, 0, kMaxSpeed));
  CHECK_FIELD(name("StatusReport.backend", report.backend));
  CHECK_FIELD(name("StatusReport.isa", report.isa));
  CHECK_FIELD(count("StatusReport.active", report.active.size(), kMaxActiveRequests));
  for (const ActiveRequest& active : report.active) {
    CHECK_FIELD(enumeration("ActiveRequest.state", active.state, RequestState::paused));
    CHECK_FIELD(enumeration("ActiveRequest.priority", active.priority, Priority::realtime));
  }
  if (report.experts) {
    CHECK_FIELD(name("ExpertReport.reads", report.experts->reads));
    CHECK_FIELD(count("ExpertReport.layers", report.experts->layers.size(), kMaxLayers));
  }
  constexpr double kMostCelsius = 1000;
  if (report.power) {
    CHECK_FIELD(number("PowerReport.duty", report.power->duty, 0, 1));
    CHECK_FIELD(name("PowerReport.zone", report.power->zone));
    CHECK_FIELD(number("PowerReport.celsius", report.power->celsius, -kMostCelsius, kMostCelsius));
    CHECK_FIELD(number("PowerReport.limit_celsius", report.power->limit_celsius, 0, kMostCelsius));
  }
  if (report.device) {
    CHECK_FIELD(name("DeviceReport.name", report.device->name));
    CHECK_FIELD(name("DeviceReport.driver", report.device->driver));
    CHECK_FIELD(name("DeviceReport.architecture", report.device->architecture));
    CHECK_FIELD(number("DeviceReport.celsius", report.device->celsius, -kMostCelsius, kMostCelsius));
    CHECK_FIELD(name("DeviceReport.throttled", report.device->throttled));
    CHECK_FIELD(text("DeviceReport.unknown", report.device->unknown, kMaxMessageBytes));
  }
  return {};
}

Valid check(const SetBudget&) {
  return {};
}

Valid check(const BudgetReport&) {
  return {};
}

Valid check(const Drain& drain) {
  if (drain.undo && drain.stop) return invalid("Drain.stop: with undo it means nothing");
  return {};
}

Valid check(const DrainReport&) {
  return {};
}

Valid check(const Reload& reload) {
  CHECK_FIELD(name("Reload.model", reload.model, kMaxPathBytes));
  if (!reload.model.empty() && !reload.model.starts_with('/')) return invalid("Reload.model: not an absolute path");
  return {};
}

Valid check(const ReloadReport& report) {
  if (report.model) CHECK_FIELD(check(*report.model));
  CHECK_FIELD(count("ReloadReport.need_restart", report.need_restart.size(), kMaxReasons));
  for (const std::string& key : report.need_restart) CHECK_FIELD(name("ReloadReport.need_restart", key));
  return {};
}

Valid check(const Evict&) {
  return {};
}

Valid check(const EvictReport&) {
  return {};
}

Valid check(const Session& session) {
  CHECK_FIELD(enumeration("Session.action", session.action, SessionAction::close));
  CHECK_FIELD(enumeration("Session.overflow", session.overflow, SessionOverflow::drop_oldest));
  CHECK_FIELD(key("Session.name", session.name));
  CHECK_FIELD(key("Session.to", session.to));
  if (session.name.empty() != (session.action == SessionAction::list)) {
    return invalid("Session.name: empty with the action LIST, and only then");
  }
  if (session.to.empty() != (session.action != SessionAction::fork)) {
    return invalid("Session.to: present with the action FORK, and only then");
  }
  return {};
}

Valid check(const SessionReport& report) {
  CHECK_FIELD(count("SessionReport.sessions", report.sessions.size(), kMaxSessions));
  for (const SessionState& session : report.sessions) {
    CHECK_FIELD(key("SessionState.name", session.name));
    CHECK_FIELD(enumeration("SessionState.overflow", session.overflow, SessionOverflow::drop_oldest));
  }
  return {};
}

#undef CHECK_FIELD

}  // namespace

tl::expected<void, WireError> validate(const Message& message) {
  return std::visit([](const auto& m) { return check(m); }, message);
}

}  // namespace sirocco::wire

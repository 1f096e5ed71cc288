#include <algorithm>
#include <cstring>

#include "ipc/wire/codec.h"
#include "ipc/wire/limits.h"
#include "ipc/wire/validate.h"
#include "sirocco_generated.h"

namespace sirocco::wire {
namespace {

// Alignment of the widest scalar of the schema. The verifier checks offsets, not the address of the buffer itself.
constexpr std::size_t kAlignment = 8;

// Copies out of a verified FlatBuffer. The verifier lets pass: enumerations and unions of any value, unions without a
// value, and tables or strings used more than once. The first is validate()'s; the others are refused here, as `error`.
class Converter {
 public:
  std::optional<WireError> error;

  template <class Native, class Schema>
  static Native enumeration(Schema value) {
    return static_cast<Native>(value);  // any number: validate() judges it
  }

  std::string text(const flatbuffers::String* from) {
    if (from == nullptr || !charge(sizeof(std::string) + from->size())) return {};
    return from->str();
  }

  template <class T>
  std::vector<T> numbers(const flatbuffers::Vector<T>* from) {
    if (from == nullptr || !charge(sizeof(T) * from->size())) return {};
    return {from->begin(), from->end()};
  }

  // Each element of `from` through `convert`, until the budget is spent.
  template <class Table, class Convert>
  auto list(const flatbuffers::Vector<flatbuffers::Offset<Table>>* from, Convert convert) {
    std::vector<decltype(convert(from->Get(0)))> to;
    if (from == nullptr) return to;
    for (flatbuffers::uoffset_t i = 0; i < from->size() && !error; ++i) {
      if (charge(sizeof(to[0]))) to.push_back(convert(from->Get(i)));
    }
    return to;
  }

  std::vector<std::string> texts(const flatbuffers::Vector<flatbuffers::Offset<flatbuffers::String>>* from) {
    return list(from, [this](const flatbuffers::String* s) { return text(s); });
  }

 private:
  bool charge(std::size_t bytes) {
    if (error) return false;
    if (bytes > budget_) {
      error = WireError{ErrorCode::malformed, "message describes more than its frame can hold: parts are used twice"};
      return false;
    }
    budget_ -= bytes;
    return true;
  }

  std::size_t budget_ = kMaxDecodedBytes;
};

Hello convert(const fbs::Hello& from, Converter& c) {
  return {from.version_min(), from.version_max(), c.text(from.client())};
}

ModelCard convert(const fbs::ModelCard& from, Converter& c) {
  return {.name = c.text(from.name()),
          .architecture = c.text(from.architecture()),
          .parameters = from.parameters(),
          .context = from.context(),
          .chat_format = c.text(from.chat_format()),
          .tokenizer = c.text(from.tokenizer()),
          .experts = from.experts(),
          .experts_used = from.experts_used(),
          .quantisation = c.text(from.quantisation()),
          .file_bytes = from.file_bytes()};
}

std::optional<ModelCard> model_card(const fbs::ModelCard* from, Converter& c) {
  if (from == nullptr) return std::nullopt;
  return convert(*from, c);
}

Welcome convert(const fbs::Welcome& from, Converter& c) {
  return {.version = from.version(),
          .daemon_version = c.text(from.daemon_version()),
          .features = c.texts(from.features()),
          .max_payload_bytes = from.max_payload_bytes(),
          .max_in_flight = from.max_in_flight(),
          .state = c.enumeration<State>(from.state()),
          .model = model_card(from.model(), c)};
}

ChatPrompt convert(const fbs::ChatPrompt& from, Converter& c) {
  const auto call = [&c](const fbs::ToolCall* f) {
    return ToolCall{c.text(f->id()), c.text(f->name()), c.text(f->arguments())};
  };
  const auto message = [&](const fbs::ChatMessage* f) {
    return ChatMessage{c.enumeration<Role>(f->role()), c.text(f->content()), c.list(f->tool_calls(), call),
                       c.text(f->tool_call_id())};
  };
  return {c.list(from.messages(), message), c.text(from.tools())};
}

Prompt prompt(const fbs::Generate& from, Converter& c) {
  if (from.prompt_type() > fbs::Prompt::MAX) {
    c.error = WireError{ErrorCode::invalid_message, fmt::format("Generate.prompt_type: {} is not one of 1 to {}",
                                                                static_cast<unsigned>(from.prompt_type()),
                                                                static_cast<unsigned>(fbs::Prompt::MAX))};
    return {};
  }
  if (const auto* text = from.prompt_as_TextPrompt()) return TextPrompt{c.text(text->text()), text->special()};
  if (const auto* chat = from.prompt_as_ChatPrompt()) return convert(*chat, c);
  if (const auto* tokens = from.prompt_as_TokenPrompt()) return TokenPrompt{c.numbers(tokens->ids())};
  c.error = WireError{ErrorCode::invalid_message, "Generate.prompt: missing"};
  return {};
}

Sampling sampling(const fbs::Sampling* from, Converter& c) {
  if (from == nullptr) return {};
  const std::vector<std::int32_t> ids = c.numbers(from->logit_bias_ids());
  const std::vector<float> shifts = c.numbers(from->logit_bias_values());
  if (ids.size() != shifts.size() && !c.error) {
    c.error = WireError{
        ErrorCode::invalid_message,
        fmt::format("Sampling.logit_bias_values: {} entries, but logit_bias_ids has {}", shifts.size(), ids.size())};
  }
  Sampling to{.temperature = from->temperature(),
              .top_k = from->top_k(),
              .top_p = from->top_p(),
              .min_p = from->min_p(),
              .repetition_penalty = from->repetition_penalty(),
              .frequency_penalty = from->frequency_penalty(),
              .presence_penalty = from->presence_penalty(),
              .seed = from->seed(),
              .logit_bias = {}};
  for (std::size_t i = 0; i < std::min(ids.size(), shifts.size()); ++i) to.logit_bias.emplace_back(ids[i], shifts[i]);
  return to;
}

Generate convert(const fbs::Generate& from, Converter& c) {
  return {.prompt = prompt(from, c),
          .raw = from.raw(),
          .sampling = sampling(from.sampling(), c),
          .stop = c.texts(from.stop()),
          .max_tokens = from.max_tokens(),
          .omit_ids = from.omit_ids(),
          .priority = c.enumeration<Priority>(from.priority()),
          .deadline_ms = from.deadline_ms(),
          .latest_wins_key = c.text(from.latest_wins_key()),
          .session = c.text(from.session()),
          .partial = from.partial(),
          .max_queue_ms = from.max_queue_ms(),
          .prefill_only = from.prefill_only()};
}

Accepted convert(const fbs::Accepted& from, Converter&) {
  return {from.prompt_tokens(), from.queue_position()};
}

TokenBatch convert(const fbs::TokenBatch& from, Converter& c) {
  return {c.numbers(from.ids()), c.text(from.text())};
}

Done convert(const fbs::Done& from, Converter& c) {
  return {.reason = c.enumeration<DoneReason>(from.reason()),
          .stop_string = c.text(from.stop_string()),
          .prompt_tokens = from.prompt_tokens(),
          .generated_tokens = from.generated_tokens(),
          .queued_us = from.queued_us(),
          .prefill_us = from.prefill_us(),
          .decode_us = from.decode_us(),
          .lossy_experts = from.lossy_experts(),
          .cached_tokens = from.cached_tokens(),
          .dropped_turns = from.dropped_turns()};
}

Error convert(const fbs::Error& from, Converter& c) {
  return {c.enumeration<ErrorCode>(from.code()), c.text(from.message()), from.retry_after_ms()};
}

Cancel convert(const fbs::Cancel&, Converter&) {
  return {};
}

Tokenize convert(const fbs::Tokenize& from, Converter& c) {
  return {c.text(from.text()), from.special(), from.bos()};
}

Tokenized convert(const fbs::Tokenized& from, Converter& c) {
  return {c.numbers(from.ids())};
}

Detokenize convert(const fbs::Detokenize& from, Converter& c) {
  return {c.numbers(from.ids())};
}

Detokenized convert(const fbs::Detokenized& from, Converter& c) {
  return {c.text(from.text())};
}

Status convert(const fbs::Status&, Converter&) {
  return {};
}

std::optional<ExpertReport> expert_report(const fbs::ExpertReport* from, Converter& c) {
  if (from == nullptr) return std::nullopt;
  const auto layer = [](const fbs::ExpertLayer* f) {
    return ExpertLayer{f->slots(), f->hits(), f->misses(), f->evictions(), f->bytes_read(), f->waited_ms()};
  };
  return ExpertReport{.slots = from->slots(),
                      .experts = from->experts(),
                      .hits = from->hits(),
                      .misses = from->misses(),
                      .evictions = from->evictions(),
                      .bytes_read = from->bytes_read(),
                      .failures = from->failures(),
                      .waited_ms = from->waited_ms(),
                      .reads = c.text(from->reads()),
                      .planned_slots = from->planned_slots(),
                      .reading_ms = from->reading_ms(),
                      .layers = c.list(from->layers(), layer),
                      .skipped = from->skipped(),
                      .substituted = from->substituted()};
}

std::optional<CacheReport> cache_report(const fbs::CacheReport* from) {
  if (from == nullptr) return std::nullopt;
  return CacheReport{.blocks = from->blocks(),
                     .block_tokens = from->block_tokens(),
                     .available = from->available(),
                     .cached = from->cached(),
                     .hit_tokens = from->hit_tokens(),
                     .evicted_blocks = from->evicted_blocks(),
                     .sessions = from->sessions(),
                     .moved_out = from->moved_out(),
                     .moved_out_bytes = from->moved_out_bytes()};
}

std::optional<PowerReport> power_report(const fbs::PowerReport* from, Converter& c) {
  if (from == nullptr) return std::nullopt;
  return PowerReport{.duty = from->duty(),
                     .zone = c.text(from->zone()),
                     .celsius = from->celsius(),
                     .limit_celsius = from->limit_celsius()};
}

std::optional<DeviceReport> device_report(const fbs::DeviceReport* from, Converter& c) {
  if (from == nullptr) return std::nullopt;
  return DeviceReport{.name = c.text(from->name()),
                      .driver = c.text(from->driver()),
                      .architecture = c.text(from->architecture()),
                      .integrated = from->integrated(),
                      .memory_bytes = from->memory_bytes(),
                      .used_bytes = from->used_bytes(),
                      .arena_bytes = from->arena_bytes(),
                      .slots = from->slots(),
                      .planned_slots = from->planned_slots(),
                      .hits = from->hits(),
                      .misses = from->misses(),
                      .clock_mhz = from->clock_mhz(),
                      .max_clock_mhz = from->max_clock_mhz(),
                      .celsius = from->celsius(),
                      .throttled = c.text(from->throttled()),
                      .unknown = c.text(from->unknown()),
                      .experts = from->experts()};
}

StatusReport convert(const fbs::StatusReport& from, Converter& c) {
  const auto item = [&c](const fbs::MemoryItem* f) {
    return MemoryItem{c.text(f->name()), f->bytes(), c.text(f->note())};
  };
  const auto request = [&c](const fbs::ActiveRequest* f) {
    return ActiveRequest{f->id(),
                         f->uid(),
                         f->pid(),
                         c.enumeration<RequestState>(f->state()),
                         f->prompt_tokens(),
                         f->generated(),
                         c.enumeration<Priority>(f->priority()),
                         f->age_ms(),
                         f->queued_ms()};
  };
  return {.daemon_version = c.text(from.daemon_version()),
          .state = c.enumeration<State>(from.state()),
          .reasons = c.texts(from.reasons()),
          .model = model_card(from.model(), c),
          .memory = c.list(from.memory(), item),
          .requests_running = from.requests_running(),
          .requests_queued = from.requests_queued(),
          .requests_done = from.requests_done(),
          .requests_failed = from.requests_failed(),
          .tokens_prefilled = from.tokens_prefilled(),
          .tokens_generated = from.tokens_generated(),
          .prefill_tokens_per_s = from.prefill_tokens_per_s(),
          .decode_tokens_per_s = from.decode_tokens_per_s(),
          .uptime_ms = from.uptime_ms(),
          .backend = c.text(from.backend()),
          .isa = c.text(from.isa()),
          .threads = from.threads(),
          .connections = from.connections(),
          .active = c.list(from.active(), request),
          .experts = expert_report(from.experts(), c),
          .memory_released = from.memory_released(),
          .cache = cache_report(from.cache()),
          .power = power_report(from.power(), c),
          .device = device_report(from.device(), c)};
}

SetBudget convert(const fbs::SetBudget& from, Converter&) {
  return {.bytes = from.bytes(), .device = from.device()};
}

BudgetReport convert(const fbs::BudgetReport& from, Converter&) {
  return {
      .bytes = from.bytes(), .slots = from.slots(), .planned_slots = from.planned_slots(), .experts = from.experts()};
}

Drain convert(const fbs::Drain& from, Converter&) {
  return {.undo = from.undo(), .stop = from.stop()};
}

DrainReport convert(const fbs::DrainReport& from, Converter&) {
  return {.draining = from.draining(), .requests = from.requests()};
}

Reload convert(const fbs::Reload& from, Converter& c) {
  return {.model = c.text(from.model())};
}

ReloadReport convert(const fbs::ReloadReport& from, Converter& c) {
  return {.model = model_card(from.model(), c), .loaded = from.loaded(), .need_restart = c.texts(from.need_restart())};
}

Evict convert(const fbs::Evict&, Converter&) {
  return {};
}

EvictReport convert(const fbs::EvictReport& from, Converter&) {
  return {.experts = from.experts(), .bytes = from.bytes()};
}

Session convert(const fbs::Session& from, Converter& c) {
  return {.action = c.enumeration<SessionAction>(from.action()),
          .name = c.text(from.name()),
          .to = c.text(from.to()),
          .turns = from.turns(),
          .overflow = c.enumeration<SessionOverflow>(from.overflow()),
          .save = from.save()};
}

SessionReport convert(const fbs::SessionReport& from, Converter& c) {
  return {c.list(from.sessions(), [&c](const fbs::SessionState* f) {
    return SessionState{.name = c.text(f->name()),
                        .uid = f->uid(),
                        .turns = f->turns(),
                        .tokens = f->tokens(),
                        .overflow = c.enumeration<SessionOverflow>(f->overflow()),
                        .busy = f->busy(),
                        .idle_ms = f->idle_ms(),
                        .saved_bytes = f->saved_bytes()};
  })};
}

template <class Table>
tl::expected<Message, WireError> verified(MessageType type, std::span<const std::byte> payload) {
  const auto* data = reinterpret_cast<const std::uint8_t*>(payload.data());
  flatbuffers::Verifier verifier(data, payload.size(), kVerifierDepth, kVerifierTables);
  if (!verifier.VerifyBuffer<Table>(nullptr)) {
    return refuse(ErrorCode::malformed, "{}: not a FlatBuffer of this table, or more than {} deep or {} tables",
                  message_name(type), kVerifierDepth, kVerifierTables);
  }
  Converter converter;
  Message message = convert(*flatbuffers::GetRoot<Table>(data), converter);
  if (converter.error) return tl::unexpected<WireError>(*std::move(converter.error));
  if (auto valid = validate(message); !valid) return tl::unexpected<WireError>(std::move(valid).error());
  return message;
}

tl::expected<Message, WireError> decode_aligned(MessageType type, std::span<const std::byte> payload) {
  switch (type) {
    case MessageType::hello:
      return verified<fbs::Hello>(type, payload);
    case MessageType::welcome:
      return verified<fbs::Welcome>(type, payload);
    case MessageType::generate:
      return verified<fbs::Generate>(type, payload);
    case MessageType::accepted:
      return verified<fbs::Accepted>(type, payload);
    case MessageType::token_batch:
      return verified<fbs::TokenBatch>(type, payload);
    case MessageType::done:
      return verified<fbs::Done>(type, payload);
    case MessageType::error:
      return verified<fbs::Error>(type, payload);
    case MessageType::cancel:
      return verified<fbs::Cancel>(type, payload);
    case MessageType::tokenize:
      return verified<fbs::Tokenize>(type, payload);
    case MessageType::tokenized:
      return verified<fbs::Tokenized>(type, payload);
    case MessageType::detokenize:
      return verified<fbs::Detokenize>(type, payload);
    case MessageType::detokenized:
      return verified<fbs::Detokenized>(type, payload);
    case MessageType::status:
      return verified<fbs::Status>(type, payload);
    case MessageType::status_report:
      return verified<fbs::StatusReport>(type, payload);
    case MessageType::set_budget:
      return verified<fbs::SetBudget>(type, payload);
    case MessageType::budget_report:
      return verified<fbs::BudgetReport>(type, payload);
    case MessageType::drain:
      return verified<fbs::Drain>(type, payload);
    case MessageType::drain_report:
      return verified<fbs::DrainReport>(type, payload);
    case MessageType::reload:
      return verified<fbs::Reload>(type, payload);
    case MessageType::reload_report:
      return verified<fbs::ReloadReport>(type, payload);
    case MessageType::evict:
      return verified<fbs::Evict>(type, payload);
    case MessageType::evict_report:
      return verified<fbs::EvictReport>(type, payload);
    case MessageType::session:
      return verified<fbs::Session>(type, payload);
    case MessageType::session_report:
      return verified<fbs::SessionReport>(type, payload);
  }
  return refuse(ErrorCode::unknown_type, "message type {} is not one of this version's 1 to {}",
                static_cast<unsigned>(type), std::variant_size_v<Message>);
}

}  // namespace

tl::expected<Message, WireError> decode(std::uint16_t type, std::span<const std::byte> payload) {
  if (payload.size() > kMaxPayload) {
    return refuse(ErrorCode::frame_too_large, "payload of {} bytes, at most {}", payload.size(), kMaxPayload);
  }
  const auto message_type = static_cast<MessageType>(type);
  if (reinterpret_cast<std::uintptr_t>(payload.data()) % kAlignment == 0) return decode_aligned(message_type, payload);
  const std::vector<std::byte> copy(payload.begin(), payload.end());  // operator new aligns to 16
  return decode_aligned(message_type, copy);
}

}  // namespace sirocco::wire

#include "ipc/wire/codec.h"
#include "ipc/wire/frame.h"
#include "sirocco_generated.h"

namespace sirocco::wire {
namespace {

using Builder = flatbuffers::FlatBufferBuilder;
using flatbuffers::Offset;

// Absent where empty: a missing field reads as empty.
Offset<flatbuffers::String> text(Builder& b, const std::string& value) {
  return value.empty() ? Offset<flatbuffers::String>{} : b.CreateString(value);
}

template <class T>
Offset<flatbuffers::Vector<T>> numbers(Builder& b, const std::vector<T>& values) {
  return values.empty() ? Offset<flatbuffers::Vector<T>>{} : b.CreateVector(values);
}

Offset<flatbuffers::Vector<Offset<flatbuffers::String>>> texts(Builder& b, const std::vector<std::string>& values) {
  if (values.empty()) return {};
  return b.CreateVectorOfStrings(values);
}

template <class Native, class Build>
auto list(Builder& b, const std::vector<Native>& values, Build build_one) {
  std::vector<decltype(build_one(values[0]))> offsets;
  offsets.reserve(values.size());
  for (const Native& value : values) offsets.push_back(build_one(value));
  using Vector = flatbuffers::Vector<decltype(build_one(values[0]))>;
  return values.empty() ? Offset<Vector>{} : b.CreateVector(offsets);
}

Offset<fbs::Hello> build(Builder& b, const Hello& m) {
  return fbs::CreateHello(b, m.version_min, m.version_max, text(b, m.client));
}

Offset<fbs::ModelCard> build(Builder& b, const ModelCard& m) {
  return fbs::CreateModelCard(b, text(b, m.name), text(b, m.architecture), m.parameters, m.context,
                              text(b, m.chat_format), text(b, m.tokenizer), m.experts, m.experts_used,
                              text(b, m.quantisation), m.file_bytes);
}

Offset<fbs::ModelCard> build(Builder& b, const std::optional<ModelCard>& m) {
  return m ? build(b, *m) : Offset<fbs::ModelCard>{};
}

Offset<fbs::Welcome> build(Builder& b, const Welcome& m) {
  return fbs::CreateWelcome(b, m.version, text(b, m.daemon_version), texts(b, m.features), m.max_payload_bytes,
                            m.max_in_flight, static_cast<fbs::State>(m.state), build(b, m.model));
}

Offset<fbs::TextPrompt> build(Builder& b, const TextPrompt& m) {
  return fbs::CreateTextPrompt(b, b.CreateString(m.text), m.special);
}

Offset<fbs::ToolCall> build(Builder& b, const ToolCall& m) {
  return fbs::CreateToolCall(b, text(b, m.id), text(b, m.name), text(b, m.arguments));
}

Offset<fbs::ChatMessage> build(Builder& b, const ChatMessage& m) {
  const auto calls = list(b, m.tool_calls, [&b](const ToolCall& call) { return build(b, call); });
  return fbs::CreateChatMessage(b, static_cast<fbs::Role>(m.role), text(b, m.content), calls, text(b, m.tool_call_id));
}

Offset<fbs::ChatPrompt> build(Builder& b, const ChatPrompt& m) {
  const auto messages = list(b, m.messages, [&b](const ChatMessage& message) { return build(b, message); });
  return fbs::CreateChatPrompt(b, messages, text(b, m.tools));
}

Offset<fbs::TokenPrompt> build(Builder& b, const TokenPrompt& m) {
  return fbs::CreateTokenPrompt(b, numbers(b, m.ids));
}

Offset<fbs::Sampling> build(Builder& b, const Sampling& m) {
  std::vector<std::int32_t> ids;
  std::vector<float> shifts;
  for (const auto& [id, shift] : m.logit_bias) {
    ids.push_back(id);
    shifts.push_back(shift);
  }
  return fbs::CreateSampling(b, m.temperature, m.top_k, m.top_p, m.min_p, m.repetition_penalty, m.frequency_penalty,
                             m.presence_penalty, m.seed, numbers(b, ids), numbers(b, shifts));
}

Offset<fbs::Generate> build(Builder& b, const Generate& m) {
  const auto type = static_cast<fbs::Prompt>(m.prompt.index() + 1);  // the variant is in the schema's order
  const auto prompt = std::visit([&b](const auto& p) { return build(b, p).Union(); }, m.prompt);
  return fbs::CreateGenerate(b, type, prompt, m.raw, build(b, m.sampling), texts(b, m.stop), m.max_tokens, m.omit_ids,
                             static_cast<fbs::Priority>(m.priority), m.deadline_ms, text(b, m.latest_wins_key),
                             text(b, m.session), m.partial, m.max_queue_ms, m.prefill_only);
}

Offset<fbs::Accepted> build(Builder& b, const Accepted& m) {
  return fbs::CreateAccepted(b, m.prompt_tokens, m.queue_position);
}

Offset<fbs::TokenBatch> build(Builder& b, const TokenBatch& m) {
  return fbs::CreateTokenBatch(b, numbers(b, m.ids), text(b, m.text));
}

Offset<fbs::Done> build(Builder& b, const Done& m) {
  return fbs::CreateDone(b, static_cast<fbs::DoneReason>(m.reason), text(b, m.stop_string), m.prompt_tokens,
                         m.generated_tokens, m.queued_us, m.prefill_us, m.decode_us, m.lossy_experts, m.cached_tokens,
                         m.dropped_turns);
}

Offset<fbs::Error> build(Builder& b, const Error& m) {
  return fbs::CreateError(b, static_cast<fbs::ErrorCode>(m.code), text(b, std::string(error_name(m.code))),
                          text(b, m.message), m.retry_after_ms);
}

Offset<fbs::Cancel> build(Builder& b, const Cancel&) {
  return fbs::CreateCancel(b);
}

Offset<fbs::Tokenize> build(Builder& b, const Tokenize& m) {
  return fbs::CreateTokenize(b, text(b, m.text), m.special, m.bos);
}

Offset<fbs::Tokenized> build(Builder& b, const Tokenized& m) {
  return fbs::CreateTokenized(b, numbers(b, m.ids));
}

Offset<fbs::Detokenize> build(Builder& b, const Detokenize& m) {
  return fbs::CreateDetokenize(b, numbers(b, m.ids));
}

Offset<fbs::Detokenized> build(Builder& b, const Detokenized& m) {
  return fbs::CreateDetokenized(b, text(b, m.text));
}

Offset<fbs::Status> build(Builder& b, const Status&) {
  return fbs::CreateStatus(b);
}

Offset<fbs::ExpertReport> build(Builder& b, const std::optional<ExpertReport>& m) {
  if (!m) return 0;
  const auto layers = list(b, m->layers, [&b](const ExpertLayer& layer) {
    return fbs::CreateExpertLayer(b, layer.slots, layer.hits, layer.misses, layer.evictions, layer.bytes_read,
                                  layer.waited_ms);
  });
  return fbs::CreateExpertReport(b, m->slots, m->experts, m->hits, m->misses, m->evictions, m->bytes_read, m->failures,
                                 m->waited_ms, text(b, m->reads), m->planned_slots, m->reading_ms, layers, m->skipped,
                                 m->substituted);
}

Offset<fbs::CacheReport> build(Builder& b, const std::optional<CacheReport>& m) {
  if (!m) return 0;
  return fbs::CreateCacheReport(b, m->blocks, m->block_tokens, m->available, m->cached, m->hit_tokens,
                                m->evicted_blocks, m->sessions, m->moved_out, m->moved_out_bytes);
}

Offset<fbs::PowerReport> build(Builder& b, const std::optional<PowerReport>& m) {
  if (!m) return 0;
  return fbs::CreatePowerReport(b, m->duty, text(b, m->zone), m->celsius, m->limit_celsius);
}

Offset<fbs::DeviceReport> build(Builder& b, const std::optional<DeviceReport>& m) {
  if (!m) return 0;
  return fbs::CreateDeviceReport(b, text(b, m->name), text(b, m->driver), text(b, m->architecture), m->integrated,
                                 m->memory_bytes, m->used_bytes, m->arena_bytes, m->slots, m->planned_slots, m->hits,
                                 m->misses, m->clock_mhz, m->max_clock_mhz, m->celsius, text(b, m->throttled),
                                 text(b, m->unknown), m->experts);
}

Offset<fbs::StatusReport> build(Builder& b, const StatusReport& m) {
  const auto memory = list(b, m.memory, [&b](const MemoryItem& item) {
    return fbs::CreateMemoryItem(b, text(b, item.name), item.bytes, text(b, item.note));
  });
  const auto active = list(b, m.active, [&b](const ActiveRequest& a) {
    return fbs::CreateActiveRequest(b, a.id, a.uid, a.pid, static_cast<fbs::RequestState>(a.state), a.prompt_tokens,
                                    a.generated, static_cast<fbs::Priority>(a.priority), a.age_ms, a.queued_ms);
  });
  return fbs::CreateStatusReport(b, text(b, m.daemon_version), static_cast<fbs::State>(m.state), texts(b, m.reasons),
                                 build(b, m.model), memory, m.requests_running, m.requests_queued, m.requests_done,
                                 m.requests_failed, m.tokens_prefilled, m.tokens_generated, m.prefill_tokens_per_s,
                                 m.decode_tokens_per_s, m.uptime_ms, text(b, m.backend), text(b, m.isa), m.threads,
                                 m.connections, active, build(b, m.experts), m.memory_released, build(b, m.cache),
                                 build(b, m.power), build(b, m.device));
}

Offset<fbs::SetBudget> build(Builder& b, const SetBudget& m) {
  return fbs::CreateSetBudget(b, m.bytes, m.device);
}

Offset<fbs::BudgetReport> build(Builder& b, const BudgetReport& m) {
  return fbs::CreateBudgetReport(b, m.bytes, m.slots, m.planned_slots, m.experts);
}

Offset<fbs::Drain> build(Builder& b, const Drain& m) {
  return fbs::CreateDrain(b, m.undo, m.stop);
}

Offset<fbs::DrainReport> build(Builder& b, const DrainReport& m) {
  return fbs::CreateDrainReport(b, m.draining, m.requests);
}

Offset<fbs::Reload> build(Builder& b, const Reload& m) {
  return fbs::CreateReload(b, text(b, m.model));
}

Offset<fbs::ReloadReport> build(Builder& b, const ReloadReport& m) {
  return fbs::CreateReloadReport(b, build(b, m.model), m.loaded, texts(b, m.need_restart));
}

Offset<fbs::Evict> build(Builder& b, const Evict&) {
  return fbs::CreateEvict(b);
}

Offset<fbs::EvictReport> build(Builder& b, const EvictReport& m) {
  return fbs::CreateEvictReport(b, m.experts, m.bytes);
}

Offset<fbs::Session> build(Builder& b, const Session& m) {
  return fbs::CreateSession(b, static_cast<fbs::SessionAction>(m.action), text(b, m.name), text(b, m.to), m.turns,
                            static_cast<fbs::SessionOverflow>(m.overflow), m.save);
}

Offset<fbs::SessionReport> build(Builder& b, const SessionReport& m) {
  return fbs::CreateSessionReport(b, list(b, m.sessions, [&b](const SessionState& s) {
                                    return fbs::CreateSessionState(b, text(b, s.name), s.uid, s.turns, s.tokens,
                                                                   static_cast<fbs::SessionOverflow>(s.overflow),
                                                                   s.busy, s.idle_ms, s.saved_bytes);
                                  }));
}

}  // namespace

std::vector<std::byte> encode(const Message& message, std::uint64_t request_id) {
  Builder builder;
  std::visit([&builder](const auto& m) { builder.Finish(build(builder, m)); }, message);
  const auto payload = std::as_bytes(std::span(builder.GetBufferPointer(), builder.GetSize()));
  const auto header = write_header({.length = static_cast<std::uint32_t>(payload.size()),
                                    .type = static_cast<std::uint16_t>(message_type(message)),
                                    .flags = 0,
                                    .request_id = request_id});
  std::vector<std::byte> frame;
  frame.reserve(header.size() + payload.size());
  frame.insert(frame.end(), header.begin(), header.end());
  frame.insert(frame.end(), payload.begin(), payload.end());
  return frame;
}

}  // namespace sirocco::wire

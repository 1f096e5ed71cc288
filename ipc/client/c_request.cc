#include "ipc/client/c_request.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "ipc/wire/socket_paths.h"

namespace sirocco {
namespace {

tl::unexpected<ClientError> invalid(std::string message) {
  return tl::unexpected<ClientError>(ClientError{.kind = ClientError::Kind::invalid, .message = std::move(message)});
}

// The caller's struct as this library knows it. An older, shorter one is filled up with zeros; of a newer, longer one
// what is beyond must be zero. `first`: bytes of the struct in version 1.
template <class T>
ClientResult<T> whole(const T* given, std::size_t first, std::string_view name) {
  if (given == nullptr) return invalid(fmt::format("{}: is NULL", name));
  if (given->size < first) return invalid(fmt::format("{}.size is {}: set it to sizeof({})", name, given->size, name));
  const auto bytes = std::span(reinterpret_cast<const unsigned char*>(given), given->size);
  const std::size_t known = std::min(bytes.size(), sizeof(T));
  const auto beyond = bytes.subspan(known);
  if (std::any_of(beyond.begin(), beyond.end(), [](unsigned char byte) { return byte != 0; }))
    return invalid(fmt::format("{}: a field is set that libsirocco " SIROCCO_VERSION
                               " does not know: install the libsirocco that the program was built with, or a newer one",
                               name));
  T full{};
  std::memcpy(&full, bytes.data(), known);
  return full;
}

template <class T>
ClientResult<std::span<const T>> list(const T* first, std::size_t count, std::string_view name) {
  if (first == nullptr && count != 0) return invalid(fmt::format("{}: is NULL, but {} are counted", name, count));
  return std::span<const T>(first, count);
}

std::string text(const char* first, std::size_t bytes = 0) {
  if (first == nullptr) return {};
  return bytes == 0 ? std::string(first) : std::string(first, bytes);
}

ClientResult<wire::ChatMessage> chat_message(const sirocco_message& given, std::size_t index) {
  wire::ChatMessage message;
  if (given.role < SIROCCO_ROLE_SYSTEM || given.role > SIROCCO_ROLE_TOOL)
    return invalid(fmt::format("messages[{}].role: {} is no sirocco_role", index, given.role));
  message.role = static_cast<wire::Role>(given.role);
  message.content = text(given.content, given.content_bytes);
  message.tool_call_id = text(given.tool_call_id);
  const auto calls = list(given.tool_calls, given.tool_call_count, fmt::format("messages[{}].tool_calls", index));
  if (!calls) return tl::unexpected<ClientError>(calls.error());
  for (const sirocco_tool_call& call : *calls)
    message.tool_calls.push_back({.id = text(call.id), .name = text(call.name), .arguments = text(call.arguments)});
  return message;
}

ClientResult<wire::Prompt> prompt_of(const sirocco_request& given) {
  const int prompts = (given.prompt != nullptr) + (given.messages != nullptr) + (given.ids != nullptr);
  if (prompts != 1)
    return invalid(fmt::format("sirocco_request: {} of prompt, messages and ids are given: give one", prompts));
  if (given.prompt != nullptr)
    return wire::TextPrompt{.text = text(given.prompt, given.prompt_bytes), .special = given.special != 0};
  if (given.ids != nullptr) return wire::TokenPrompt{.ids = {given.ids, given.ids + given.id_count}};
  wire::ChatPrompt chat{.messages = {}, .tools = text(given.tools)};
  for (std::size_t i = 0; i < given.message_count; ++i) {
    auto message = chat_message(given.messages[i], i);
    if (!message) return tl::unexpected<ClientError>(std::move(message.error()));
    chat.messages.push_back(*std::move(message));
  }
  return chat;
}

ClientResult<wire::Sampling> sampling_of(const sirocco_request& given) {
  const auto bias = list(given.logit_bias, given.logit_bias_count, "sirocco_request.logit_bias");
  if (!bias) return tl::unexpected<ClientError>(bias.error());
  wire::Sampling sampling{.temperature = given.temperature,
                          .top_k = given.top_k,
                          .top_p = given.top_p == 0 ? 1 : given.top_p,
                          .min_p = given.min_p,
                          .repetition_penalty = given.repetition_penalty == 0 ? 1 : given.repetition_penalty,
                          .frequency_penalty = given.frequency_penalty,
                          .presence_penalty = given.presence_penalty,
                          .seed = given.seed,
                          .logit_bias = {}};
  for (const sirocco_logit_bias& one : *bias) sampling.logit_bias.emplace_back(one.id, one.value);
  return sampling;
}

}  // namespace

ClientResult<ConnectRequest> connect_request(const sirocco_connect_options* options) {
  sirocco_connect_options given{};
  if (options != nullptr) {
    constexpr std::size_t kFirst =
        offsetof(sirocco_connect_options, answer_timeout_ms) + sizeof(options->answer_timeout_ms);
    auto known = whole(options, kFirst, "sirocco_connect_options");
    if (!known) return tl::unexpected<ClientError>(std::move(known.error()));
    given = *known;
  }
  ConnectRequest request;
  const char* const set = std::getenv("SIROCCO_SOCKET");
  const std::string usual = set != nullptr && *set != '\0' ? set : std::string(wire::kDefaultSocket);
  request.socket = given.socket == nullptr ? usual : given.socket;
  request.options.name = given.name == nullptr ? "libsirocco" : given.name;
  if (given.timeout_ms != 0) request.options.timeout = std::chrono::milliseconds(given.timeout_ms);
  if (given.answer_timeout_ms != 0) request.options.answer_timeout = std::chrono::milliseconds(given.answer_timeout_ms);
  return request;
}

ClientResult<wire::Generate> generate_request(const sirocco_request* request) {
  constexpr std::size_t kFirst = offsetof(sirocco_request, prefill_only) + sizeof(request->prefill_only);
  const auto given = whole(request, kFirst, "sirocco_request");
  if (!given) return tl::unexpected<ClientError>(given.error());
  auto prompt = prompt_of(*given);
  if (!prompt) return tl::unexpected<ClientError>(std::move(prompt.error()));
  auto sampling = sampling_of(*given);
  if (!sampling) return tl::unexpected<ClientError>(std::move(sampling.error()));
  const auto stops = list(given->stop, given->stop_count, "sirocco_request.stop");
  if (!stops) return tl::unexpected<ClientError>(stops.error());
  if (given->priority < 0 || given->priority > SIROCCO_REALTIME)
    return invalid(fmt::format("sirocco_request.priority: {} is no sirocco_priority", given->priority));

  wire::Generate generate;
  generate.prompt = *std::move(prompt);
  generate.raw = given->raw != 0;
  generate.sampling = *std::move(sampling);
  for (const char* const stop : *stops) generate.stop.push_back(text(stop));
  generate.max_tokens = given->max_tokens;
  generate.omit_ids = given->omit_ids != 0;
  if (given->priority != 0) generate.priority = static_cast<wire::Priority>(given->priority);
  generate.deadline_ms = given->deadline_ms;
  generate.partial = given->partial != 0;
  generate.max_queue_ms = given->max_queue_ms;
  generate.latest_wins_key = text(given->latest_wins_key);
  generate.session = text(given->session);
  generate.prefill_only = given->prefill_only != 0;
  return generate;
}

ClientResult<wire::Tokenize> tokenize_request(const char* given, std::size_t bytes, int flags) {
  if (given == nullptr) return invalid("sirocco_tokenize: text is NULL");
  if ((flags & ~(SIROCCO_SPECIAL | SIROCCO_BOS)) != 0)
    return invalid(fmt::format("sirocco_tokenize: flags {:#x} are not all known", flags));
  return wire::Tokenize{
      .text = text(given, bytes), .special = (flags & SIROCCO_SPECIAL) != 0, .bos = (flags & SIROCCO_BOS) != 0};
}

ClientResult<wire::Detokenize> detokenize_request(const std::int32_t* ids, std::size_t count) {
  const auto given = list(ids, count, "sirocco_detokenize: ids");
  if (!given) return tl::unexpected<ClientError>(given.error());
  return wire::Detokenize{.ids = {given->begin(), given->end()}};
}

}  // namespace sirocco

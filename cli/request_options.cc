#include "cli/request_options.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <limits>
#include <string_view>
#include <utility>

#include "cli/option_values.h"
#include "ipc/wire/socket_paths.h"
#include "ipc/wire/validate.h"

namespace sirocco {
namespace {

constexpr std::array<std::pair<std::string_view, wire::Priority>, 3> kPriorities = {
    {{"realtime", wire::Priority::realtime},
     {"interactive", wire::Priority::interactive},
     {"batch", wire::Priority::batch}}};

// Flags are named after the protocol's fields: "Sampling.top_p" is --top-p.
std::string flag_of(std::string_view field) {
  std::string flag = "--" + std::string(field.substr(field.find('.') + 1));
  std::replace(flag.begin(), flag.end(), '_', '-');
  return flag;
}

// What a flag may say is what the protocol allows: one list of ranges and lengths. Throws as CLI11's own checks do.
void check_against_protocol(const RequestOptions& options) {
  const auto valid = wire::validate(make_request(options, wire::TextPrompt{}));
  if (valid) return;
  const std::string_view message = valid.error().message;
  const std::size_t colon = message.find(": ");
  throw CLI::ValidationError(flag_of(message.substr(0, colon)), std::string(message.substr(colon + 2)));
}

// "ID=VALUE"
std::pair<std::int32_t, float> parse_bias(const std::string& text) {
  std::pair<std::int32_t, float> bias;
  const char* const end = text.data() + text.size();
  const auto id = std::from_chars(text.data(), end, bias.first);
  if (id.ec == std::errc() && id.ptr != end && *id.ptr == '=') {
    const auto value = std::from_chars(id.ptr + 1, end, bias.second);
    if (value.ec == std::errc() && value.ptr == end) return bias;
  }
  throw CLI::ValidationError("--logit-bias", "\"" + text + "\" is not the id of a token, = and a number");
}

void add_penalty_options(CLI::App& command, wire::Sampling& sampling) {
  command
      .add_option("--repetition-penalty", sampling.repetition_penalty,
                  "Above 1: tokens of prompt and answer are less likely to come again; 1: off")
      ->check(number())
      ->capture_default_str();
  command
      .add_option("--frequency-penalty", sampling.frequency_penalty,
                  "Taken off a token's logit for each time it is in the answer; 0: off")
      ->check(number())
      ->capture_default_str();
  command
      .add_option("--presence-penalty", sampling.presence_penalty,
                  "Taken off a token's logit once it is in the answer; 0: off")
      ->check(number())
      ->capture_default_str();
  command
      .add_option_function<std::vector<std::string>>(
          "--logit-bias",
          [&sampling](const std::vector<std::string>& given) {
            for (const std::string& one : given) sampling.logit_bias.push_back(parse_bias(one));
          },
          "Add VALUE to the logit of token ID; may be given several times")
      ->type_name("ID=VALUE")
      ->allow_extra_args(false);
}

}  // namespace

void add_request_options(CLI::App& command, RequestOptions& options) {
  const CLI::Validator u32 = whole_number(0, std::numeric_limits<std::uint32_t>::max());
  command.add_option("--max-tokens", options.max_tokens, "Most tokens to generate; 0: as many as the context holds")
      ->check(u32)
      ->capture_default_str();
  command.add_option("--temperature", options.sampling.temperature, "0 to 100; 0: always the most likely token")
      ->check(number())
      ->capture_default_str();
  command.add_option("--top-k", options.sampling.top_k, "Only the K most likely tokens; 0: all")
      ->check(u32)
      ->capture_default_str();
  command.add_option("--top-p", options.sampling.top_p, "Only the most likely tokens that together reach P; 1: all")
      ->check(number())
      ->capture_default_str();
  command
      .add_option("--min-p", options.sampling.min_p, "Only tokens at least P times as likely as the likeliest; 0: all")
      ->check(number())
      ->capture_default_str();
  add_penalty_options(command, options.sampling);
  command.add_option("--seed", options.sampling.seed, "The same seed and request give the same answer")
      ->check(whole_number(0, std::numeric_limits<std::uint64_t>::max()))
      ->capture_default_str();
  command.add_option("--stop", options.stop, "End before this text; may be given several times")
      ->allow_extra_args(false);
  std::vector<std::string> words;
  for (const auto& [word, priority] : kPriorities) words.emplace_back(word);
  command
      .add_option_function<std::string>(
          "--priority",
          [&options](const std::string& given) {
            for (const auto& [word, priority] : kPriorities)
              if (word == given) options.priority = priority;
          },
          "realtime, interactive or batch: who goes first; interactive if not given")
      ->check(one_of(std::move(words)));
  command.add_option("--deadline-ms", options.deadline_ms, "Milliseconds after which the answer is useless; 0: none")
      ->check(u32)
      ->capture_default_str();
  command.add_flag("--partial", options.partial, "At the deadline, end with what there is");
  command
      .add_option("--max-queue-ms", options.max_queue_ms,
                  "Milliseconds to wait for the first step at most; 0: any time")
      ->check(u32)
      ->capture_default_str();
  command
      .add_option("--latest-wins-key", options.latest_wins_key,
                  "A key: a newer request with the same one ends this one, if it has not ended yet")
      ->check(not_empty());
  command.add_option("--session", options.session, "Name of a lasting conversation to continue")->check(not_empty());
  command.parse_complete_callback([&options] { check_against_protocol(options); });
}

wire::Generate make_request(const RequestOptions& options, wire::Prompt prompt) {
  wire::Generate request;
  request.prompt = std::move(prompt);
  request.sampling = options.sampling;
  request.stop = options.stop;
  request.max_tokens = options.max_tokens;
  request.priority = options.priority;
  request.deadline_ms = options.deadline_ms;
  request.session = options.session;
  request.partial = options.partial;
  request.max_queue_ms = options.max_queue_ms;
  request.latest_wins_key = options.latest_wins_key;
  return request;
}

void add_socket_option(CLI::App& command, std::string& socket) {
  socket = wire::kDefaultSocket;
  command.add_option("--socket", socket, "The daemon's socket")
      ->check(not_empty())
      ->envname("SIROCCO_SOCKET")
      ->capture_default_str();
}

}  // namespace sirocco

#include "cli/answer.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <utility>

#include "cli/interrupt.h"
#include "cli/waiting.h"

namespace sirocco {
namespace {

double per_second(std::uint32_t tokens, std::uint64_t microseconds) {
  return microseconds == 0 ? 0 : tokens * 1e6 / static_cast<double>(microseconds);
}

}  // namespace

ClientResult<Answer> ask(Client& client, const wire::Generate& request,
                         const std::function<bool(std::string_view)>& on_text) {
  Answer answer;
  Waiting waiting("waiting for the daemon");
  const auto accepted = [&](const wire::Accepted& a) {
    waiting.now_for(a.queue_position > 0
                        ? fmt::format("waiting, {} requests go first", a.queue_position)
                        : fmt::format("waiting for the answer to a prompt of {} tokens", a.prompt_tokens));
  };
  const auto batch = [&](const wire::TokenBatch& b) {
    answer.ids.insert(answer.ids.end(), b.ids.begin(), b.ids.end());
    answer.text += b.text;
    if (!on_text) {
      waiting.now_for(fmt::format("{} tokens of the answer", answer.ids.size()));
      return true;
    }
    if (b.text.empty()) return true;
    waiting.done();
    return on_text(b.text);
  };
  const Interrupt::Cancels cancels(client);
  auto done = client.generate(request, {.accepted = accepted, .batch = batch});
  if (!done) return tl::unexpected<ClientError>(std::move(done.error()));
  answer.done = *std::move(done);
  return answer;
}

nlohmann::ordered_json answer_json(const Answer& answer) {
  const wire::Done& done = answer.done;
  nlohmann::ordered_json document = {
      {"text", answer.text},
      {"ids", answer.ids},
      {"reason", wire::done_reason_name(done.reason)},
      {"usage",
       {{"prompt_tokens", done.prompt_tokens},
        {"cached_tokens", done.cached_tokens},
        {"generated_tokens", done.generated_tokens}}},
      {"timings",
       {{"queued_us", done.queued_us},
        {"prefill_us", done.prefill_us},
        {"decode_us", done.decode_us},
        {"prefill_tokens_per_s", per_second(done.prompt_tokens - done.cached_tokens, done.prefill_us)},
        {"decode_tokens_per_s", per_second(done.generated_tokens, done.decode_us)}}}};
  if (done.reason == wire::DoneReason::stop_string) document["stop_string"] = done.stop_string;
  if (done.lossy_experts != 0) document["lossy_experts"] = done.lossy_experts;
  if (done.dropped_turns != 0) document["dropped_turns"] = done.dropped_turns;
  return document;
}

std::string answer_speed(const wire::Done& done) {
  return fmt::format("{} tokens of prompt{}, {} of answer; {:.1f} and {:.1f} tokens/s", done.prompt_tokens,
                     done.cached_tokens == 0 ? "" : fmt::format(" ({} computed before)", done.cached_tokens),
                     done.generated_tokens, per_second(done.prompt_tokens - done.cached_tokens, done.prefill_us),
                     per_second(done.generated_tokens, done.decode_us));
}

void warn_if_lossy(const wire::Done& done) {
  if (done.lossy_experts != 0)
    fmt::print(stderr, "sirocco: {} experts were skipped or replaced, this answer is not exact (lossy modes)\n",
               done.lossy_experts);
}

}  // namespace sirocco

#include "engine/running_request.h"

#include <algorithm>

namespace sirocco {
namespace {

std::uint64_t microseconds(Clock::time_point from, Clock::time_point to) {
  return static_cast<std::uint64_t>(std::chrono::duration_cast<std::chrono::microseconds>(to - from).count());
}

// An answer is a text of its own. What follows a raw prompt goes on with it, unless that holds no text but only BOS.
bool continues_prompt(const Tokenizer& tokenizer, const GenerateRequest& request, std::span<const TokenId> prompt) {
  return !std::holds_alternative<Conversation>(request.prompt) &&
         std::any_of(prompt.begin(), prompt.end(), [&](TokenId id) { return !tokenizer.piece(id).empty(); });
}

}  // namespace

RunningRequest::RunningRequest(const EngineParts& parts, const GenerateRequest& request, std::vector<TokenId> prompt)
    : tokens_(std::move(prompt)),
      prompt_tokens_(static_cast<std::uint32_t>(tokens_.size())),
      longest_(0),
      max_tokens_(request.prefill_only      ? 0
                  : request.max_tokens == 0 ? parts.context
                                            : request.max_tokens),
      prefill_only_(request.prefill_only),
      cache_owner_(sirocco::cache_owner(parts.cache_share, request.uid)),
      tokenizer_(parts.tokenizer),
      sampler_(request.sampling, tokens_, parts.tokenizer->vocabulary_size()),
      detokenizer_(parts.tokenizer, {.continues = continues_prompt(*parts.tokenizer, request, tokens_)}),
      stops_(request.stops),
      submitted_(request.arrived) {
  longest_ = prompt_tokens_ + std::min(max_tokens_, parts.context - prompt_tokens_);
  tokens_.reserve(longest_ + 1);
  if (parts.chat && std::holds_alternative<Conversation>(request.prompt)) end_tokens_ = parts.chat->end_tokens();
}

StepSequence RunningRequest::rows(std::uint32_t count) const {
  const bool last = cached_ + count == tokens_.size();
  return {.tokens = std::span(tokens_).subspan(cached_, count),
          .position = cached_,
          .block_table = blocks_,
          .logits = last ? WantLogits::last : WantLogits::none,
          .choice = last ? sampler_.choice() : std::nullopt};
}

Result<RunningRequest::Output> RunningRequest::sample(std::span<float> logits) {
  if (prefill_only_) return append(kNoToken);
  SIROCCO_TRY(const TokenId token, sampler_.sample(logits));
  return append(token);
}

RunningRequest::Output RunningRequest::accept(TokenId chosen) {
  sampler_.chosen();
  return append(chosen);
}

RunningRequest::Output RunningRequest::append(TokenId token) {
  if (prefill_only_) {
    first_token_ = Clock::now();
    return Output{.tokens = {}, .done = done(FinishReason::max_tokens, {})};
  }
  if (generated() == 0) first_token_ = Clock::now();
  tokens_.push_back(token);
  Output output;
  std::string text;
  std::optional<FinishReason> reason;
  if (tokenizer_->is_end(token) || std::find(end_tokens_.begin(), end_tokens_.end(), token) != end_tokens_.end()) {
    reason = FinishReason::end_token;
  } else {
    output.tokens.ids.push_back(token);
    text = detokenizer_.push(token);
    if (generated() >= max_tokens_) {
      reason = FinishReason::max_tokens;
    } else if (tokens_.size() >= longest_) {
      reason = FinishReason::context_full;
    }
  }
  if (reason) text += detokenizer_.flush();
  StopStrings::Output shown = stops_.push(text);
  output.tokens.text = std::move(shown.text);
  if (shown.stopped) {
    output.done = done(FinishReason::stop_string, std::move(shown.matched));
  } else if (reason) {
    output.tokens.text += stops_.flush();
    output.done = done(*reason, {});
  }
  if (turn_) {
    answer_ += output.tokens.text;
    shown_ += static_cast<std::uint32_t>(output.tokens.ids.size());
  }
  return output;
}

std::string RunningRequest::held_text() {
  std::string text = stops_.push(detokenizer_.flush()).text;
  text += stops_.flush();
  if (turn_) answer_ += text;
  return text;
}

bool RunningRequest::complete(SessionTurn& turn) const {
  if (prefill_only_) return cached_ == prompt_tokens_;
  SessionContent& content = turn.content;
  if (content.is_conversation()) {
    if (answer_.empty()) return false;
    ChatMessage& answer = content.conversation.messages.emplace_back();
    answer.role = Role::assistant;
    answer.content = answer_;
    return true;
  }
  const auto answer = std::span(tokens_).subspan(prompt_tokens_, shown_);
  content.tokens.insert(content.tokens.end(), answer.begin(), answer.end());
  return !answer.empty();
}

DoneEvent RunningRequest::done(FinishReason reason, std::string stop) const {
  const Clock::time_point now = Clock::now();
  const Clock::time_point started = started_.value_or(now);
  const Clock::time_point first_token = first_token_.value_or(now);
  return {.reason = reason,
          .stop = std::move(stop),
          .prompt_tokens = prompt_tokens_,
          .cached_tokens = hit_tokens_,
          .generated_tokens = generated(),
          .queued_us = microseconds(submitted_, started),
          .prefill_us = microseconds(started, first_token),
          .decode_us = microseconds(first_token, now),
          .lossy_experts = lossy_experts_,
          .dropped_turns = turn_ ? turn_->dropped_turns : 0};
}

}  // namespace sirocco

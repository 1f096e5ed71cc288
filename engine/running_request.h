// One request from its first row to its ending: its tokens, its place in the KV cache, its sampler and its text. Made
// by submit(), then owned by the engine thread. Part of engine.cc; nobody else includes it.
#pragma once

#include <chrono>
#include <optional>
#include <span>
#include <vector>

#include "engine/engine.h"
#include "engine/kv/prefix_cache.h"
#include "engine/kv/swap_file.h"
#include "engine/sample/stop_strings.h"
#include "engine/text/detokenizer.h"

namespace sirocco {

using Clock = std::chrono::steady_clock;

class RunningRequest {
 public:
  RunningRequest(const EngineParts& parts, const GenerateRequest& request, std::vector<TokenId> prompt);

  RequestId id = 0;
  std::uint32_t prompt_tokens() const { return prompt_tokens_; }
  std::uint32_t longest() const { return longest_; }  // tokens in the cache at most

  Clock::time_point submitted() const { return submitted_; }
  std::optional<Clock::time_point> started() const { return started_; }

  void mark_started() { started_ = Clock::now(); }

  // Its place in the KV cache.
  CacheOwner cache_owner() const { return cache_owner_; }
  std::vector<BlockId>& blocks() { return blocks_; }
  std::span<const TokenId> prompt() const { return std::span(tokens_).first(prompt_tokens_); }
  // What is computed, and the token that pends.
  std::span<const TokenId> until_next() const { return std::span(tokens_).first(cached_ + 1); }
  std::uint32_t cached() const { return cached_; }  // tokens whose keys and values are there
  void begin_after(std::uint32_t cached) { cached_ = hit_tokens_ = cached; }
  // What is behind the first `cached` of them has been lost, and pends again.
  void go_back_to(std::uint32_t cached) { cached_ = cached; }
  // Copies of its blocks from `first` on, while it is moved out.
  struct MovedOut {
    std::uint32_t first = 0;
    std::vector<SwapSlot> slots;
  };
  MovedOut& moved_out() { return moved_out_; }
  std::uint32_t hit_tokens() const { return hit_tokens_; }
  bool prefilled() const { return cached_ == prompt_tokens_; }
  // The tokens whose keys and values are what the model makes of them; none once a step has failed, or where experts
  // were done without.
  std::span<const TokenId> computed() const {
    return std::span(tokens_).first(void_ || lossy_experts_ > 0 ? 0 : cached_);
  }
  void mark_void() { void_ = true; }

  // Of a session.
  void begin_turn(SessionTurn turn) {
    cache_owner_ = turn.owner;
    turn_ = std::move(turn);
  }
  std::optional<SessionTurn> take_turn() { return std::exchange(turn_, std::nullopt); }
  // Appends the answer to the turn's content. False: there is none, and the session is to stay as it was.
  bool complete(SessionTurn& turn) const;

  // The next `count` pending tokens as a part of a step; logits of the last are wanted if no token pends after it.
  StepSequence rows(std::uint32_t count) const;
  void advance(std::uint32_t count) { cached_ += count; }
  void add_lossy(std::uint64_t experts) { lossy_experts_ += experts; }

  // Chooses the next token, or takes the one that the backend has chosen; and what may be shown because of it.
  struct Output {
    TokensEvent tokens;
    std::optional<DoneEvent> done;
  };
  Result<Output> sample(std::span<float> logits);
  Output accept(TokenId chosen);

  // What was held back because of what might have come after it, once nothing will.
  std::string held_text();

  DoneEvent done(FinishReason reason, std::string stop) const;

 private:
  Output append(TokenId token);
  std::uint32_t generated() const { return static_cast<std::uint32_t>(tokens_.size()) - prompt_tokens_; }

  std::vector<TokenId> tokens_;  // prompt and answer
  std::uint32_t prompt_tokens_;
  std::uint32_t longest_;
  std::uint32_t max_tokens_;
  bool prefill_only_;
  CacheOwner cache_owner_;
  std::optional<SessionTurn> turn_;
  std::string answer_;               // as it was shown, of a session's request
  std::uint32_t shown_ = 0;          // tokens of it
  std::uint32_t cached_ = 0;         // tokens whose keys and values are in the cache
  std::uint32_t hit_tokens_ = 0;     // of them, that were there at the start
  bool void_ = false;                // they may be wrong
  std::uint64_t lossy_experts_ = 0;  // that its rows did without
  std::vector<BlockId> blocks_;
  MovedOut moved_out_;
  std::shared_ptr<const Tokenizer> tokenizer_;
  std::vector<TokenId> end_tokens_;  // of the chat format
  Sampler sampler_;
  Detokenizer detokenizer_;
  StopStrings stops_;
  Clock::time_point submitted_;
  std::optional<Clock::time_point> started_;
  std::optional<Clock::time_point> first_token_;
};

}  // namespace sirocco

// Chooses the next token from a row of logits. The definitions are those of transformers' logits processors, applied in
// this order: bias, repetition / frequency / presence penalties, temperature, top-k, top-p, min-p. One Sampler belongs
// to one sequence and is called from the engine thread. The same parameters, seed, history and logits give the same
// token.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "engine/base/ids.h"
#include "engine/base/result.h"
#include "kernels/token_choice.h"

namespace sirocco {

struct SamplingParameters {
  float temperature = 0;         // 0: greedy
  std::uint32_t top_k = 0;       // 0: off; the k largest logits, and all that equal the k-th
  float top_p = 1;               // 1: off; the fewest tokens whose probabilities reach p
  float min_p = 0;               // 0: off; of the most probable token's probability
  float repetition_penalty = 1;  // 1: off; once per distinct id of prompt and answer
  float frequency_penalty = 0;   // per occurrence in the answer (OpenAI)
  float presence_penalty = 0;    // once per distinct id of the answer (OpenAI)
  std::uint64_t seed = 0;
  std::vector<std::pair<TokenId, float>> logit_bias = {};

  // What is out of range, by name, with the range.
  Result<void> validate(std::size_t vocabulary) const;
};

class Sampler {
 public:
  struct Candidate {
    TokenId id = 0;
    float logit = 0;        // after bias and penalties
    float probability = 0;  // after everything; those of all candidates add up to 1
  };

  // The parameters are valid and every id of the prompt is in the vocabulary. `prompt` counts for the repetition
  // penalty only. Holds 12 bytes per token of the vocabulary unless greedy, 4 more without top-k, and 8 more with
  // penalties.
  Sampler(SamplingParameters parameters, std::span<const TokenId> prompt, std::size_t vocabulary);

  // Chooses a token and counts it for the penalties of the next call. Allocates nothing.
  //
  //   logits  [vocabulary] f32, changed in place
  //
  // Error (corrupt) naming the token if a logit is NaN or +infinity, or if all are -infinity. One that is -infinity is
  // never chosen.
  Result<TokenId> sample(std::span<float> logits);

  // What sample() would do with the next logits, where they alone decide: then another may choose, to the bit the same
  // token, and says so with chosen(). Nothing: with penalties and biases.
  std::optional<TokenChoice> choice() const;
  void chosen() { ++draws_; }

  // The tokens that sample() would choose from, most probable first with top-k or top-p, otherwise in the order of
  // their ids; greedy: one. Valid until the next call.
  Result<std::span<const Candidate>> candidates(std::span<float> logits);

 private:
  // candidates() before probabilities are divided by their sum.
  Result<std::span<Candidate>> keep(std::span<float> logits);
  bool penalised() const;
  void adjust(std::span<float> logits) const;
  void count(TokenId id, std::uint32_t in_answer);

  SamplingParameters parameters_;
  std::size_t vocabulary_;
  std::vector<std::uint32_t> answer_counts_;  // [vocabulary], with penalties
  std::vector<bool> seen_;                    // [vocabulary], with penalties
  std::vector<TokenId> distinct_;             // the ids in seen_, room for all
  std::uint64_t draws_ = 0;                   // counter of the random stream
  std::vector<Candidate> scratch_;            // [vocabulary], 1 if greedy
  std::vector<float> exponentials_;           // [vocabulary], none if greedy or with top-k
};

}  // namespace sirocco

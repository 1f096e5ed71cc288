#include "engine/sample/sampler.h"

#include <algorithm>
#include <cassert>
#include <cmath>
#include <limits>
#include <string_view>

#include "engine/sample/random.h"

namespace sirocco {
namespace {

using Candidate = Sampler::Candidate;

// The ranges that docs/protocol.md promises to clients.
constexpr float kMaxTemperature = 100;
constexpr float kMaxPenalty = 100;
constexpr float kMaxBias = 1000;
constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kLargest = std::numeric_limits<float>::max();

Result<void> check_range(std::string_view name, float value, float low, float high) {
  if (value >= low && value <= high) return {};  // false for NaN
  return fail(ErrorCode::invalid_argument, "{}: {} is out of range; allowed: {} to {}", name, value, low, high);
}

Result<void> check_bias(const std::vector<std::pair<TokenId, float>>& bias, std::size_t vocabulary) {
  std::vector<TokenId> ids;
  ids.reserve(bias.size());
  for (const auto& [id, value] : bias) {
    if (id < 0 || static_cast<std::size_t>(id) >= vocabulary) {
      return fail(ErrorCode::invalid_argument, "logit_bias: token {} is not in the vocabulary; allowed: 0 to {}", id,
                  vocabulary - 1);
    }
    if (!(value >= -kMaxBias && value <= kMaxBias)) {
      return fail(ErrorCode::invalid_argument, "logit_bias: {} for token {} is out of range; allowed: {} to {}", value,
                  id, -kMaxBias, kMaxBias);
    }
    ids.push_back(id);
  }
  std::sort(ids.begin(), ids.end());
  const auto twice = std::adjacent_find(ids.begin(), ids.end());
  if (twice == ids.end()) return {};
  return fail(ErrorCode::invalid_argument, "logit_bias: token {} is given twice", *twice);
}

// Weights that are not numbers are by far the likeliest cause.
constexpr std::string_view kVerifyAdvice = "run `sirocco model verify` on the model's file";

// The id of the largest logit, the lowest of equal ones.
Result<TokenId> largest(std::span<const float> logits) {
  std::size_t best = 0;
  for (std::size_t i = 0; i < logits.size(); ++i) {
    if (!(logits[i] < kInfinity)) {
      return fail(ErrorCode::corrupt, "logits: token {} of {}: {} is not a number below infinity; {}", i, logits.size(),
                  logits[i], kVerifyAdvice);
    }
    if (logits[i] > logits[best]) best = i;
  }
  if (logits.empty() || logits[best] == -kInfinity) {
    return fail(ErrorCode::corrupt, "logits: all {} are -infinity; no token can be chosen; {}", logits.size(),
                kVerifyAdvice);
  }
  return static_cast<TokenId>(best);
}

// A total order, so that what is kept does not depend on how the library sorts.
bool before(const Candidate& a, const Candidate& b) {
  return a.logit != b.logit ? a.logit > b.logit : a.id < b.id;
}

// The first `count` of the order, sorted; `count` is not more than there are.
std::span<Candidate> sorted_front(std::span<Candidate> all, std::size_t count) {
  const auto end = all.begin() + static_cast<std::ptrdiff_t>(count);
  if (end != all.end()) std::nth_element(all.begin(), end, all.end(), before);
  const std::span<Candidate> front = all.first(count);
  std::sort(front.begin(), front.end(), before);
  return front;
}

// The k largest and every one that equals the k-th, sorted.
std::span<Candidate> top_k(std::span<Candidate> all, std::size_t k) {
  if (k >= all.size()) return sorted_front(all, all.size());
  const auto kth = all.begin() + static_cast<std::ptrdiff_t>(k - 1);
  std::nth_element(all.begin(), kth, all.end(), before);
  const auto equals_kth = [logit = kth->logit](const Candidate& other) { return other.logit == logit; };
  const auto end = std::partition(kth + 1, all.end(), equals_kth);
  std::sort(all.begin(), end, before);
  return {all.begin(), end};
}

// The shortest run of the most probable whose probabilities reach `mass`. Only as much of the front is sorted as that
// takes, in blocks that grow: it is a few tokens of a hundred thousand as a rule.
std::span<Candidate> top_p(std::span<Candidate> all, double mass) {
  constexpr std::size_t kFirstBlock = 64;
  double sum = 0;
  std::size_t kept = 0;
  while (kept < all.size()) {
    const std::span<Candidate> rest = all.subspan(kept);
    const std::span<Candidate> block = sorted_front(rest, std::min(rest.size(), std::max(kFirstBlock, 3 * kept)));
    for (const Candidate& candidate : block) {
      if (kept > 0 && sum >= mass) return all.first(kept);
      sum += double{candidate.probability};
      ++kept;
    }
  }
  return all;
}

double sum_of_probabilities(std::span<const Candidate> candidates) {
  double sum = 0;
  for (const Candidate& candidate : candidates) sum += double{candidate.probability};
  return sum;
}

}  // namespace

Result<void> SamplingParameters::validate(std::size_t vocabulary) const {
  SIROCCO_CHECK(check_range("temperature", temperature, 0, kMaxTemperature));
  SIROCCO_CHECK(check_range("top_p", top_p, 0, 1));
  SIROCCO_CHECK(check_range("min_p", min_p, 0, 1));
  SIROCCO_CHECK(check_range("repetition_penalty", repetition_penalty, 0, kMaxPenalty));
  if (repetition_penalty == 0) return fail(ErrorCode::invalid_argument, "repetition_penalty: 0 divides by zero");
  SIROCCO_CHECK(check_range("frequency_penalty", frequency_penalty, -kMaxPenalty, kMaxPenalty));
  SIROCCO_CHECK(check_range("presence_penalty", presence_penalty, -kMaxPenalty, kMaxPenalty));
  return check_bias(logit_bias, vocabulary);
}

Sampler::Sampler(SamplingParameters parameters, std::span<const TokenId> prompt, std::size_t vocabulary)
    : parameters_(std::move(parameters)),
      vocabulary_(vocabulary),
      scratch_(parameters_.temperature == 0 ? 1 : vocabulary) {
  if (!penalised()) return;
  answer_counts_.resize(vocabulary);
  seen_.resize(vocabulary);
  distinct_.reserve(vocabulary);
  for (const TokenId id : prompt) count(id, 0);
}

Result<TokenId> Sampler::sample(std::span<float> logits) {
  SIROCCO_TRY(const std::span<const Candidate> choice, candidates(logits));

  // The walk adds up in the same order as the total, which is more than the target: it ends at a token of probability >
  // 0.
  const double target = uniform(parameters_.seed, draws_++) * sum_of_probabilities(choice);
  std::size_t i = 0;
  for (double sum = double{choice[0].probability}; sum <= target; sum += double{choice[i].probability}) ++i;

  if (penalised()) count(choice[i].id, 1);
  return choice[i].id;
}

Result<std::span<const Sampler::Candidate>> Sampler::candidates(std::span<float> logits) {
  assert(logits.size() == vocabulary_);
  adjust(logits);
  SIROCCO_TRY(const TokenId best, largest(logits));
  const float highest = logits[static_cast<std::size_t>(best)];
  if (parameters_.temperature == 0) {
    scratch_[0] = {.id = best, .logit = highest, .probability = 1};
    return scratch_;
  }

  std::size_t possible = 0;
  for (std::size_t i = 0; i < logits.size(); ++i) {
    if (logits[i] == -kInfinity) continue;
    scratch_[possible++] = {.id = static_cast<TokenId>(i), .logit = logits[i], .probability = 0};
  }
  std::span<Candidate> kept(scratch_.data(), possible);
  if (parameters_.top_k > 0) kept = top_k(kept, parameters_.top_k);

  // Softmax without its division. The highest is subtracted first: no temperature, however low, overflows.
  for (Candidate& candidate : kept) {
    const double logit = (double{candidate.logit} - double{highest}) / double{parameters_.temperature};
    candidate.probability = static_cast<float>(std::exp(logit));
  }
  const double total = sum_of_probabilities(kept);

  // min-p and top-p each keep the front of one order, so min-p, which needs no sorting, can come first; top-p's share
  // is of what there was before either. The most probable token's share is exactly 1 here.
  const auto too_small = [this](const Candidate& candidate) { return candidate.probability < parameters_.min_p; };
  kept = kept.first(static_cast<std::size_t>(std::remove_if(kept.begin(), kept.end(), too_small) - kept.begin()));
  if (parameters_.top_p < 1) kept = top_p(kept, double{parameters_.top_p} * total);

  const double kept_total = sum_of_probabilities(kept);
  for (Candidate& candidate : kept) {
    candidate.probability = static_cast<float>(double{candidate.probability} / kept_total);
  }
  return kept;
}

bool Sampler::penalised() const {
  return parameters_.repetition_penalty != 1 || parameters_.frequency_penalty != 0 || parameters_.presence_penalty != 0;
}

void Sampler::adjust(std::span<float> logits) const {
  for (const auto& [id, bias] : parameters_.logit_bias) logits[static_cast<std::size_t>(id)] += bias;
  for (const TokenId id : distinct_) {
    float& logit = logits[static_cast<std::size_t>(id)];
    if (!std::isfinite(logit)) continue;  // what cannot be chosen stays so, what is no number is found later
    // A penalty far below 1 leads out of the floats: their largest stands for what lies beyond.
    const float penalised = logit < 0 ? logit * parameters_.repetition_penalty : logit / parameters_.repetition_penalty;
    logit = std::clamp(penalised, -kLargest, kLargest);
    const std::uint32_t times = answer_counts_[static_cast<std::size_t>(id)];
    if (times == 0) continue;
    logit -= static_cast<float>(times) * parameters_.frequency_penalty + parameters_.presence_penalty;
  }
}

void Sampler::count(TokenId id, std::uint32_t in_answer) {
  const auto i = static_cast<std::size_t>(id);
  assert(id >= 0 && i < vocabulary_);
  answer_counts_[i] += in_answer;
  if (seen_[i]) return;
  seen_[i] = true;
  distinct_.push_back(id);
}

}  // namespace sirocco

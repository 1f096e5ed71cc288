#include "engine/sample/sampler.h"

#include <algorithm>
#include <cassert>
#include <cmath>
#include <cstdint>
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

// The same of a vocabulary's logits, which are not all copied: what is below the k-th of those before it is passed
// over.
std::span<Candidate> top_k(std::span<const float> logits, std::size_t k, std::span<Candidate> scratch) {
  const std::size_t room = std::max<std::size_t>(4 * std::min(k, scratch.size()), 1024);
  std::size_t count = 0;
  std::size_t next_cut = room;
  float least = std::numeric_limits<float>::lowest();
  for (std::size_t i = 0; i < logits.size(); ++i) {
    if (!(logits[i] >= least)) continue;
    scratch[count++] = {.id = static_cast<TokenId>(i), .logit = logits[i], .probability = 0};
    if (count < next_cut || count <= k) continue;
    count = top_k(scratch.first(count), k).size();
    least = scratch[k - 1].logit;
    next_cut = std::max(2 * count, room);
  }
  return top_k(scratch.first(count), k);
}

// Those that can be chosen at all and have a probability of at least `least`, in the order of their ids.
std::span<Candidate> at_least(std::span<const float> logits, std::span<const float> probabilities, float least,
                              std::span<Candidate> scratch) {
  std::size_t count = 0;
  for (std::size_t i = 0; i < logits.size(); ++i)
    if (probabilities[i] >= least && logits[i] > -kInfinity)
      scratch[count++] = {.id = static_cast<TokenId>(i), .logit = logits[i], .probability = probabilities[i]};
  return scratch.first(count);
}

// The shortest run of the most probable whose weights reach `enough`. Only as much of the front is sorted as that
// takes, in blocks that grow: it is a few tokens of a hundred thousand as a rule.
std::span<Candidate> top_p(std::span<Candidate> all, std::uint64_t enough) {
  constexpr std::size_t kFirstBlock = 64;
  std::uint64_t sum = 0;
  std::size_t kept = 0;
  while (kept < all.size()) {
    const std::span<Candidate> rest = all.subspan(kept);
    const std::span<Candidate> block = sorted_front(rest, std::min(rest.size(), std::max(kFirstBlock, 3 * kept)));
    for (const Candidate& candidate : block) {
      if (sum >= enough) return all.first(kept);
      sum += token_weight(candidate.probability);
      ++kept;
    }
  }
  return all;
}

std::uint64_t sum_of_weights(std::span<const Candidate> candidates) {
  std::uint64_t sum = 0;
  for (const Candidate& candidate : candidates) sum += token_weight(candidate.probability);
  return sum;
}

// The candidate at which the weights, added up, exceed `target`, which is less than their sum.
const Candidate& reach(std::span<const Candidate> candidates, std::uint64_t target) {
  std::uint64_t sum = 0;
  for (const Candidate& candidate : candidates) {
    sum += token_weight(candidate.probability);
    if (sum > target) return candidate;
  }
  return candidates.back();
}

// Probabilities before their division by their sum, of all logits. What cannot be chosen gets 0.
void exponentials(std::span<const float> logits, float highest, float temperature, std::span<float> out) {
  assert(out.size() == logits.size());
  const float scale = inverse_temperature(temperature);
  const float* const from = logits.data();  // a span's checks would keep the loop from being vectorised
  float* const to = out.data();
  for (std::size_t i = 0; i < logits.size(); ++i) to[i] = exponential((from[i] - highest) * scale);
}

std::uint64_t sum_of_weights(std::span<const float> probabilities) {
  std::uint64_t sum = 0;
  for (const float probability : probabilities) sum += token_weight(probability);
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
      scratch_(parameters_.temperature == 0 ? 1 : vocabulary),
      exponentials_(parameters_.temperature == 0 || parameters_.top_k > 0 ? 0 : vocabulary) {
  if (!penalised()) return;
  answer_counts_.resize(vocabulary);
  seen_.resize(vocabulary);
  distinct_.reserve(vocabulary);
  for (const TokenId id : prompt) count(id, 0);
}

std::optional<TokenChoice> Sampler::choice() const {
  if (penalised() || !parameters_.logit_bias.empty()) return std::nullopt;
  return TokenChoice{.temperature = parameters_.temperature,
                     .top_p = parameters_.top_p,
                     .min_p = parameters_.min_p,
                     .top_k = parameters_.top_k,
                     .random = split_mix_64(parameters_.seed, draws_)};
}

Result<TokenId> Sampler::sample(std::span<float> logits) {
  SIROCCO_TRY(const std::span<const Candidate> choice, keep(logits));
  const std::uint64_t random = split_mix_64(parameters_.seed, draws_++);
  const TokenId id = reach(choice, drawn_weight(random, sum_of_weights(choice))).id;
  if (penalised()) count(id, 1);
  return id;
}

Result<std::span<const Sampler::Candidate>> Sampler::candidates(std::span<float> logits) {
  SIROCCO_TRY(const std::span<Candidate> kept, keep(logits));
  const double total = static_cast<double>(sum_of_weights(kept)) / double{kWeightUnits};
  for (Candidate& candidate : kept) candidate.probability = static_cast<float>(double{candidate.probability} / total);
  return kept;
}

Result<std::span<Sampler::Candidate>> Sampler::keep(std::span<float> logits) {
  assert(logits.size() == vocabulary_);
  adjust(logits);
  SIROCCO_TRY(const TokenId best, largest(logits));
  const float highest = logits[static_cast<std::size_t>(best)];
  if (parameters_.temperature == 0) {
    scratch_[0] = {.id = best, .logit = highest, .probability = 1};
    return scratch_;
  }

  // Softmax without its division. The highest is subtracted first: no temperature, however low, overflows.
  std::span<Candidate> kept;
  std::uint64_t total = 0;  // of what top-p takes its share of
  if (parameters_.top_k > 0) {
    kept = top_k(logits, parameters_.top_k, scratch_);
    const float scale = inverse_temperature(parameters_.temperature);
    for (Candidate& c : kept) c.probability = exponential((c.logit - highest) * scale);
    total = sum_of_weights(kept);
  } else {
    exponentials(logits, highest, parameters_.temperature, exponentials_);
    if (parameters_.top_p < 1) total = sum_of_weights(exponentials_);
    const float surely_out = below_top_p(parameters_.top_p, total, static_cast<std::uint32_t>(logits.size()));
    kept = at_least(logits, exponentials_, std::max(surely_out, parameters_.min_p), scratch_);
  }

  // min-p and top-p each keep the front of one order, so min-p, which needs no sorting, can come first; top-p's share
  // is of what there was before either. The most probable token's share is exactly 1 here.
  const auto too_small = [this](const Candidate& candidate) { return candidate.probability < parameters_.min_p; };
  kept = kept.first(static_cast<std::size_t>(std::remove_if(kept.begin(), kept.end(), too_small) - kept.begin()));
  if (parameters_.top_p < 1) kept = top_p(kept, top_p_weight(parameters_.top_p, total));
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

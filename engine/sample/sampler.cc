#include "engine/sample/sampler.h"

#include <algorithm>
#include <bit>
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

// In four sums that are added at the end: one would wait for itself a hundred thousand times.
double sum_of_probabilities(std::span<const Candidate> candidates) {
  double sums[4] = {};
  std::size_t i = 0;
  for (; i + 4 <= candidates.size(); i += 4)
    for (std::size_t j = 0; j < 4; ++j) sums[j] += double{candidates[i + j].probability};
  for (; i < candidates.size(); ++i) sums[0] += double{candidates[i].probability};
  return (sums[0] + sums[1]) + (sums[2] + sums[3]);
}

// The first candidate at which the probabilities add up to more than `target`, or the last of probability above 0 if
// rounding keeps the sum below it.
std::size_t reach(std::span<const Candidate> candidates, double target) {
  constexpr std::size_t kBlock = 256;
  double sum = 0;
  std::size_t begin = 0;
  while (begin + kBlock < candidates.size()) {  // whole blocks are stepped over
    const double after = sum + sum_of_probabilities(candidates.subspan(begin, kBlock));
    if (after > target) break;
    sum = after;
    begin += kBlock;
  }
  std::size_t last = 0;
  for (std::size_t i = begin; i < candidates.size(); ++i) {
    if (candidates[i].probability > 0) last = i;
    sum += double{candidates[i].probability};
    if (sum > target) return i;
  }
  return last;
}

// e^x for x up to 0, within 2e-7 of it: plain multiplications and additions, so the same on every machine and, other
// than the library's, four or more at a time. Cephes' polynomial; below 1e-37 it is 0.
float exponential(float x) {
  constexpr float kLog2E = 1.44269504F;
  constexpr float kLn2High = 0.693359375F;
  constexpr float kLn2Low = -2.12194440e-4F;
  constexpr float kRound = 12582912.0F;  // 1.5 * 2^23: adding it leaves no fraction
  const float kept = x < -85.0F ? -85.0F : x;
  const float n = (kept * kLog2E + kRound) - kRound;
  const float r = (kept - n * kLn2High) - n * kLn2Low;
  float p = 1.9875691500e-4F;
  p = p * r + 1.3981999507e-3F;
  p = p * r + 8.3334519073e-3F;
  p = p * r + 4.1665795894e-2F;
  p = p * r + 1.6666665459e-1F;
  p = p * r + 5.0000001201e-1F;
  p = p * (r * r) + r + 1.0F;
  const float power = std::bit_cast<float>((static_cast<std::int32_t>(n) + 127) << 23);
  return x < -85.0F ? 0.0F : p * power;
}

// What logits are multiplied with; finite at the lowest temperatures too, or the highest's own 0 would become NaN.
float inverse(float temperature) {
  return std::min(1.0F / temperature, kLargest);
}

// Probabilities before their division by `total`, of all logits. What cannot be chosen gets 0.
void exponentials(std::span<const float> logits, float highest, float temperature, std::span<float> out) {
  assert(out.size() == logits.size());
  const float scale = inverse(temperature);
  const float* const from = logits.data();  // a span's checks would keep the loop from being vectorised
  float* const to = out.data();
  for (std::size_t i = 0; i < logits.size(); ++i) to[i] = exponential((from[i] - highest) * scale);
}

double sum_of(std::span<const float> values) {
  constexpr std::size_t kLanes = 8;
  double sums[kLanes] = {};
  std::size_t i = 0;
  const float* const from = values.data();
  for (; i + kLanes <= values.size(); i += kLanes)
    for (std::size_t j = 0; j < kLanes; ++j) sums[j] += double{from[i + j]};
  for (; i < values.size(); ++i) sums[0] += double{from[i]};
  return ((sums[0] + sums[1]) + (sums[2] + sums[3])) + ((sums[4] + sums[5]) + (sums[6] + sums[7]));
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

Result<TokenId> Sampler::sample(std::span<float> logits) {
  SIROCCO_TRY(const std::span<const Candidate> choice, candidates(logits));

  const std::size_t i = reach(choice, uniform(parameters_.seed, draws_++) * sum_of_probabilities(choice));

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

  // Softmax without its division. The highest is subtracted first: no temperature, however low, overflows.
  std::span<Candidate> kept;
  double total = 0;  // of what top-p takes its share of
  if (parameters_.top_k > 0) {
    kept = top_k(logits, parameters_.top_k, scratch_);
    for (Candidate& c : kept) c.probability = exponential((c.logit - highest) * inverse(parameters_.temperature));
    total = sum_of_probabilities(kept);
  } else {
    exponentials(logits, highest, parameters_.temperature, exponentials_);
    total = sum_of(exponentials_);
    // What top-p leaves out for certain: all those below the bound together are less than it may leave out.
    const double rest = (1 - double{parameters_.top_p}) * total / static_cast<double>(logits.size());
    kept = at_least(logits, exponentials_, std::max(static_cast<float>(rest * 0.99), parameters_.min_p), scratch_);
  }

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

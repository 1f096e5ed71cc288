#include "kernels/ref/choose_token.h"

#include <algorithm>
#include <cassert>
#include <limits>
#include <numeric>

namespace sirocco::ref {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

}  // namespace

std::int32_t choose_token(const TokenChoice& choice, std::span<const float> logits, std::span<std::uint32_t> scratch) {
  assert(scratch.size() >= logits.size());
  for (const float logit : logits)
    if (!(logit < kInfinity)) return kNoToken;
  std::span<std::uint32_t> ids = scratch.first(logits.size());
  std::iota(ids.begin(), ids.end(), 0U);
  const auto before = [&](std::uint32_t a, std::uint32_t b) {
    return logits[a] != logits[b] ? logits[a] > logits[b] : a < b;
  };
  std::sort(ids.begin(), ids.end(), before);
  while (!ids.empty() && logits[ids.back()] == -kInfinity) ids = ids.first(ids.size() - 1);
  if (ids.empty()) return kNoToken;
  if (choice.temperature == 0) return static_cast<std::int32_t>(ids.front());

  const float highest = logits[ids.front()];
  const auto probability = [&](std::uint32_t id) {
    return exponential((logits[id] - highest) * inverse_temperature(choice.temperature));
  };
  const auto weight = [&](std::uint32_t id) { return token_weight(probability(id)); };
  const auto sum = [&] {
    std::uint64_t total = 0;
    for (const std::uint32_t id : ids) total += weight(id);
    return total;
  };
  if (choice.top_k > 0 && choice.top_k < ids.size()) {
    std::size_t count = choice.top_k;
    while (count < ids.size() && logits[ids[count]] == logits[ids[choice.top_k - 1]]) ++count;
    ids = ids.first(count);
  }
  const std::uint64_t total = sum();
  const auto too_small = [&](std::uint32_t id) { return probability(id) < choice.min_p; };
  ids = ids.first(static_cast<std::size_t>(std::remove_if(ids.begin(), ids.end(), too_small) - ids.begin()));
  if (choice.top_p < 1) {
    const std::uint64_t enough = top_p_weight(choice.top_p, total);
    std::uint64_t reached = 0;
    std::size_t count = 0;
    while (count < ids.size() && reached < enough) reached += weight(ids[count++]);
    ids = ids.first(count);
  }
  if (choice.top_k == 0 && choice.top_p >= 1) std::sort(ids.begin(), ids.end());

  const std::uint64_t target = drawn_weight(choice.random, sum());
  std::uint64_t passed = 0;
  for (const std::uint32_t id : ids) {
    passed += weight(id);
    if (passed > target) return static_cast<std::int32_t>(id);
  }
  return kNoToken;  // not reached: the first of `ids` has a weight
}

}  // namespace sirocco::ref

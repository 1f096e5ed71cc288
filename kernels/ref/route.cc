#include "kernels/ref/route.h"

#include <algorithm>
#include <cassert>
#include <cmath>
#include <numeric>

#include "kernels/ref/softmax.h"

namespace sirocco::ref {
namespace {

// NaN counts as the largest: it is chosen, and so shows in the output, where it would otherwise be passed over.
bool above(float a, float b) {
  return a > b || (std::isnan(a) && !std::isnan(b));
}

// By insertion into a list ordered from the largest logit down; an equal one stays behind those before it.
void choose(std::span<const float> logits, std::span<std::uint32_t> chosen) {
  std::size_t count = 0;
  for (std::uint32_t expert = 0; expert < logits.size(); ++expert) {
    std::size_t place = count;
    while (place > 0 && above(logits[expert], logits[chosen[place - 1]])) --place;
    if (place == chosen.size()) continue;
    if (count < chosen.size()) ++count;
    for (std::size_t i = count - 1; i > place; --i) chosen[i] = chosen[i - 1];
    chosen[place] = expert;
  }
  std::sort(chosen.begin(), chosen.end());
}

}  // namespace

void route(const RouteParameters& parameters, std::span<const float> logits, std::span<std::uint32_t> experts,
           std::span<float> weights, std::span<float> scratch) {
  assert(!experts.empty() && experts.size() <= logits.size());
  assert(weights.size() == experts.size() && scratch.size() >= logits.size());

  choose(logits, experts);
  if (parameters.softmax_before_choice) {
    const std::span<float> shares = scratch.first(logits.size());
    std::copy(logits.begin(), logits.end(), shares.begin());
    softmax(shares);
    for (std::size_t i = 0; i < experts.size(); ++i) weights[i] = shares[experts[i]];
    if (parameters.normalise) {
      const double sum = std::accumulate(weights.begin(), weights.end(), 0.0);
      for (float& weight : weights) weight = static_cast<float>(weight / sum);
    }
  } else {
    for (std::size_t i = 0; i < experts.size(); ++i) weights[i] = logits[experts[i]];
    softmax(weights);
  }
  for (float& weight : weights) weight *= parameters.scale;
}

}  // namespace sirocco::ref

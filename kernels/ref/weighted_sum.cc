#include "kernels/ref/weighted_sum.h"

#include <algorithm>
#include <cassert>

namespace sirocco::ref {

void weighted_sum(std::span<const float> x, std::span<const float> weights, std::span<float> y) {
  assert(x.size() == weights.size() * y.size());

  std::fill(y.begin(), y.end(), 0.0F);
  for (std::size_t e = 0; e < weights.size(); ++e) {
    const std::span<const float> expert = x.subspan(e * y.size(), y.size());
    for (std::size_t i = 0; i < y.size(); ++i) y[i] += weights[e] * expert[i];
  }
}

void add(std::span<const float> x, std::span<float> y) {
  assert(x.size() == y.size());

  for (std::size_t i = 0; i < y.size(); ++i) y[i] += x[i];
}

}  // namespace sirocco::ref

// The sum of the chosen experts' outputs, and the residual addition.
#pragma once

#include <cstddef>
#include <span>

namespace sirocco::ref {

// y[i] = sum_e weights[e] * x[e, i], in order of e (ascending expert index).
//
//   x  [weights.size(), y.size()] f32
void weighted_sum(std::span<const float> x, std::span<const float> weights, std::span<float> y);

// y[i] += x[i]
void add(std::span<const float> x, std::span<float> y);

}  // namespace sirocco::ref

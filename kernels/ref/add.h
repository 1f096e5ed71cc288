// Rows added up: the residual stream, and the sum of the chosen experts' outputs.
#pragma once

#include <span>

namespace sirocco::ref {

// y[i] += x[i]
void add(std::span<const float> x, std::span<float> y);

// y[i] += weight * x[i]
void add_scaled(std::span<const float> x, float weight, std::span<float> y);

}  // namespace sirocco::ref

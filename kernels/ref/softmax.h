// Softmax of one row, as attention and routing use it.
#pragma once

#include <span>

namespace sirocco::ref {

// x[i] = exp(x[i] - max) / sum_j exp(x[j] - max), in place; x: [n] f32, not empty.
//
// The sum runs in index order in double precision. Of one element the result is exactly 1.
void softmax(std::span<float> x);

}  // namespace sirocco::ref

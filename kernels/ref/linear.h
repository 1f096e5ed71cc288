// Matrix product with a weight matrix in any of GGUF's types: y = x W^T.
#pragma once

#include <cstddef>
#include <span>

#include "kernels/matrix.h"

namespace sirocco::ref {

// y[r * stride + n] = sum_k x[r][k] * w[n, k]   for n in [first, last), r in [0, x.size())
//
//   x        rows of [inputs] f32
//   scratch  [inputs] f32: one dequantised row of w
//
// The sum runs in 16 interleaved partial sums (k mod 16), added pairwise at the end: the same order for one row or
// many.
void linear(const Matrix& w, std::span<const float* const> x, std::size_t first, std::size_t last, float* y,
            std::size_t stride, std::span<float> scratch);

}  // namespace sirocco::ref

// Matrix product with a weight matrix in any of GGUF's types: y = x W^T.
#pragma once

#include <cstddef>
#include <span>

#include "kernels/matrix.h"

namespace sirocco::ref {

// y[r, n] = sum_k x[r, k] * w[n, k]   for n in [first, last)
//
//   x        [rows, inputs] f32
//   y        [rows, outputs] f32; only columns first to last - 1 are written
//   scratch  [inputs] f32: one dequantised row of w
//
// The sum runs in 16 interleaved partial sums (k mod 16), added pairwise at the end: the same order for one row or
// many.
void linear(const Matrix& w, std::span<const float> x, std::size_t rows, std::size_t first, std::size_t last,
            std::span<float> y, std::span<float> scratch);

}  // namespace sirocco::ref

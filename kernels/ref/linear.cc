#include "kernels/ref/linear.h"

#include <cassert>

#include "kernels/ref/dequantize.h"
#include "kernels/ref/dot.h"
#include "kernels/target_clones.h"

namespace sirocco::ref {

// One row of weights against all rows of x: y[r * stride] = sum_k x[r][k] * weights[k].
SIROCCO_TARGET_CLONES void linear_column(const float* weights, std::size_t inputs, const float* const* x,
                                         std::size_t rows, float* y, std::size_t stride) {
  const auto weight = [weights](std::size_t k) { return weights[k]; };
  std::size_t row = 0;
  for (; row + 4 <= rows; row += 4) {
    const std::array<float, 4> sums = dot<4>(x + row, inputs, weight);
    for (std::size_t i = 0; i < 4; ++i) y[(row + i) * stride] = sums[i];
  }
  for (; row < rows; ++row) y[row * stride] = dot<1>(x + row, inputs, weight)[0];
}

void linear(const Matrix& w, std::span<const float* const> x, std::size_t first, std::size_t last, float* y,
            std::size_t stride, std::span<float> scratch) {
  assert(first <= last && last <= w.outputs && scratch.size() >= w.inputs);

  const std::size_t row_size = row_bytes(w.type, w.inputs);
  const std::span<float> weights = scratch.first(w.inputs);
  for (std::size_t column = first; column < last; ++column) {
    dequantize(w.type, w.data + column * row_size, weights);
    linear_column(weights.data(), w.inputs, x.data(), x.size(), y + column, stride);
  }
}

}  // namespace sirocco::ref

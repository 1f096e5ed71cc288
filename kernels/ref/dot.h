// The one dot product of kernels/ref: linear and attention sum in the same fixed order, and so does every row whether
// alone or among others.
#pragma once

#include <array>
#include <cstddef>

namespace sirocco::ref {

inline constexpr std::size_t kPartialSums = 16;  // two registers of AVX2, four of SSE2 or NEON

// sum_k x[row][k] * weight(k) for each of `Rows` rows of x.
//
// Partial sum j takes the products of k = j, j + 16, j + 32 ... in that order; at the end sum j takes sum j + 8, then
// j + 4, j + 2, j + 1. Rows do not touch each other's sums: several at once only read each weight once.
template <std::size_t Rows, class Weight>
[[gnu::always_inline]] inline std::array<float, Rows> dot(const float* const* x, std::size_t width, Weight weight) {
  float sums[Rows][kPartialSums] = {};
  const std::size_t whole = width - width % kPartialSums;
  for (std::size_t k = 0; k < whole; k += kPartialSums) {
    for (std::size_t row = 0; row < Rows; ++row) {
      for (std::size_t j = 0; j < kPartialSums; ++j) sums[row][j] += x[row][k + j] * weight(k + j);
    }
  }
  std::array<float, Rows> result;
  for (std::size_t row = 0; row < Rows; ++row) {
    for (std::size_t k = whole; k < width; ++k) sums[row][k - whole] += x[row][k] * weight(k);
    for (std::size_t half = kPartialSums / 2; half > 0; half /= 2) {
      for (std::size_t j = 0; j < half; ++j) sums[row][j] += sums[row][j + half];
    }
    result[row] = sums[row][0];
  }
  return result;
}

}  // namespace sirocco::ref

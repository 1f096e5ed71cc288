// Token embedding: rows of the embedding matrix, dequantised.
#pragma once

#include <cstdint>
#include <span>

#include "kernels/ref/linear.h"

namespace sirocco::ref {

// y[r, :] = table[tokens[r], :]
//
//   table   [vocabulary = outputs, width = inputs]
//   tokens  [rows], each in [0, vocabulary)
//   y       [rows, width] f32
void embedding(const Matrix& table, std::span<const std::int32_t> tokens, std::span<float> y);

}  // namespace sirocco::ref

// What a type of weights brings to the linear kernels: one table for each type, made by its family's file
// (linear_q4.cc, …) from the templates linear_32.h, linear_256.h and linear_float.h.
#pragma once

#include <cstddef>

#include "kernels/matrix.h"

namespace sirocco::cpu {

// At most so many rows of activations go through `rows` at once.
inline constexpr std::size_t kMaxRowGroup = 4;
// Outputs of a panel.
inline constexpr std::size_t kPanel = 16;
// Inputs whose weights are expanded at once: with 16 outputs 16 KiB of int8.
inline constexpr std::size_t kPanelInputs = 1024;

struct LinearFunctions {
  // y[r * stride + n] = sum_k x[r, k] w[n, k] for n in [first, last), r < count <= kMaxRowGroup. Streams the weights.
  //   x        rows of activations in the format of w's type
  //   scratch  row_scratch_floats(w.inputs) floats, aligned to 64 bytes
  void (*rows)(const Matrix& w, const std::byte* const* x, std::size_t count, std::size_t first, std::size_t last,
               float* y, std::size_t stride, float* scratch);

  // Interleaves up to kTileRows rows of activations for `panel`; the rows that are missing in the tile are zero.
  // Null for float types, which `rows` multiplies whatever their number.
  void (*pack)(const std::byte* const* x, std::size_t count, std::size_t inputs, std::byte* tile);
  std::size_t (*tile_bytes)(std::size_t count, std::size_t inputs);

  // The same product as `rows`, bit for bit, for many rows: the weights of at most kPanel outputs are expanded into
  // scratch and multiplied with every tile.
  //   tiles    of `count` rows: whole tiles, then one for the rest; one after another
  //   scratch  panel_scratch_bytes(count), aligned to 64 bytes
  void (*panel)(const Matrix& w, const std::byte* tiles, std::size_t count, std::size_t first, std::size_t last,
                float* y, std::size_t stride, std::byte* scratch);
};

// With slack for reads of 16 blocks.
constexpr std::size_t row_scratch_floats(std::size_t inputs) {
  return (kMaxRowGroup + 1) * (inputs / 32 * kPanel + 48);
}
// Expanded weights with their scales, and the sums of all rows.
constexpr std::size_t panel_scratch_bytes(std::size_t count) {
  return 2 * kPanelInputs * kPanel + (count + 16) * kPanel * sizeof(float);
}

}  // namespace sirocco::cpu

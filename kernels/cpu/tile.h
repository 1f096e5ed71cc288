// Tiles of activations: up to kTileRows rows, four inputs of each beside each other, so that one vector of weights
// (16 outputs x 4 inputs) meets all rows of the tile in registers.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <utility>

#include "kernels/cpu/simd.h"

namespace sirocco::cpu::SIROCCO_ISA {

// Rows that the tile of `count` <= kTileRows rows has room for: tiles come in multiples of four.
constexpr std::size_t tile_size(std::size_t count) {
  return (count + 3) / 4 * 4;
}

// Calls f.operator()<Rows>() for the size of a tile of `count` rows.
template <class Function>
SIROCCO_INLINE void with_tile_size(std::size_t count, Function f) {
  if constexpr (kTileRows >= 12) {
    if (count > 8) return f.template operator()<12>();
  }
  if constexpr (kTileRows >= 8) {
    if (count > 4) return f.template operator()<8>();
  }
  f.template operator()<4>();
}

// q[k / 4][row][k % 4] of `inputs` (a multiple of 4) inputs of one row.
template <std::size_t Rows>
SIROCCO_INLINE void interleave(const std::int8_t* x, std::size_t row, std::size_t inputs, std::int8_t (*q)[Rows][4]) {
  for (std::size_t k = 0; k < inputs; k += 4) std::memcpy(q[k / 4][row], x + k, 4);
}

// Asks for what lies kPrefetchBytes ahead of the `Bytes` bytes at p.
inline constexpr std::size_t kPrefetchBytes = 2048;
template <std::size_t Bytes>
SIROCCO_INLINE void prefetch_ahead(const void* p) {
  for (std::size_t byte = 0; byte < Bytes; byte += 64)
    prefetch(static_cast<const std::byte*>(p) + kPrefetchBytes + byte);
}

// 16 vectors of bytes as rows of 16 groups of four: group g of row r goes to group r of vector g.
SIROCCO_INLINE void transpose_groups(Bytes64* x) {
  Floats16 y[16];
  for (int i = 0; i < 16; ++i) y[i] = as_floats(x[i]);
  transpose(y);
  for (int i = 0; i < 16; ++i) x[i] = as_bytes(y[i]);
}

// Writes the first `outputs` of 16 sums of each row.
SIROCCO_INLINE void store_panel(const float* sums, std::size_t count, std::size_t outputs, float* y,
                                std::size_t stride) {
  for (std::size_t row = 0; row < count; ++row) {
    if (outputs == 16) {
      store_floats(y + row * stride, load_floats(sums + 16 * row));
    } else {
      std::memcpy(y + row * stride, sums + 16 * row, outputs * sizeof(float));
    }
  }
}

}  // namespace sirocco::cpu::SIROCCO_ISA

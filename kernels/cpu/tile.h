// Tiles of activations: up to kTileRows rows, four inputs of each beside each other, so that a vector of weights (16
// outputs x 4 inputs) of each of kTilePanels panels meets all rows of the tile in registers.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <utility>

#include "kernels/cpu/simd.h"
#include "kernels/kernels.h"

namespace sirocco::cpu::SIROCCO_ISA {

// Tiles have room for a multiple of this.
inline constexpr std::size_t kTileStep = kTileRows == 6 ? 2 : kTileRows;
inline constexpr std::size_t kPanelOutputs = kTilePanels * kPanel;

// Rows that the tile of `count` <= kTileRows rows has room for.
constexpr std::size_t tile_size(std::size_t count) {
  return (count + kTileStep - 1) / kTileStep * kTileStep;
}

// Calls f.operator()<Rows>() for the size of a tile of `count` rows.
template <class Function>
SIROCCO_INLINE void with_tile_size(std::size_t count, Function f) {
  if constexpr (kTileRows == 6) {
    if (count <= 2) return f.template operator()<2>();
    if (count <= 4) return f.template operator()<4>();
  }
  f.template operator()<kTileRows>();
}

// q[k / 4][row][k % 4] of `inputs` (a multiple of 4) inputs of one row.
template <std::size_t Rows>
SIROCCO_INLINE void interleave(const std::int8_t* x, std::size_t row, std::size_t inputs, std::int8_t (*q)[Rows][4]) {
  for (std::size_t k = 0; k < inputs; k += 4) std::memcpy(q[k / 4][row], x + k, 4);
}

// The weights that are expanded next, to be asked for meanwhile: some lines now and then, since more than a core can
// have under way hold it up.
class Ahead {
 public:
  // `rows` rows of `bytes` bytes each, `stride` bytes apart.
  Ahead(const void* from, std::size_t stride, std::size_t rows, std::size_t bytes)
      : row_(static_cast<const std::byte*>(from)), stride_(stride), bytes_(bytes), left_(rows) {}
  void ask(std::size_t lines) {
    for (; lines != 0 && left_ != 0; --lines) {
      __builtin_prefetch(row_ + at_, 0, 2);  // to where a panel does not drive others out
      at_ += 64;
      if (at_ < bytes_) continue;
      at_ = 0;
      row_ += stride_;
      --left_;
    }
  }

 private:
  const std::byte* row_;
  std::size_t stride_;
  std::size_t bytes_;
  std::size_t left_;  // rows
  std::size_t at_ = 0;
};

// Four inputs: adds to products [Rows, kTilePanels] the 16 outputs of each panel, of which the first has its weights at
// w and each other `panel` bytes further.
template <bool Wide, std::size_t Rows>
SIROCCO_INLINE void multiply_group(const void* w, std::size_t panel, const std::int8_t (*a)[4], Ints16* products) {
  Bytes64 weights[kTilePanels];
  for (std::size_t i = 0; i < kTilePanels; ++i) weights[i] = load_bytes(static_cast<const std::byte*>(w) + i * panel);
#pragma GCC unroll 12
  for (std::size_t row = 0; row < Rows; ++row) {
    const Bytes64 x = broadcast_four(a[row]);
#pragma GCC unroll 2
    for (std::size_t i = 0; i < kTilePanels; ++i) {
      Ints16& product = products[kTilePanels * row + i];
      product = Wide ? dot_offset(product, weights[i], x) : dot(product, weights[i], x);
    }
  }
}

// Asks for what lies kPrefetchBytes ahead of the `Bytes` bytes at p.
inline constexpr std::size_t kPrefetchBytes = 2048;
template <std::size_t Bytes>
SIROCCO_INLINE void prefetch_ahead(const void* p) {
  for (std::size_t byte = 0; byte < Bytes; byte += 64)
    prefetch(static_cast<const std::byte*>(p) + kPrefetchBytes + byte);
}

// Writes the first `outputs` of each row's Width sums.
template <std::size_t Width>
SIROCCO_INLINE void store_sums(const float* sums, std::size_t count, std::size_t outputs, float* y,
                               std::size_t stride) {
  for (std::size_t row = 0; row < count; ++row) {
    if (outputs == Width) {
      std::memcpy(y + row * stride, sums + Width * row, Width * sizeof(float));
    } else {
      std::memcpy(y + row * stride, sums + Width * row, outputs * sizeof(float));
    }
  }
}

}  // namespace sirocco::cpu::SIROCCO_ISA

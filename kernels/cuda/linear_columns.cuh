// What the kernels of products share: the rows of activations that a block computes with, the matrices whose outputs it
// computes, and what a tile of weights contributes to them.
//
// The sums are those of kernels/cpu/linear_32.h and linear_256.h, bit for bit. Blocks that stand beyond a row's inputs
// have scales of zero and add nothing.
#pragma once

#include <utility>

#include "kernels/cuda/kernels.h"
#include "kernels/cuda/math.cuh"
#include "kernels/cuda/weights.cuh"

namespace sirocco::cuda {

struct Columns {
  Activations x;
  std::uint32_t chunks;  // of 256 inputs
  std::uint32_t count;
  std::uint32_t first;        // of column 0, in `rows`
  const std::uint32_t* rows;  // null: row first + column itself

  __device__ __forceinline__ std::size_t row(unsigned column) const {
    return rows == nullptr ? first + column : rows[first + column];
  }
};

// Up to three matrices, in tiles of 16 outputs one after another; or, if paired, the tiles of the first and of the
// second in turn, and silu(first) * second is written.
struct Parts {
  const std::byte* tiles[3];
  float* y[3];
  std::uint32_t outputs[3];  // also the stride of y
  std::uint32_t tile_rows[3];
  std::uint32_t all_tile_rows;
  bool paired;
};

// Where a tile row of all parts is. Selected, not indexed: what is indexed by a variable would not be in registers.
struct TileRow {
  const std::byte* tiles;
  float* y;
  std::uint32_t outputs;
  std::uint32_t index;  // in its part
  unsigned part;

  __device__ __forceinline__ TileRow(const Parts& p, unsigned i) {
    if (p.paired) {
      part = i % 2;
      index = i / 2;
    } else {
      part = i < p.tile_rows[0] ? 0 : i - p.tile_rows[0] < p.tile_rows[1] ? 1 : 2;
      index = i - (part == 0 ? 0 : p.tile_rows[0]) - (part == 2 ? p.tile_rows[1] : 0);
    }
    tiles = part == 0 ? p.tiles[0] : part == 1 ? p.tiles[1] : p.tiles[2];
    y = part == 0 ? p.y[0] : part == 1 ? p.y[1] : p.y[2];
    outputs = part == 0 ? p.outputs[0] : part == 1 ? p.outputs[1] : p.outputs[2];
  }

  // Its first tile.
  template <class W>
  __device__ __forceinline__ const std::byte* begin(std::uint32_t chunks) const {
    return tiles + static_cast<std::size_t>(index) * chunks * W::Layout::kBytes;
  }
};

// Calls f with Index<0>(), Index<1>() … Index<Count - 1>(): constants for the compiler.
template <unsigned I>
struct Index {
  static constexpr unsigned value = I;
  __device__ constexpr operator unsigned() const { return I; }
};
template <unsigned... I, class Function>
__device__ __forceinline__ void each_index(std::integer_sequence<unsigned, I...>, Function f) {
  (f(Index<I>()), ...);
}
template <unsigned Count, class Function>
__device__ __forceinline__ void each(Function f) {
  each_index(std::make_integer_sequence<unsigned, Count>(), f);
}

template <class W>
inline constexpr unsigned kBlocks = 256 / W::kInputs;  // of a chunk
template <class W>
inline constexpr bool kWantsSums = W::kMinima || W::kZero != 0;

// The exact sum over a block of 256 of sub-scale times product, one step of 32 after another.
template <unsigned Step, class W>
__device__ __forceinline__ void add_step(const W& w, const std::uint32_t (&a)[4], std::uint32_t b0, std::uint32_t b1,
                                         int (&sums)[4]) {
  if constexpr (W::kSubBlock == 32) {
    int c[4] = {};
    mma_s8(c, a, {b0, b1});
#pragma unroll
    for (unsigned i = 0; i < 4; ++i) sums[i] += w.template sub_scale<Step>(i / 2) * c[i];
  } else {
    int low[4] = {};
    int high[4] = {};
    mma_s8_k16(low, {a[0], a[1]}, b0);
    mma_s8_k16(high, {a[2], a[3]}, b1);
#pragma unroll
    for (unsigned i = 0; i < 4; ++i) {
      sums[i] += w.template sub_scale<2 * Step>(i / 2) * low[i];
      sums[i] += w.template sub_scale<2 * Step + 1>(i / 2) * high[i];
    }
  }
}

// What the block contributes, before the activations' scale.
//   low, high   the lane's words of the activations' sums (quantise.cuh)
template <class W>
__device__ __forceinline__ void block_values(const W& w, unsigned lane, std::uint32_t low, std::uint32_t high,
                                             const int (&sums)[4], float (&value)[4]) {
  int of_low[4] = {};
  int of_high[4] = {};
  if constexpr (kWantsSums<W>) {
    const std::uint32_t a[2] = {w.minima(0, lane % 4), w.minima(1, lane % 4)};
    mma_s8_k16(of_low, a, low);
    mma_s8_k16(of_high, a, high);
  }
#pragma unroll
  for (unsigned i = 0; i < 4; ++i) {
    const int m = of_low[i] + 256 * of_high[i];
    if constexpr (W::kMinima) {
      value[i] =
          __fmaf_rn(w.scale(i / 2), static_cast<float>(sums[i]), -__fmul_rn(w.minimum(i / 2), static_cast<float>(m)));
    } else {
      value[i] = __fmul_rn(w.scale(i / 2), static_cast<float>(sums[i] - W::kZero * m));
    }
  }
}

}  // namespace sirocco::cuda

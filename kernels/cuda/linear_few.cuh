// Products of up to 32 rows with weights, for decoding: bound by memory, so that all warps of a block read tiles of the
// same few outputs, each tile once, and the order in which an output's blocks are added up is restored afterwards: each
// tile leaves what its blocks contribute in shared memory, from where one thread an output takes it in order.
//
// The sums are those of kernels/cpu/linear_32.h and linear_256.h, bit for bit.
#pragma once

#include <utility>

#include "kernels/cuda/kernels.h"
#include "kernels/cuda/math.cuh"
#include "kernels/cuda/weights.cuh"

namespace sirocco::cuda {

inline constexpr unsigned kFewWarps = 8;
inline constexpr unsigned kFewOutputs = 4;  // that a thread adds up, at most; one where there is one row

// The rows of activations that a block computes with, its columns.
struct Columns {
  Activations x;
  std::uint32_t chunks;         // of 256 inputs
  std::uint32_t blocks;         // of a row, with a scale each
  std::uint32_t scales_stride;  // floats a row
  std::uint32_t count;
  std::uint32_t first;        // of column 0, in `rows`
  const std::uint32_t* rows;  // null: row first + column itself

  __device__ __forceinline__ std::size_t row(unsigned column) const {
    return rows == nullptr ? first + column : rows[first + column];
  }
};

// The B operand of a column tile of 8 for the four pairs of steps of a chunk. Columns beyond the last are zero.
template <unsigned Tiles>
struct ColumnOperands {
  const std::int8_t* at[Tiles];  // of this lane; null: zero

  __device__ __forceinline__ ColumnOperands(const Columns& columns, unsigned lane) {
#pragma unroll
    for (unsigned tile = 0; tile < Tiles; ++tile) {
      const unsigned column = 8 * tile + lane / 4;
      at[tile] = column < columns.count
                     ? columns.x.q + columns.row(column) * columns.chunks * kTileInputs + 16 * (lane % 4)
                     : nullptr;
    }
  }
  __device__ __forceinline__ uint4 load(unsigned tile, unsigned chunk, unsigned pair) const {
    if (at[tile] == nullptr) return make_uint4(0, 0, 0, 0);
    return __ldg(reinterpret_cast<const uint4*>(at[tile] + chunk * kTileInputs + 64 * pair));
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

// What a tile in blocks of 256 contributes, before the activations' scale: value[tile][i] of output lane / 4 + 8 (i /
// 2) and column 8 tile + 2 (lane % 4) + i % 2, the accumulators' places.
template <unsigned Tiles, class W>
__device__ __forceinline__ void contributions_256(W& w, const Columns& columns, const ColumnOperands<Tiles>& operands,
                                                  unsigned chunk, unsigned lane, float (&value)[Tiles][4]) {
  int sums[Tiles][4] = {};
  w.unpack_scales();
  each<4>([&](auto pair) {
    uint4 b[Tiles];
#pragma unroll
    for (unsigned tile = 0; tile < Tiles; ++tile) b[tile] = operands.load(tile, chunk, pair);
    each<2>([&](auto second) {
      constexpr unsigned kStep = 2 * decltype(pair)::value + decltype(second)::value;
      std::uint32_t a[4];
      w.template values<kStep>(a);
#pragma unroll
      for (unsigned tile = 0; tile < Tiles; ++tile) {
        const std::uint32_t b0 = second == 0 ? b[tile].x : b[tile].z;
        const std::uint32_t b1 = second == 0 ? b[tile].y : b[tile].w;
        if constexpr (W::kSubBlock == 32) {
          int c[4] = {};
          mma_s8(c, a, {b0, b1});
#pragma unroll
          for (unsigned i = 0; i < 4; ++i) sums[tile][i] += w.template sub_scale<kStep>(i / 2) * c[i];
        } else {
          int low[4] = {};
          int high[4] = {};
          mma_s8_k16(low, {a[0], a[1]}, b0);
          mma_s8_k16(high, {a[2], a[3]}, b1);
#pragma unroll
          for (unsigned i = 0; i < 4; ++i) {
            sums[tile][i] += w.template sub_scale<2 * kStep>(i / 2) * low[i];
            sums[tile][i] += w.template sub_scale<2 * kStep + 1>(i / 2) * high[i];
          }
        }
      }
    });
  });
#pragma unroll
  for (unsigned tile = 0; tile < Tiles; ++tile) {
    if constexpr (W::kMinima || W::kZero != 0) {
      // The activations' sums of 16, as signed low bytes and what is above them.
      std::uint32_t low = 0;
      std::uint32_t high = 0;
      if (operands.at[tile] != nullptr) {
        const std::size_t row = columns.row(8 * tile + lane / 4);
        const auto* const words =
            reinterpret_cast<const std::uint32_t*>(columns.x.sums) + (row * columns.chunks + chunk) * 8 + lane % 4;
        low = __ldg(words);
        high = __ldg(words + 4);
      }
      const std::uint32_t a[2] = {w.minima(0, lane % 4), w.minima(1, lane % 4)};
      int of_low[4] = {};
      int of_high[4] = {};
      mma_s8_k16(of_low, a, low);
      mma_s8_k16(of_high, a, high);
#pragma unroll
      for (unsigned i = 0; i < 4; ++i) {
        const int m = of_low[i] + 256 * of_high[i];
        if constexpr (W::kMinima) {
          value[tile][i] = __fmaf_rn(w.scale(i / 2), static_cast<float>(sums[tile][i]),
                                     -__fmul_rn(w.minimum(i / 2), static_cast<float>(m)));
        } else {
          value[tile][i] = __fmul_rn(w.scale(i / 2), static_cast<float>(sums[tile][i] - W::kZero * m));
        }
      }
    } else {
#pragma unroll
      for (unsigned i = 0; i < 4; ++i) value[tile][i] = __fmul_rn(w.scale(i / 2), static_cast<float>(sums[tile][i]));
    }
  }
}

// Likewise of a tile in blocks of 32, for each of its eight steps: f(step, column tile, value[4]).
template <unsigned Tiles, class W, class Function>
__device__ __forceinline__ void contributions_32(const W& w, const Columns& columns,
                                                 const ColumnOperands<Tiles>& operands, unsigned chunk, unsigned lane,
                                                 Function f) {
  each<4>([&](auto pair) {
    uint4 b[Tiles];
#pragma unroll
    for (unsigned tile = 0; tile < Tiles; ++tile) b[tile] = operands.load(tile, chunk, pair);
    each<2>([&](auto second) {
      constexpr unsigned kStep = 2 * decltype(pair)::value + decltype(second)::value;
      std::uint32_t a[4];
      w.template values<kStep>(a);
#pragma unroll
      for (unsigned tile = 0; tile < Tiles; ++tile) {
        int c[4] = {};
        mma_s8(c, a, {second == 0 ? b[tile].x : b[tile].z, second == 0 ? b[tile].y : b[tile].w});
        float value[4];
#pragma unroll
        for (unsigned i = 0; i < 4; ++i) {
          if constexpr (W::kZero != 0) {
            const unsigned column = 8 * tile + 2 * (lane % 4) + i % 2;
            if (column < columns.count) {
              const auto* const sums = reinterpret_cast<const std::int32_t*>(columns.x.sums);
              c[i] -= W::kZero * __ldg(sums + (columns.row(column) * columns.chunks + chunk) * 8 + kStep);
            }
          }
          value[i] = __fmul_rn(static_cast<float>(c[i]), w.template scale<kStep>(i / 2));
        }
        f(kStep, tile, value);
      }
    });
  });
}

// Up to three matrices whose outputs a kernel computes, in tiles of 16 one after another; or, if paired, those of the
// first and the second in turn, and silu(first) * second is written.
struct FewParts {
  const std::byte* tiles[3];
  float* y[3];
  std::uint32_t outputs[3];  // also the stride of y
  std::uint32_t tile_rows[3];
  bool paired;
};

// Where a tile row of all parts is. Selected, not indexed: what is indexed by a variable would not be in registers.
struct TileRow {
  const std::byte* tiles;
  float* y;
  std::uint32_t outputs;
  std::uint32_t index;  // in its part
  unsigned part;

  __device__ __forceinline__ TileRow(const FewParts& p, unsigned i) {
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
};

struct FewShape {
  std::uint32_t rows_a_block;  // tile rows
  std::uint32_t tile_rows;     // of all parts
  std::uint32_t round;         // chunks whose contributions shared memory holds
};

// One block: tile rows blockIdx.x * rows_a_block …, of which each warp takes every eighth tile.
//   Tiles   of 8 columns
//   wait    called once, after the first tile of weights has been asked for and before activations are read
template <unsigned Tiles, bool One, class W, class Wait>
__device__ __forceinline__ void few_rows(const FewParts& parts, const FewShape& shape, const Columns& columns,
                                         float* contributions, Wait wait) {
  constexpr unsigned kColumns = One ? 1 : 8 * Tiles;
  constexpr unsigned kBlocks = 256 / W::kInputs;         // of a chunk
  constexpr unsigned kPlaces = kTileOutputs * kColumns;  // of a block's contributions
  const unsigned lane = threadIdx.x % 32;
  const unsigned warp = threadIdx.x / 32;
  const unsigned first_row = blockIdx.x * shape.rows_a_block;
  const unsigned rows = min(shape.rows_a_block, shape.tile_rows - first_row);
  const auto tile_at = [&](unsigned row, unsigned chunk) {
    const TileRow at(parts, first_row + row);
    return at.tiles + (static_cast<std::size_t>(at.index) * columns.chunks + chunk) * W::Layout::kBytes;
  };
  W w;
  if (warp < rows * min(shape.round, columns.chunks)) {
    const unsigned round = min(shape.round, columns.chunks);
    w.template load<GlobalMemory>(tile_at(warp / round, warp % round), lane);
  }
  wait();
  const ColumnOperands<Tiles> operands(columns, lane);
  constexpr unsigned kMost = One ? 1 : kFewOutputs;
  float sums[kMost] = {};
  for (unsigned begin = 0; begin < columns.chunks; begin += shape.round) {
    const unsigned round = min(shape.round, columns.chunks - begin);
    const unsigned items = rows * round;
    for (unsigned item = warp; item < items; item += kFewWarps) {
      if (begin != 0 || item != warp) w.template load<GlobalMemory>(tile_at(item / round, begin + item % round), lane);
      const unsigned chunk = begin + item % round;
      const auto store = [&](unsigned step, unsigned tile, const float(&value)[4]) {
        float* const to = contributions + (item * kBlocks + step) * kPlaces;
#pragma unroll
        for (unsigned i = 0; i < 4; ++i) {
          const unsigned column = 8 * tile + 2 * (lane % 4) + i % 2;
          if (!One) to[column * kTileOutputs + lane / 4 + 8 * (i / 2)] = value[i];
          if (One && column == 0) to[lane / 4 + 8 * (i / 2)] = value[i];
        }
      };
      if constexpr (W::kInputs == 256) {
        float value[Tiles][4];
        contributions_256<Tiles>(w, columns, operands, chunk, lane, value);
#pragma unroll
        for (unsigned tile = 0; tile < Tiles; ++tile) store(0, tile, value[tile]);
      } else {
        contributions_32<Tiles>(w, columns, operands, chunk, lane, store);
      }
    }
    __syncthreads();
#pragma unroll
    for (unsigned i = 0; i < kMost; ++i) {
      const unsigned place = i * 32 * kFewWarps + threadIdx.x;
      if (place >= rows * kPlaces) break;
      const unsigned row = place / kPlaces;
      const unsigned column = place % kPlaces / kTileOutputs;
      if (column >= columns.count) continue;
      const float* const from = contributions + row * round * kBlocks * kPlaces + place % kPlaces;
      const float* const scales = columns.x.scales + columns.row(column) * columns.scales_stride + begin * kBlocks;
      const unsigned blocks = min(round * kBlocks, columns.blocks - begin * kBlocks);
      float sum = sums[i];
      if constexpr (W::kInputs == 256 || !W::kMinima) {
#pragma unroll 8
        for (unsigned b = 0; b < blocks; ++b) sum = __fmaf_rn(from[b * kPlaces], scales[b], sum);
      } else {
        const auto* const x_sums =
            reinterpret_cast<const std::int32_t*>(columns.x.sums) + (columns.row(column) * columns.chunks + begin) * 8;
        for (unsigned b = 0; b < blocks; ++b) {
          sum = __fmaf_rn(from[b * kPlaces], scales[b], sum);
          const float minimum = W::minimum(tile_at(row, begin + b / 8), place % kTileOutputs, b % 8);
          sum = __fmaf_rn(minimum, __fmul_rn(scales[b], static_cast<float>(x_sums[b])), sum);
        }
      }
      sums[i] = sum;
    }
    if (begin + round < columns.chunks) __syncthreads();
  }

  // Paired: the second of a pair hands its sums to the first.
  if (parts.paired) {
    __syncthreads();
#pragma unroll
    for (unsigned i = 0; i < kMost; ++i) {
      const unsigned place = i * 32 * kFewWarps + threadIdx.x;
      if (place < rows * kPlaces) contributions[place] = sums[i];
    }
    __syncthreads();
  }
#pragma unroll
  for (unsigned i = 0; i < kMost; ++i) {
    const unsigned place = i * 32 * kFewWarps + threadIdx.x;
    if (place >= rows * kPlaces) break;
    const TileRow at(parts, first_row + place / kPlaces);
    const unsigned column = place % kPlaces / kTileOutputs;
    const unsigned output = at.index * kTileOutputs + place % kTileOutputs;
    if (column >= columns.count || output >= at.outputs || (parts.paired && at.part != 0)) continue;
    const float value = parts.paired ? swiglu(sums[i], contributions[place + kPlaces]) : sums[i];
    at.y[static_cast<std::size_t>(columns.first + column) * at.outputs + output] = value;
  }
}

}  // namespace sirocco::cuda

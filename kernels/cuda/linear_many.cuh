// Products of many rows with weights, for prompts: bound by the tensor cores. A block computes 128 outputs of 128
// columns: eight warps, four by two, each 32 outputs by 64 columns. Weights and activations of a chunk of 256 inputs
// pass through shared memory in two stages; each warp goes through a row's chunks in order, so that the sums are those
// of linear_few.cuh, bit for bit.
#pragma once

#include "kernels/cuda/linear_few.cuh"

namespace sirocco::cuda {

inline constexpr unsigned kManyColumns = 128;
inline constexpr unsigned kManyTileRows = 8;
inline constexpr unsigned kManyThreads = 256;
inline constexpr unsigned kManyStages = 2;
inline constexpr unsigned kWarpColumnTiles = 8;
// Bytes from a column's q to the next in shared memory: eight lanes' reads of 16 bytes meet all banks.
inline constexpr unsigned kColumnStride = kTileInputs + 64;

// What a stage of shared memory holds, in bytes from its start.
template <class W>
struct ManyStage {
  static constexpr bool kSums = W::kMinima || W::kZero != 0;
  static constexpr unsigned kScaleBytes = W::kInputs == 32 ? 32 : 0;  // of a column
  static constexpr unsigned kQ = kManyTileRows * static_cast<unsigned>(W::Layout::kBytes);
  static constexpr unsigned kSumsAt = kQ + kManyColumns * kColumnStride;
  static constexpr unsigned kScalesAt = kSumsAt + (kSums ? kManyColumns * 32 : 0);
  static constexpr unsigned kBytes = kScalesAt + kManyColumns * kScaleBytes;
};

// Shared memory of a block: the stages; where blocks are of 256, the scales of all chunks.
template <class W>
constexpr std::size_t many_bytes(std::uint32_t chunks) {
  return kManyStages * ManyStage<W>::kBytes + (W::kInputs == 256 ? chunks * kManyColumns * sizeof(float) : 0);
}

template <class W>
struct ManyRows {
  using Stage = ManyStage<W>;
  static constexpr unsigned kTile = static_cast<unsigned>(W::Layout::kBytes);

  const FewParts& parts;
  const Columns& columns;
  std::byte* shared;
  const std::uint32_t* rows;  // [kManyColumns] of the columns
  unsigned first_tile_row;
  unsigned tile_rows;  // of all parts
  unsigned lane = threadIdx.x % 32;
  unsigned tile_row = threadIdx.x / 32 % 4 * 2;                      // of the warp's first, in the block
  unsigned first_column = threadIdx.x / 128 * 8 * kWarpColumnTiles;  // of the warp
  float sums[2][kWarpColumnTiles][4] = {};

  __device__ __forceinline__ const float* all_scales() const {
    return reinterpret_cast<const float*>(shared + kManyStages * Stage::kBytes);
  }

  __device__ void copy_scales() {
    auto* const to = reinterpret_cast<float*>(shared + kManyStages * Stage::kBytes);
    for (unsigned i = threadIdx.x; i < columns.chunks * kManyColumns; i += kManyThreads) {
      const unsigned column = i / columns.chunks;
      const unsigned chunk = i % columns.chunks;
      to[chunk * kManyColumns + column] =
          columns.x.scales[static_cast<std::size_t>(rows[column]) * columns.scales_stride + chunk];
    }
  }

  // Asks for a chunk.
  __device__ __forceinline__ void copy(unsigned chunk) {
    std::byte* const stage = shared + chunk % kManyStages * Stage::kBytes;
    for (unsigned i = threadIdx.x; i < kManyTileRows * kTile / 16; i += kManyThreads) {
      const unsigned row = i / (kTile / 16);
      const TileRow from(parts, min(first_tile_row + row, tile_rows - 1));
      const std::byte* const tile =
          from.tiles + (static_cast<std::size_t>(from.index) * columns.chunks + chunk) * kTile;
      cp_async16(stage + i * 16, tile + i % (kTile / 16) * 16);
    }
#pragma unroll
    for (unsigned i = threadIdx.x; i < kManyColumns * 16; i += kManyThreads) {
      const unsigned column = i / 16;
      const std::size_t at = static_cast<std::size_t>(rows[column]) * columns.chunks + chunk;
      cp_async16(stage + Stage::kQ + column * kColumnStride + i % 16 * 16,
                 columns.x.q + at * kTileInputs + i % 16 * 16);
    }
    const unsigned column = threadIdx.x / 2;
    const unsigned part = threadIdx.x % 2;
    const std::size_t at = static_cast<std::size_t>(rows[column]) * columns.chunks + chunk;
    if constexpr (Stage::kSums)
      cp_async16(stage + Stage::kSumsAt + column * 32 + part * 16,
                 reinterpret_cast<const std::byte*>(columns.x.sums) + at * 32 + part * 16);
    if constexpr (W::kInputs == 32)
      cp_async16(stage + Stage::kScalesAt + column * 32 + part * 16,
                 reinterpret_cast<const std::byte*>(columns.x.scales) + at * 32 + part * 16);
    cp_async_commit();
  }

  __device__ __forceinline__ uint4 operand(const std::byte* stage, unsigned tile, unsigned pair) const {
    const unsigned column = first_column + 8 * tile + lane / 4;
    return *reinterpret_cast<const uint4*>(stage + Stage::kQ + column * kColumnStride + 64 * pair + 16 * (lane % 4));
  }
  __device__ __forceinline__ unsigned column_of(unsigned tile, unsigned i) const {
    return first_column + 8 * tile + 2 * (lane % 4) + i % 2;
  }

  __device__ __forceinline__ void multiply_256(const std::byte* stage, W (&w)[2], unsigned chunk) {
    int exact[2][kWarpColumnTiles][4] = {};
    w[0].unpack_scales();
    w[1].unpack_scales();
    each<4>([&](auto pair) {
      constexpr unsigned kStep = 2 * decltype(pair)::value;
      std::uint32_t a[2][2][4];
#pragma unroll
      for (unsigned m = 0; m < 2; ++m) {
        w[m].template values<kStep>(a[m][0]);
        w[m].template values<kStep + 1>(a[m][1]);
      }
#pragma unroll
      for (unsigned tile = 0; tile < kWarpColumnTiles; ++tile) {
        const uint4 b = operand(stage, tile, pair);
#pragma unroll
        for (unsigned m = 0; m < 2; ++m) {
          if constexpr (W::kSubBlock == 32) {
            int first[4] = {};
            int second[4] = {};
            mma_s8(first, a[m][0], {b.x, b.y});
            mma_s8(second, a[m][1], {b.z, b.w});
#pragma unroll
            for (unsigned i = 0; i < 4; ++i)
              exact[m][tile][i] += w[m].template sub_scale<kStep>(i / 2) * first[i] +
                                   w[m].template sub_scale<kStep + 1>(i / 2) * second[i];
          } else {
            each<2>([&](auto second) {
              constexpr unsigned kSub = 2 * (kStep + decltype(second)::value);
              int low[4] = {};
              int high[4] = {};
              mma_s8_k16(low, {a[m][second][0], a[m][second][1]}, second == 0 ? b.x : b.z);
              mma_s8_k16(high, {a[m][second][2], a[m][second][3]}, second == 0 ? b.y : b.w);
#pragma unroll
              for (unsigned i = 0; i < 4; ++i)
                exact[m][tile][i] +=
                    w[m].template sub_scale<kSub>(i / 2) * low[i] + w[m].template sub_scale<kSub + 1>(i / 2) * high[i];
            });
          }
        }
      }
    });
    add_256(stage, w, chunk, exact);
  }

  __device__ __forceinline__ void add_256(const std::byte* stage, const W (&w)[2], unsigned chunk,
                                          const int (&exact)[2][kWarpColumnTiles][4]) {
    const float* const scales = all_scales() + chunk * kManyColumns;
#pragma unroll
    for (unsigned tile = 0; tile < kWarpColumnTiles; ++tile) {
      std::uint32_t low = 0;
      std::uint32_t high = 0;
      if constexpr (Stage::kSums) {
        const unsigned column = first_column + 8 * tile + lane / 4;
        const auto* const words = reinterpret_cast<const std::uint32_t*>(stage + Stage::kSumsAt + column * 32);
        low = words[lane % 4];
        high = words[4 + lane % 4];
      }
      const float scale[2] = {scales[column_of(tile, 0)], scales[column_of(tile, 1)]};
#pragma unroll
      for (unsigned m = 0; m < 2; ++m) {
        int of_low[4] = {};
        int of_high[4] = {};
        if constexpr (Stage::kSums) {
          const std::uint32_t a[2] = {w[m].minima(0, lane % 4), w[m].minima(1, lane % 4)};
          mma_s8_k16(of_low, a, low);
          mma_s8_k16(of_high, a, high);
        }
#pragma unroll
        for (unsigned i = 0; i < 4; ++i) {
          const int sum = of_low[i] + 256 * of_high[i];
          float value;
          if constexpr (W::kMinima) {
            value = __fmaf_rn(w[m].scale(i / 2), static_cast<float>(exact[m][tile][i]),
                              -__fmul_rn(w[m].minimum(i / 2), static_cast<float>(sum)));
          } else {
            value = __fmul_rn(w[m].scale(i / 2), static_cast<float>(exact[m][tile][i] - W::kZero * sum));
          }
          sums[m][tile][i] = __fmaf_rn(value, scale[i % 2], sums[m][tile][i]);
        }
      }
    }
  }

  __device__ __forceinline__ void multiply_32(const std::byte* stage, const W (&w)[2], unsigned chunk) {
    each<4>([&](auto pair) {
#pragma unroll
      for (unsigned tile = 0; tile < kWarpColumnTiles; ++tile) {
        const uint4 b = operand(stage, tile, pair);
        each<2>([&](auto second) {
          constexpr unsigned kStep = 2 * decltype(pair)::value + decltype(second)::value;
          if (chunk * 8 + kStep >= columns.blocks) return;
          const std::uint32_t operand_of_half[2] = {second == 0 ? b.x : b.z, second == 0 ? b.y : b.w};
          add_32<kStep>(stage, w, tile, operand_of_half);
        });
      }
    });
  }

  template <unsigned Step>
  __device__ __forceinline__ void add_32(const std::byte* stage, const W (&w)[2], unsigned tile,
                                         const std::uint32_t (&b)[2]) {
    float scale[2];
    int x_sum[2] = {};
#pragma unroll
    for (unsigned i = 0; i < 2; ++i) {
      const unsigned column = column_of(tile, i);
      scale[i] = *reinterpret_cast<const float*>(stage + Stage::kScalesAt + column * 32 + 4 * Step);
      if constexpr (Stage::kSums)
        x_sum[i] = *reinterpret_cast<const int*>(stage + Stage::kSumsAt + column * 32 + 4 * Step);
    }
#pragma unroll
    for (unsigned m = 0; m < 2; ++m) {
      std::uint32_t a[4];
      w[m].template values<Step>(a);
      // The sums begin at the bits of 1.5 * 2^23, so that they end as those of the float 1.5 * 2^23 + sum: no
      // conversion. (kMagic + sum) * d - kMagic * d, rounded once, is sum * d rounded: kMagic * d is exact.
      constexpr int kMagicBits = 0x4B400000;
      constexpr float kMagic = 12582912.0F;
      int c[4];
#pragma unroll
      for (unsigned i = 0; i < 4; ++i) c[i] = kMagicBits - (W::kZero != 0 ? W::kZero * x_sum[i % 2] : 0);
      mma_s8(c, a, b);
#pragma unroll
      for (unsigned i = 0; i < 4; ++i) {
        const float d = w[m].template scale<Step>(i / 2);
        const float value = __fmaf_rn(__int_as_float(c[i]), d, -__fmul_rn(kMagic, d));
        float& sum = sums[m][tile][i];
        sum = __fmaf_rn(value, scale[i % 2], sum);
        if constexpr (W::kMinima) {
          const std::byte* const of = stage + (tile_row + m) * kTile;
          const float minimum = W::minimum(of, lane / 4 + 8 * (i / 2), Step);
          sum = __fmaf_rn(minimum, __fmul_rn(scale[i % 2], static_cast<float>(x_sum[i % 2])), sum);
        }
      }
    }
  }

  __device__ __forceinline__ void multiply(unsigned chunk) {
    const std::byte* const stage = shared + chunk % kManyStages * Stage::kBytes;
    W w[2];
    w[0].template load<SharedMemory>(stage + tile_row * kTile, lane);
    w[1].template load<SharedMemory>(stage + (tile_row + 1) * kTile, lane);
    if constexpr (W::kInputs == 256) {
      multiply_256(stage, w, chunk);
    } else {
      multiply_32(stage, w, chunk);
    }
  }

  __device__ __forceinline__ void run() {
    copy(0);
    for (unsigned chunk = 0; chunk < columns.chunks; ++chunk) {
      if (chunk + 1 < columns.chunks) {
        copy(chunk + 1);
        cp_async_wait<1>();
      } else {
        cp_async_wait<0>();
      }
      __syncthreads();
      multiply(chunk);
      __syncthreads();
    }
  }

  __device__ __forceinline__ void store() {
#pragma unroll
    for (unsigned m = 0; m < 2; ++m) {
      if (first_tile_row + tile_row + m >= tile_rows || (parts.paired && m == 1)) return;
      const TileRow to(parts, first_tile_row + tile_row + m);
#pragma unroll
      for (unsigned tile = 0; tile < kWarpColumnTiles; ++tile) {
#pragma unroll
        for (unsigned i = 0; i < 4; ++i) {
          const unsigned column = column_of(tile, i);
          const unsigned output = to.index * kTileOutputs + lane / 4 + 8 * (i / 2);
          if (column >= columns.count || output >= to.outputs) continue;
          const float value = parts.paired ? swiglu(sums[0][tile][i], sums[1][tile][i]) : sums[m][tile][i];
          to.y[static_cast<std::size_t>(columns.first + column) * to.outputs + output] = value;
        }
      }
    }
  }
};

}  // namespace sirocco::cuda

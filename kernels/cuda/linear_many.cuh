// Products of many rows with weights, for prompts: bound by the tensor cores and the multiplications with scales beside
// them. A block computes 128 outputs of 128 columns: sixteen warps, eight by two, each 16 outputs by 64 columns.
// Weights and activations of a chunk of 256 inputs pass through shared memory in two stages; each warp goes through a
// row's chunks in order.
#pragma once

#include "kernels/cuda/linear_columns.cuh"

namespace sirocco::cuda {

inline constexpr unsigned kManyColumns = 64;
inline constexpr unsigned kManyTileRows = 8;
inline constexpr unsigned kManyThreads = 256;
inline constexpr unsigned kManyStages = 2;
inline constexpr unsigned kWarpTiles = 8;  // of 8 columns
// Bytes from a column's q to the next in shared memory: eight lanes' reads of 16 bytes meet all banks.
inline constexpr unsigned kColumnStride = kTileInputs + 64;

// What a stage of shared memory holds, in bytes from its start.
template <class W>
struct ManyStage {
  static constexpr unsigned kTile = static_cast<unsigned>(W::Layout::kBytes);
  static constexpr unsigned kScaleBytes = W::kInputs == 32 ? 32 : 0;  // of a column
  static constexpr unsigned kQ = kManyTileRows * kTile;
  static constexpr unsigned kSumsAt = kQ + kManyColumns * kColumnStride;
  static constexpr unsigned kScalesAt = kSumsAt + (kWantsSums<W> ? kManyColumns * 32 : 0);
  static constexpr unsigned kBytes = kScalesAt + kManyColumns * kScaleBytes;
};

// Shared memory of a block: the stages; where blocks are of 256, the scales of all chunks.
template <class W>
constexpr std::size_t many_bytes(std::uint32_t chunks) {
  return kManyStages * ManyStage<W>::kBytes + (W::kInputs == 256 ? chunks * kManyColumns * sizeof(float) : 0);
}

// What the threads of a block look up.
struct ManyTables {
  std::uint32_t rows[kManyColumns];       // of the columns
  const std::byte* tiles[kManyTileRows];  // the first tile of each tile row
};

template <class W>
struct ManyRows {
  using Stage = ManyStage<W>;

  const Parts& parts;
  const Columns& columns;
  std::byte* shared;
  const ManyTables& tables;
  unsigned first_tile_row;
  unsigned lane = threadIdx.x % 32;
  unsigned tile_row = threadIdx.x / 32 % kManyTileRows;  // of the warp, in the block
  float sums[kWarpTiles][4] = {};

  __device__ __forceinline__ float* all_scales() const {
    return reinterpret_cast<float*>(shared + kManyStages * Stage::kBytes);
  }
  __device__ void copy_scales() const {
    for (unsigned i = threadIdx.x; i < columns.chunks * kManyColumns; i += kManyThreads) {
      const unsigned column = i / columns.chunks;
      const unsigned chunk = i % columns.chunks;
      all_scales()[chunk * kManyColumns + column] =
          columns.x.scales[static_cast<std::size_t>(tables.rows[column]) * columns.chunks + chunk];
    }
  }

  // Asks for a chunk.
  __device__ __forceinline__ void copy(unsigned chunk) const {
    std::byte* const stage = shared + chunk % kManyStages * Stage::kBytes;
    for (unsigned i = threadIdx.x; i < kManyTileRows * Stage::kTile / 16; i += kManyThreads) {
      const unsigned row = i / (Stage::kTile / 16);
      const std::byte* const tile = tables.tiles[row] + static_cast<std::size_t>(chunk) * Stage::kTile;
      cp_async16(stage + i * 16, tile + i % (Stage::kTile / 16) * 16);
    }
#pragma unroll
    for (unsigned i = threadIdx.x; i < kManyColumns * 16; i += kManyThreads) {
      const std::size_t at = static_cast<std::size_t>(tables.rows[i / 16]) * columns.chunks + chunk;
      cp_async16(stage + Stage::kQ + i / 16 * kColumnStride + i % 16 * 16,
                 columns.x.q + at * kTileInputs + i % 16 * 16);
    }
    if (threadIdx.x < 2 * kManyColumns) {
      const unsigned i = threadIdx.x;
      const std::size_t at = static_cast<std::size_t>(tables.rows[i / 2]) * columns.chunks + chunk;
      if constexpr (kWantsSums<W>)
        cp_async16(stage + Stage::kSumsAt + i * 16,
                   reinterpret_cast<const std::byte*>(columns.x.sums) + at * 32 + i % 2 * 16);
      if constexpr (W::kInputs == 32)
        cp_async16(stage + Stage::kScalesAt + i * 16,
                   reinterpret_cast<const std::byte*>(columns.x.scales) + at * 32 + i % 2 * 16);
    }
    cp_async_commit();
  }

  __device__ __forceinline__ uint4 operand(const std::byte* stage, unsigned tile, unsigned pair) const {
    const unsigned column = 8 * tile + lane / 4;
    return *reinterpret_cast<const uint4*>(stage + Stage::kQ + column * kColumnStride + 64 * pair + 16 * (lane % 4));
  }
  __device__ __forceinline__ unsigned column_of(unsigned tile, unsigned i) const {
    return 8 * tile + 2 * (lane % 4) + i % 2;
  }

  __device__ __forceinline__ void multiply_256(const std::byte* stage, W& w, unsigned chunk) {
    int exact[kWarpTiles][4] = {};
    w.unpack_scales();
    each<4>([&](auto pair) {
      constexpr unsigned kStep = 2 * decltype(pair)::value;
      std::uint32_t a[2][4];
      w.template values<kStep>(a[0]);
      w.template values<kStep + 1>(a[1]);
#pragma unroll
      for (unsigned tile = 0; tile < kWarpTiles; ++tile) {
        const uint4 b = operand(stage, tile, pair);
        add_step<kStep>(w, a[0], b.x, b.y, exact[tile]);
        add_step<kStep + 1>(w, a[1], b.z, b.w, exact[tile]);
      }
    });
    const float* const scales = all_scales() + chunk * kManyColumns;
#pragma unroll
    for (unsigned tile = 0; tile < kWarpTiles; ++tile) {
      std::uint32_t low = 0;
      std::uint32_t high = 0;
      if constexpr (kWantsSums<W>) {
        const unsigned column = 8 * tile + lane / 4;
        const auto* const words = reinterpret_cast<const std::uint32_t*>(stage + Stage::kSumsAt + column * 32);
        low = words[lane % 4];
        high = words[4 + lane % 4];
      }
      const float2 scale = *reinterpret_cast<const float2*>(scales + column_of(tile, 0));
      float value[4];
      block_values(w, lane, low, high, exact[tile], value);
#pragma unroll
      for (unsigned i = 0; i < 4; ++i)
        sums[tile][i] = __fmaf_rn(value[i], i % 2 == 0 ? scale.x : scale.y, sums[tile][i]);
    }
  }

  // The sums begin at the bits of 1.5 * 2^23, so that they end as those of the float 1.5 * 2^23 + sum: no conversion.
  // (kMagic + sum) * d - kMagic * d, rounded once, is sum * d rounded: kMagic * d is exact.
  static constexpr int kMagicBits = 0x4B400000;
  static constexpr float kMagic = 12582912.0F;

  __device__ __forceinline__ void multiply_32(const std::byte* stage, const W& w) {
    each<4>([&](auto pair) {
      each<2>([&](auto second) {
        constexpr unsigned kStep = 2 * decltype(pair)::value + decltype(second)::value;
        std::uint32_t a[4];
        w.template values<kStep>(a);
        const float scale[2] = {w.template scale<kStep>(0), w.template scale<kStep>(1)};
        const float less[2] = {-__fmul_rn(kMagic, scale[0]), -__fmul_rn(kMagic, scale[1])};
#pragma unroll
        for (unsigned tile = 0; tile < kWarpTiles; ++tile) {
          const unsigned column = 8 * tile + lane / 4;
          const uint2 b = *reinterpret_cast<const uint2*>(stage + Stage::kQ + column * kColumnStride + 64 * pair +
                                                          16 * (lane % 4) + 8 * second);
          add_32<kStep>(stage, tile, a, {b.x, b.y}, scale, less);
        }
      });
    });
  }

  template <unsigned Step>
  __device__ __forceinline__ void add_32(const std::byte* stage, unsigned tile, const std::uint32_t (&a)[4],
                                         const std::uint32_t (&b)[2], const float (&scale)[2], const float (&less)[2]) {
    float x_scale[2];
    int x_sum[2] = {};
#pragma unroll
    for (unsigned i = 0; i < 2; ++i) {
      const unsigned column = column_of(tile, i);
      x_scale[i] = *reinterpret_cast<const float*>(stage + Stage::kScalesAt + column * 32 + 4 * Step);
      if constexpr (kWantsSums<W>)
        x_sum[i] = *reinterpret_cast<const int*>(stage + Stage::kSumsAt + column * 32 + 4 * Step);
    }
    int c[4];
#pragma unroll
    for (unsigned i = 0; i < 4; ++i) c[i] = kMagicBits - (W::kZero != 0 ? W::kZero * x_sum[i % 2] : 0);
    mma_s8(c, a, b);
#pragma unroll
    for (unsigned i = 0; i < 4; ++i) {
      const float value = __fmaf_rn(__int_as_float(c[i]), scale[i / 2], less[i / 2]);
      float& sum = sums[tile][i];
      sum = __fmaf_rn(value, x_scale[i % 2], sum);
      if constexpr (W::kMinima) {
        const float minimum = W::minimum(stage + tile_row * Stage::kTile, lane / 4 + 8 * (i / 2), Step);
        sum = __fmaf_rn(minimum, __fmul_rn(x_scale[i % 2], static_cast<float>(x_sum[i % 2])), sum);
      }
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
      const std::byte* const stage = shared + chunk % kManyStages * Stage::kBytes;
      W w;
      w.template load<SharedMemory>(stage + tile_row * Stage::kTile, lane);
      if constexpr (W::kInputs == 256) {
        multiply_256(stage, w, chunk);
      } else {
        multiply_32(stage, w);
      }
      __syncthreads();
    }
  }

  __device__ __forceinline__ void store() {
    // Paired: the warp of the second hands its sums to that of the first, beside it; the stages are free by now.
    auto* const exchanged = reinterpret_cast<float*>(shared) + threadIdx.x / 64 * 4 * kWarpTiles * 32 + lane;
    const unsigned row = first_tile_row + tile_row;
    const bool second = parts.paired && tile_row % 2 == 1;
    if (parts.paired) {
#pragma unroll
      for (unsigned i = 0; i < 4 * kWarpTiles; ++i)
        if (second) exchanged[i * 32] = sums[i / 4][i % 4];
      __syncthreads();
    }
    if (row >= parts.all_tile_rows || second) return;
    const TileRow to(parts, row);
#pragma unroll
    for (unsigned tile = 0; tile < kWarpTiles; ++tile) {
#pragma unroll
      for (unsigned i = 0; i < 4; ++i) {
        const unsigned column = column_of(tile, i);
        const unsigned output = to.index * kTileOutputs + lane / 4 + 8 * (i / 2);
        if (column >= columns.count || output >= to.outputs) continue;
        const float value = parts.paired ? swiglu(sums[tile][i], exchanged[(4 * tile + i) * 32]) : sums[tile][i];
        to.y[static_cast<std::size_t>(columns.first + column) * to.outputs + output] = value;
      }
    }
  }
};

}  // namespace sirocco::cuda

// Products of 2 to 32 rows with weights, for a few streams: bound by memory. Each warp goes through the chunks of a
// tile row, a few tiles ahead of itself, and adds up in order.
#pragma once

#include "kernels/cuda/linear_columns.cuh"

namespace sirocco::cuda {

inline constexpr unsigned kFewWarps = 4;

// Tiles that a warp has asked for, in registers.
template <class W>
inline constexpr unsigned kFewAhead = W::Layout::kBytes > 3000 ? 2 : 3;

template <unsigned Tiles, class W>
struct FewRows {
  const Columns& columns;
  unsigned lane = threadIdx.x % 32;
  const std::int8_t* q[Tiles];          // of the column lane / 4: the B operand
  const std::uint32_t* x_words[Tiles];  // its sums
  const float* scales[Tiles][2];        // of the columns 2 (lane % 4) and the next, the accumulators'
  const std::int32_t* x_sums[Tiles][2];
  float sums[Tiles][4] = {};

  __device__ __forceinline__ explicit FewRows(const Columns& c) : columns(c) {
#pragma unroll
    for (unsigned tile = 0; tile < Tiles; ++tile) {
      // Columns beyond the last are computed as the last one.
      const std::size_t row = columns.row(min(8 * tile + lane / 4, columns.count - 1)) * columns.chunks;
      q[tile] = columns.x.q + row * kTileInputs + 16 * (lane % 4);
      x_words[tile] = reinterpret_cast<const std::uint32_t*>(columns.x.sums) + row * 8 + lane % 4;
#pragma unroll
      for (unsigned i = 0; i < 2; ++i) {
        const std::size_t of = columns.row(min(8 * tile + 2 * (lane % 4) + i, columns.count - 1)) * columns.chunks;
        scales[tile][i] = columns.x.scales + of * kBlocks<W>;
        x_sums[tile][i] = reinterpret_cast<const std::int32_t*>(columns.x.sums) + of * 8;
      }
    }
  }

  __device__ __forceinline__ uint4 operand(unsigned tile, unsigned chunk, unsigned pair) const {
    return __ldg(reinterpret_cast<const uint4*>(q[tile] + chunk * kTileInputs + 64 * pair));
  }

  __device__ __forceinline__ void add(W& w, unsigned chunk, const std::byte* weights) {
    if constexpr (W::kInputs == 256) {
      add_256(w, chunk);
    } else {
      add_32(w, chunk, weights);
    }
  }

  __device__ __forceinline__ void add_256(W& w, unsigned chunk) {
    int exact[Tiles][4] = {};
    w.unpack_scales();
    each<4>([&](auto pair) {
      uint4 b[Tiles];
#pragma unroll
      for (unsigned tile = 0; tile < Tiles; ++tile) b[tile] = operand(tile, chunk, pair);
      each<2>([&](auto second) {
        constexpr unsigned kStep = 2 * decltype(pair)::value + decltype(second)::value;
        std::uint32_t a[4];
        w.template values<kStep>(a);
#pragma unroll
        for (unsigned tile = 0; tile < Tiles; ++tile)
          add_step<kStep>(w, a, second == 0 ? b[tile].x : b[tile].z, second == 0 ? b[tile].y : b[tile].w, exact[tile]);
      });
    });
#pragma unroll
    for (unsigned tile = 0; tile < Tiles; ++tile) {
      const std::uint32_t low = kWantsSums<W> ? __ldg(x_words[tile] + chunk * 8) : 0;
      const std::uint32_t high = kWantsSums<W> ? __ldg(x_words[tile] + chunk * 8 + 4) : 0;
      float value[4];
      block_values(w, lane, low, high, exact[tile], value);
#pragma unroll
      for (unsigned i = 0; i < 4; ++i)
        sums[tile][i] = __fmaf_rn(value[i], __ldg(scales[tile][i % 2] + chunk), sums[tile][i]);
    }
  }

  __device__ __forceinline__ void add_32(const W& w, unsigned chunk, const std::byte* weights) {
    each<4>([&](auto pair) {
      uint4 b[Tiles];
#pragma unroll
      for (unsigned tile = 0; tile < Tiles; ++tile) b[tile] = operand(tile, chunk, pair);
      each<2>([&](auto second) {
        constexpr unsigned kStep = 2 * decltype(pair)::value + decltype(second)::value;
        std::uint32_t a[4];
        w.template values<kStep>(a);
        const unsigned at = chunk * 8 + kStep;
#pragma unroll
        for (unsigned tile = 0; tile < Tiles; ++tile) {
          int c[4] = {};
          mma_s8(c, a, {second == 0 ? b[tile].x : b[tile].z, second == 0 ? b[tile].y : b[tile].w});
#pragma unroll
          for (unsigned i = 0; i < 4; ++i) {
            if constexpr (W::kZero != 0) c[i] -= W::kZero * __ldg(x_sums[tile][i % 2] + at);
            const float scale = __ldg(scales[tile][i % 2] + at);
            float& sum = sums[tile][i];
            sum = __fmaf_rn(__fmul_rn(static_cast<float>(c[i]), w.template scale<kStep>(i / 2)), scale, sum);
            if constexpr (W::kMinima) {
              const float x_sum = __fmul_rn(scale, static_cast<float>(__ldg(x_sums[tile][i % 2] + at)));
              sum = __fmaf_rn(W::minimum(weights, lane / 4 + 8 * (i / 2), kStep), x_sum, sum);
            }
          }
        }
      });
    });
  }
};

// The warp's tile row; `shared` [kFewWarps, Tiles, 4, 32] is for pairs.
//   wait    as OneRow::run's
template <unsigned Tiles, class W, class Wait>
__device__ __forceinline__ void few_rows(const Parts& parts, const Columns& columns, float* shared, Wait wait) {
  constexpr unsigned kAhead = kFewAhead<W>;
  const unsigned lane = threadIdx.x % 32;
  const unsigned warp = threadIdx.x / 32;
  const unsigned row = blockIdx.x * kFewWarps + warp;
  const bool computes = row < parts.all_tile_rows;
  const TileRow at(parts, computes ? row : 0);
  const std::byte* const tile = at.template begin<W>(columns.chunks);
  const unsigned chunks = computes ? columns.chunks : 0;
  W ahead[kAhead];
  each<kAhead>([&](auto i) {
    if (i < chunks) ahead[i].template load<GlobalMemory>(tile + i * W::Layout::kBytes, lane);
  });
  wait();
  FewRows<Tiles, W> rows(columns);
  for (unsigned begin = 0; begin < chunks; begin += kAhead) {
    each<kAhead>([&](auto i) {
      const unsigned chunk = begin + i;
      if (chunk >= chunks) return;
      rows.add(ahead[i], chunk, tile + chunk * W::Layout::kBytes);
      if (chunk + kAhead < chunks)
        ahead[i].template load<GlobalMemory>(tile + (chunk + kAhead) * W::Layout::kBytes, lane);
    });
  }
  // Paired: the second of a pair hands its sums to the first.
  if (parts.paired) {
#pragma unroll
    for (unsigned i = 0; i < 4 * Tiles; ++i) shared[(warp * 4 * Tiles + i) * 32 + lane] = rows.sums[i / 4][i % 4];
    __syncthreads();
  }
  if (!computes || (parts.paired && at.part != 0)) return;
#pragma unroll
  for (unsigned tile_index = 0; tile_index < Tiles; ++tile_index) {
#pragma unroll
    for (unsigned i = 0; i < 4; ++i) {
      const unsigned column = 8 * tile_index + 2 * (lane % 4) + i % 2;
      const unsigned output = at.index * kTileOutputs + lane / 4 + 8 * (i / 2);
      if (column >= columns.count || output >= at.outputs) continue;
      float value = rows.sums[tile_index][i];
      if (parts.paired) value = swiglu(value, shared[((warp + 1) * 4 * Tiles + 4 * tile_index + i) * 32 + lane]);
      at.y[static_cast<std::size_t>(columns.first + column) * at.outputs + output] = value;
    }
  }
}

}  // namespace sirocco::cuda

// The product of one row with weights, for one stream: bound by memory, and by how soon a block is through. The warps
// of a block take a tile row's chunks in rounds; what each chunk contributes goes to shared memory, and while the next
// round is read, one warp adds up the last one, in order of the chunks.
#pragma once

#include "kernels/cuda/linear_columns.cuh"

namespace sirocco::cuda {

inline constexpr unsigned kOneWarps = 8;

// Warps that share a tile row: a power of two.
inline unsigned warps_a_row(std::uint32_t chunks, bool paired) {
  unsigned warps = paired ? kOneWarps / 2 : kOneWarps;
  while (warps > 1 && warps / 2 >= chunks) warps /= 2;
  return warps;
}

template <class W>
struct OneRow {
  const Parts& parts;
  const Activations& x;  // at the row
  std::uint32_t chunks;
  unsigned warps_a_row;
  float* contributions;  // [2, kOneWarps, kBlocks<W>, 16]: of a round, and of the next
  float* sums;           // [rows, 16]
  unsigned lane = threadIdx.x % 32;
  unsigned warp = threadIdx.x / 32;

  __device__ __forceinline__ float* contributions_of(unsigned round, unsigned of_warp) const {
    return contributions + (round % 2 * kOneWarps + of_warp) * kBlocks<W> * kTileOutputs;
  }

  // The row is column 0, which the lanes 0 to 3 give and the lanes 4 g take out.
  __device__ __forceinline__ void multiply(W& w, unsigned chunk, float* to) const {
    uint4 b[4];
    std::uint32_t low = 0;
    std::uint32_t high = 0;
#pragma unroll
    for (uint4& words : b) words = make_uint4(0, 0, 0, 0);
    if (lane < 4) {
      const auto* const q = reinterpret_cast<const uint4*>(x.q + chunk * kTileInputs) + lane;
#pragma unroll
      for (unsigned pair = 0; pair < 4; ++pair) b[pair] = __ldg(q + 4 * pair);
      if constexpr (W::kInputs == 256 && kWantsSums<W>) {
        const auto* const words = reinterpret_cast<const std::uint32_t*>(x.sums) + chunk * 8 + lane;
        low = __ldg(words);
        high = __ldg(words + 4);
      }
    }
    if constexpr (W::kInputs == 256) {
      int exact[4] = {};
      float value[4];
      w.unpack_scales();
      each<8>([&](auto step) {
        constexpr unsigned kStep = decltype(step)::value;
        std::uint32_t a[4];
        w.template values<kStep>(a);
        add_step<kStep>(w, a, kStep % 2 == 0 ? b[kStep / 2].x : b[kStep / 2].z,
                        kStep % 2 == 0 ? b[kStep / 2].y : b[kStep / 2].w, exact);
      });
      block_values(w, lane, low, high, exact, value);
      if (lane % 4 == 0) {
        to[lane / 4] = value[0];
        to[lane / 4 + 8] = value[2];
      }
    } else {
      multiply_32(w, b, chunk, to);
    }
  }

  __device__ __forceinline__ void multiply_32(const W& w, const uint4 (&b)[4], unsigned chunk, float* to) const {
    const auto* const x_sums = reinterpret_cast<const int4*>(x.sums) + 2 * chunk;
    int4 x_sum[2] = {};
    if constexpr (W::kZero != 0) {
      x_sum[0] = __ldg(x_sums);
      x_sum[1] = __ldg(x_sums + 1);
    }
    each<8>([&](auto step) {
      constexpr unsigned kStep = decltype(step)::value;
      std::uint32_t a[4];
      w.template values<kStep>(a);
      int c[4] = {};
      mma_s8(c, a,
             {kStep % 2 == 0 ? b[kStep / 2].x : b[kStep / 2].z, kStep % 2 == 0 ? b[kStep / 2].y : b[kStep / 2].w});
      if constexpr (W::kZero != 0) {
        const int4& four = x_sum[kStep / 4];
        const int sum = kStep % 4 == 0 ? four.x : kStep % 4 == 1 ? four.y : kStep % 4 == 2 ? four.z : four.w;
        c[0] -= W::kZero * sum;
        c[2] -= W::kZero * sum;
      }
      if (lane % 4 == 0) {
        to[kStep * kTileOutputs + lane / 4] = __fmul_rn(static_cast<float>(c[0]), w.template scale<kStep>(0));
        to[kStep * kTileOutputs + lane / 4 + 8] = __fmul_rn(static_cast<float>(c[2]), w.template scale<kStep>(1));
      }
    });
  }

  // Adds a round up: two tile rows of the block, each lane one output.
  __device__ __forceinline__ void add_up(unsigned round, unsigned two, unsigned rows, unsigned first_row) const {
    const unsigned row = 2 * two + lane / 16;
    const unsigned first = round * warps_a_row * kBlocks<W>;
    const unsigned all = chunks * kBlocks<W>;
    const float scales[2] = {first + lane < all ? x.scales[first + lane] : 0,
                             first + 32 + lane < all ? x.scales[first + 32 + lane] : 0};
    int x_sums[2] = {};
    if constexpr (W::kInputs == 32 && W::kMinima) {
      const auto* const of_blocks = reinterpret_cast<const std::int32_t*>(x.sums) + first;
      x_sums[0] = first + lane < all ? of_blocks[lane] : 0;
      x_sums[1] = first + 32 + lane < all ? of_blocks[32 + lane] : 0;
    }
    const bool computes = row < rows;
    float sum = computes ? sums[row * kTileOutputs + lane % 16] : 0;
    const std::byte* tile = nullptr;
    if (W::kInputs == 32 && W::kMinima && computes)
      tile = TileRow(parts, first_row + row).template begin<W>(chunks) + round * warps_a_row * W::Layout::kBytes;
    const unsigned count = min(warps_a_row, chunks - round * warps_a_row);
    for (unsigned i = 0; i < count; ++i) {
      const float* const from = contributions_of(round, (computes ? row : 0) * warps_a_row + i) + lane % 16;
#pragma unroll
      for (unsigned b = 0; b < kBlocks<W>; ++b) {
        const unsigned at = i * kBlocks<W> + b;
        const float scale = __shfl_sync(0xFFFFFFFFU, at < 32 ? scales[0] : scales[1], static_cast<int>(at % 32));
        sum = __fmaf_rn(from[b * kTileOutputs], scale, sum);
        if constexpr (W::kInputs == 32 && W::kMinima) {
          const int x_sum = __shfl_sync(0xFFFFFFFFU, at < 32 ? x_sums[0] : x_sums[1], static_cast<int>(at % 32));
          const float minimum = computes ? W::minimum(tile + i * W::Layout::kBytes, lane % 16, b) : 0;
          sum = __fmaf_rn(minimum, __fmul_rn(scale, static_cast<float>(x_sum)), sum);
        }
      }
    }
    if (computes) sums[row * kTileOutputs + lane % 16] = sum;
  }

  // Tile rows blockIdx.x * rows …
  //   wait    called once, after the first weights have been asked for and before activations are read
  template <class Wait>
  __device__ __forceinline__ void run(Wait wait) const {
    const unsigned rows_a_block = kOneWarps / warps_a_row;
    const unsigned first_row = blockIdx.x * rows_a_block;
    const unsigned rows = min(rows_a_block, parts.all_tile_rows - first_row);
    const unsigned row = warp / warps_a_row;
    const unsigned first_chunk = warp % warps_a_row;
    const std::byte* tile = TileRow(parts, first_row + min(row, rows - 1)).template begin<W>(chunks);
    const unsigned end = row < rows ? chunks : 0;
    W next;
    if (first_chunk < end) next.template load<GlobalMemory>(tile + first_chunk * W::Layout::kBytes, lane);
    if (threadIdx.x < rows_a_block * kTileOutputs) sums[threadIdx.x] = 0;
    wait();
    const unsigned rounds = (chunks + warps_a_row - 1) / warps_a_row;
    const unsigned twos = (rows + 1) / 2;
#pragma unroll 2
    for (unsigned round = 0; round < rounds; ++round) {
      const unsigned chunk = round * warps_a_row + first_chunk;
      W w = next;
      if (chunk + warps_a_row < end)
        next.template load<GlobalMemory>(tile + (chunk + warps_a_row) * W::Layout::kBytes, lane);
      if (chunk < end) multiply(w, chunk, contributions_of(round, warp));
      __syncthreads();
      for (unsigned two = 0; two < twos; ++two)
        if (warp == (round * twos + two) % kOneWarps) add_up(round, two, rows, first_row);
    }
    __syncthreads();
    if (threadIdx.x >= rows * kTileOutputs) return;
    const TileRow to(parts, first_row + threadIdx.x / kTileOutputs);
    const unsigned output = to.index * kTileOutputs + threadIdx.x % kTileOutputs;
    if (output >= to.outputs || (parts.paired && to.part != 0)) return;
    to.y[output] = parts.paired ? swiglu(sums[threadIdx.x], sums[threadIdx.x + kTileOutputs]) : sums[threadIdx.x];
  }
};

}  // namespace sirocco::cuda

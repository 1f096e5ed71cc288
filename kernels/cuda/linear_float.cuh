// Products with weights in F32, F16 and BF16: a warp, or all warps of a block, for each output, four rows at once. A
// lane adds up its inputs in order, then lanes are added pairwise, then warps in order: the shape alone decides.
#pragma once

#include "kernels/cuda/cu.cuh"
#include "kernels/cuda/kernels.h"

namespace sirocco::cuda {

inline constexpr unsigned kFloatWarps = 8;
inline constexpr unsigned kFloatRows = 4;  // at once

struct WeightsF32 {
  static constexpr unsigned kBytes = 4;
  __device__ __forceinline__ static float at(const std::byte* row, unsigned k) {
    return __ldg(reinterpret_cast<const float*>(row) + k);
  }
};
struct WeightsF16 {
  static constexpr unsigned kBytes = 2;
  __device__ __forceinline__ static float at(const std::byte* row, unsigned k) {
    return __half2float(__ushort_as_half(__ldg(reinterpret_cast<const unsigned short*>(row) + k)));
  }
};
struct WeightsBF16 {
  static constexpr unsigned kBytes = 2;
  __device__ __forceinline__ static float at(const std::byte* row, unsigned k) {
    const std::uint32_t bits = __ldg(reinterpret_cast<const unsigned short*>(row) + k);
    return __uint_as_float(bits << 16);
  }
};

// Whether a block's warps share an output, which few outputs want.
constexpr bool shares_output(std::uint32_t outputs) {
  return outputs < 1024;
}

// The products of up to four rows with one output, on every lane of every warp that computes it.
//   x       rows [inputs]
//   shared  [kFloatWarps, kFloatRows], where warps share
template <class W>
__device__ __forceinline__ void float_products(const std::byte* weights, const float* const (&x)[kFloatRows],
                                               std::uint32_t inputs, bool share, float* shared,
                                               float (&sums)[kFloatRows]) {
  const unsigned lane = threadIdx.x % 32;
  const unsigned warp = threadIdx.x / 32;
  const unsigned step = share ? 32 * kFloatWarps : 32;
#pragma unroll 4
  for (unsigned k = share ? threadIdx.x : lane; k < inputs; k += step) {
    const float w = W::at(weights, k);
#pragma unroll
    for (unsigned r = 0; r < kFloatRows; ++r) sums[r] = __fmaf_rn(w, x[r][k], sums[r]);
  }
#pragma unroll
  for (float& sum : sums) {
#pragma unroll
    for (int distance = 16; distance > 0; distance /= 2)
      sum = __fadd_rn(sum, __shfl_xor_sync(0xFFFFFFFFU, sum, distance));
  }
  if (!share) return;
#pragma unroll
  for (unsigned r = 0; r < kFloatRows; ++r)
    if (lane == 0) shared[warp * kFloatRows + r] = sums[r];
  __syncthreads();
#pragma unroll
  for (unsigned r = 0; r < kFloatRows; ++r) {
    float sum = 0;
    for (unsigned i = 0; i < kFloatWarps; ++i) sum = __fadd_rn(sum, shared[i * kFloatRows + r]);
    sums[r] = sum;
  }
  __syncthreads();
}

}  // namespace sirocco::cuda

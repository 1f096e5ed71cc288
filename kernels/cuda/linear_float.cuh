// Products with weights in F32, F16 and BF16: a warp, or all warps of a block, for each output, one row or four at
// once. A thread adds up runs of four inputs in order, then lanes are added pairwise, then warps in order: the shape
// alone decides.
#pragma once

#include "kernels/cuda/cu.cuh"
#include "kernels/cuda/kernels.h"
#include "kernels/cuda/weights.cuh"

namespace sirocco::cuda {

inline constexpr unsigned kFloatWarps = 8;
inline constexpr unsigned kFloatRows = 4;  // at once

// Weights k to k + 3 of an output.
struct WeightsF32 {
  static constexpr unsigned kBytes = 4;
  __device__ __forceinline__ static float4 four(const std::byte* row, unsigned k) {
    return __ldg(reinterpret_cast<const float4*>(row) + k / 4);
  }
  __device__ __forceinline__ static float one(const std::byte* row, unsigned k) {
    return __ldg(reinterpret_cast<const float*>(row) + k);
  }
};
struct WeightsF16 {
  static constexpr unsigned kBytes = 2;
  __device__ __forceinline__ static float4 four(const std::byte* row, unsigned k) {
    const uint2 bits = __ldg(reinterpret_cast<const uint2*>(row) + k / 4);
    return make_float4(half_bits(bits.x), half_bits(bits.x >> 16), half_bits(bits.y), half_bits(bits.y >> 16));
  }
  __device__ __forceinline__ static float one(const std::byte* row, unsigned k) {
    return half_bits(__ldg(reinterpret_cast<const unsigned short*>(row) + k));
  }
};
struct WeightsBF16 {
  static constexpr unsigned kBytes = 2;
  __device__ __forceinline__ static float4 four(const std::byte* row, unsigned k) {
    const uint2 bits = __ldg(reinterpret_cast<const uint2*>(row) + k / 4);
    return make_float4(__uint_as_float(bits.x << 16), __uint_as_float(bits.x & 0xFFFF0000U),
                       __uint_as_float(bits.y << 16), __uint_as_float(bits.y & 0xFFFF0000U));
  }
  __device__ __forceinline__ static float one(const std::byte* row, unsigned k) {
    const std::uint32_t bits = __ldg(reinterpret_cast<const unsigned short*>(row) + k);
    return __uint_as_float(bits << 16);
  }
};

// Whether a block's warps share an output, which few outputs want.
constexpr bool shares_output(std::uint32_t outputs) {
  return outputs < 1024;
}

// The products of kRows rows with one output, on every lane of every warp that computes it.
//   x       rows [inputs]
//   shared  [kFloatWarps, kFloatRows], where warps share
template <class W, unsigned kRows>
__device__ __forceinline__ void float_products(const std::byte* weights, const float* const (&x)[kRows],
                                               std::uint32_t inputs, bool share, float* shared, float (&sums)[kRows]) {
  const unsigned lane = threadIdx.x % 32;
  const unsigned warp = threadIdx.x / 32;
  const unsigned step = 4 * (share ? 32 * kFloatWarps : 32);
  // Rows begin at multiples of 16 bytes if their length is one of 8; else one input after another, in the same order.
  const bool aligned = inputs % 8 == 0;
#pragma unroll 4
  for (unsigned k = 4 * (share ? threadIdx.x : lane); k < inputs; k += step) {
    if (aligned) {
      const float4 w = W::four(weights, k);
#pragma unroll
      for (unsigned r = 0; r < kRows; ++r) {
        const float4 v = __ldg(reinterpret_cast<const float4*>(x[r]) + k / 4);
        sums[r] = __fmaf_rn(w.x, v.x, sums[r]);
        sums[r] = __fmaf_rn(w.y, v.y, sums[r]);
        sums[r] = __fmaf_rn(w.z, v.z, sums[r]);
        sums[r] = __fmaf_rn(w.w, v.w, sums[r]);
      }
    } else {
      for (unsigned i = k; i < k + 4 && i < inputs; ++i) {
        const float w = W::one(weights, i);
#pragma unroll
        for (unsigned r = 0; r < kRows; ++r) sums[r] = __fmaf_rn(w, __ldg(x[r] + i), sums[r]);
      }
    }
  }
#pragma unroll
  for (float& sum : sums) {
#pragma unroll
    for (int distance = 16; distance > 0; distance /= 2)
      sum = __fadd_rn(sum, __shfl_xor_sync(0xFFFFFFFFU, sum, distance));
  }
  if (!share) return;
#pragma unroll
  for (unsigned r = 0; r < kRows; ++r)
    if (lane == 0) shared[warp * kFloatRows + r] = sums[r];
  __syncthreads();
#pragma unroll
  for (unsigned r = 0; r < kRows; ++r) {
    float sum = 0;
    for (unsigned i = 0; i < kFloatWarps; ++i) sum = __fadd_rn(sum, shared[i * kFloatRows + r]);
    sums[r] = sum;
  }
}

}  // namespace sirocco::cuda

// Functions that are the same bits as those of kernels/cpu: one IEEE operation after another, in the same order.
#pragma once

#include <cstdint>

#include "kernels/cuda/cu.cuh"

namespace sirocco::cuda {

// e^x (kernels/cpu/vector_math.h).
__device__ __forceinline__ float exponential(float x) {
  const float in_range = x < -87.3F ? -87.3F : x > 88.7F ? 88.7F : x;  // NaN goes through
  const int n = __float2int_rn(__fmul_rn(in_range, 1.44269504F));
  const float n_float = static_cast<float>(n);
  const float r = __fmaf_rn(n_float, 2.12194440e-4F, __fmaf_rn(n_float, -0.693359375F, in_range));
  float p = 1.9875691500e-4F;
  p = __fmaf_rn(p, r, 1.3981999507e-3F);
  p = __fmaf_rn(p, r, 8.3334519073e-3F);
  p = __fmaf_rn(p, r, 4.1665795894e-2F);
  p = __fmaf_rn(p, r, 1.6666665459e-1F);
  p = __fmaf_rn(p, r, 5.0000001201e-1F);
  const float mantissa = __fadd_rn(__fmaf_rn(__fmul_rn(r, r), p, r), 1.0F);
  const float result = __uint_as_float(__float_as_uint(mantissa) + (static_cast<std::uint32_t>(n) << 23));
  return x < -87.3F ? 0.0F : 88.7F < x ? __uint_as_float(0x7F800000U) : result;
}
// silu(gate) * up (kernels/cpu/row_ops.cc).
__device__ __forceinline__ float swiglu(float gate, float up) {
  return __fmul_rn(__fdiv_rn(gate, __fadd_rn(1.0F, exponential(-gate))), up);
}

}  // namespace sirocco::cuda

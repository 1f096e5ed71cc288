// Functions of 16 floats made of the vectors' operations: the same bits on every instruction set.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <limits>

#include "kernels/cpu/simd.h"

namespace sirocco::cpu::SIROCCO_ISA {

// e^x within 2 units in the last place; 0 below -87.3, where the result would be a subnormal number, infinity above
// 88.7; NaN stays NaN.
// Cody and Waite's reduction to |r| <= ln 2 / 2, and the polynomial of Cephes' expf.
SIROCCO_INLINE Floats16 exponential(Floats16 x) {
  // In this order of arguments a NaN goes through.
  const Floats16 in_range = minimum(broadcast(88.7F), maximum(broadcast(-87.3F), x));
  const Ints16 n = round_to_ints(multiply(in_range, broadcast(1.44269504F)));
  const Floats16 n_float = to_floats(n);
  const Floats16 high = fma(n_float, broadcast(-0.693359375F), in_range);
  const Floats16 r = fma(n_float, broadcast(2.12194440e-4F), high);
  Floats16 p = broadcast(1.9875691500e-4F);
  p = fma(p, r, broadcast(1.3981999507e-3F));
  p = fma(p, r, broadcast(8.3334519073e-3F));
  p = fma(p, r, broadcast(4.1665795894e-2F));
  p = fma(p, r, broadcast(1.6666665459e-1F));
  p = fma(p, r, broadcast(5.0000001201e-1F));
  const Floats16 mantissa = add(fma(multiply(r, r), p, r), broadcast(1.0F));
  const Floats16 result = as_floats(add(as_ints(mantissa), shift_left_ints<23>(n)));
  const Floats16 infinite = broadcast(std::numeric_limits<float>::infinity());
  const Floats16 not_above = select_less(broadcast(88.7F), x, infinite, result);
  return select_less(x, broadcast(-87.3F), zero_floats(), not_above);
}

// The first `count` of 16 floats; the others are zero, or are left as they are.
SIROCCO_INLINE Floats16 load_some(const float* p, std::size_t count) {
  if (count >= 16) return load_floats(p);
  float padded[16] = {};
  std::memcpy(padded, p, count * sizeof(float));
  return load_floats(padded);
}
SIROCCO_INLINE void store_some(float* p, Floats16 x, std::size_t count) {
  if (count >= 16) return store_floats(p, x);
  float all[16];
  store_floats(all, x);
  std::memcpy(p, all, count * sizeof(float));
}

}  // namespace sirocco::cpu::SIROCCO_ISA

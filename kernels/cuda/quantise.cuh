// Activations as int8, a warp for each chunk of 256 (tiles.h has the layout): the numbers of kernels/cpu/quantise.cc,
// bit for bit.
//
// Sums, 32 bytes a chunk: q8_32 has the sum of each block of 32 as int32; q8_256 has those of 16, split into a signed
// low byte and what is above it: 16 low bytes, then 16 high ones, which the tensor cores multiply with minima.
#pragma once

#include <cstdint>

#include "kernels/cuda/cu.cuh"
#include "kernels/cuda/kernels.h"

namespace sirocco::cuda {

// The factor that makes int8 of a block whose largest magnitude has these bits. Below 2^-100 the quotient could be
// infinite: such a block is as good as zero.
__device__ __forceinline__ float quantising_factor(std::uint32_t largest) {
  const float magnitude = __uint_as_float(largest);
  return magnitude > 0x1p-100F ? __fdiv_rn(127.0F, magnitude) : 0.0F;
}

struct QuantisedEight {
  std::uint32_t words[2];  // of four q each
  int sum;
};

__device__ __forceinline__ QuantisedEight quantise_eight(const float (&x)[8], float factor) {
  QuantisedEight out = {};
#pragma unroll
  for (unsigned i = 0; i < 8; ++i) {
    const int q = __float2int_rn(__fmul_rn(x[i], factor));
    out.words[i / 4] |= (static_cast<std::uint32_t>(q) & 255U) << (8 * (i % 4));
    out.sum += q;
  }
  return out;
}

// Where a lane's eight elements go: its two words, 16 bytes apart.
__device__ __forceinline__ void store_quantised(std::int8_t* chunk, unsigned lane, const QuantisedEight& eight) {
  const unsigned step = lane / 4;
  const unsigned at = step / 2 * 64 + lane % 2 * 32 + step % 2 * 8 + lane % 4 / 2 * 4;
  *reinterpret_cast<std::uint32_t*>(chunk + at) = eight.words[0];
  *reinterpret_cast<std::uint32_t*>(chunk + at + 16) = eight.words[1];
}

// One chunk of row `row`. x: elements 8 lane to 8 lane + 7, zero beyond the row. All lanes of the warp come.
__device__ __forceinline__ void quantise_chunk(const float (&x)[8], std::size_t row, unsigned chunk, unsigned chunks,
                                               const Activations& q8_32, const Activations& q8_256) {
  const unsigned lane = threadIdx.x % 32;
  std::uint32_t largest = 0;
#pragma unroll
  for (unsigned i = 0; i < 8; ++i) largest = max(largest, __float_as_uint(x[i]) & 0x7FFFFFFFU);
  largest = max(largest, __shfl_xor_sync(0xFFFFFFFFU, largest, 1));
  largest = max(largest, __shfl_xor_sync(0xFFFFFFFFU, largest, 2));
  const std::size_t at = row * chunks + chunk;
  if (q8_32.q != nullptr) {
    const QuantisedEight eight = quantise_eight(x, quantising_factor(largest));
    store_quantised(q8_32.q + at * kTileInputs, lane, eight);
    int sum = eight.sum + __shfl_xor_sync(0xFFFFFFFFU, eight.sum, 1);
    sum += __shfl_xor_sync(0xFFFFFFFFU, sum, 2);
    if (lane % 4 == 0) {
      reinterpret_cast<std::int32_t*>(q8_32.sums)[at * 8 + lane / 4] = sum;
      q8_32.scales[at * 8 + lane / 4] = __fdiv_rn(__uint_as_float(largest), 127.0F);
    }
  }
  if (q8_256.q != nullptr) {
#pragma unroll
    for (int distance = 4; distance < 32; distance *= 2)
      largest = max(largest, __shfl_xor_sync(0xFFFFFFFFU, largest, distance));
    const QuantisedEight eight = quantise_eight(x, quantising_factor(largest));
    store_quantised(q8_256.q + at * kTileInputs, lane, eight);
    const int sum = eight.sum + __shfl_xor_sync(0xFFFFFFFFU, eight.sum, 1);
    if (lane % 2 == 0) {
      auto* const bytes = reinterpret_cast<std::int8_t*>(q8_256.sums) + at * 32 + lane / 2;
      const auto low = static_cast<std::int8_t>(sum & 255);
      bytes[0] = low;
      bytes[16] = static_cast<std::int8_t>((sum - low) / 256);
    }
    if (lane == 0) q8_256.scales[at] = __fdiv_rn(__uint_as_float(largest), 127.0F);
  }
}

}  // namespace sirocco::cuda

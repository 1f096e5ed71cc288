// Where a key or a value lies in the paged cache (DeviceKv), the same for writer and reader.
#pragma once

#include <cstddef>

#include "kernels/cuda/cu.cuh"
#include "kernels/cuda/kernels.h"

namespace sirocco::cuda {

inline constexpr unsigned kScaleElements = 32;  // of q8_0, that share one f16 scale

// Bytes of one head's part of a block; each begins at a multiple of 16.
__host__ __device__ constexpr std::size_t kv_head_bytes(bool q8_0, std::uint32_t block_tokens, std::uint32_t head_dim) {
  const std::size_t elements = static_cast<std::size_t>(block_tokens) * head_dim;
  const std::size_t bytes = q8_0 ? elements + elements / kScaleElements * sizeof(__half) : elements * sizeof(__half);
  return (bytes + 15) / 16 * 16;
}

// Of one position and head, in bytes from keys or values.
struct KvPlace {
  std::size_t values;  // [head_dim] f16 or int8
  std::size_t scales;  // [head_dim / 32] f16, of q8_0
};

__device__ __forceinline__ KvPlace kv_place(const DeviceKv& kv, const std::uint32_t* block_table,
                                            std::uint32_t position, std::uint32_t kv_head, std::uint32_t head_dim) {
  const bool q8_0 = kv.type == TensorType::q8_0;
  const std::uint32_t slot = position % kv.block_tokens;
  const std::size_t head = block_table[position / kv.block_tokens] * kv.block_stride +
                           kv_head * kv_head_bytes(q8_0, kv.block_tokens, head_dim);
  const std::size_t elements = static_cast<std::size_t>(slot) * head_dim;
  if (!q8_0) return {head + elements * sizeof(__half), 0};
  const std::size_t scales = head + static_cast<std::size_t>(kv.block_tokens) * head_dim;
  return {head + elements, scales + elements / kScaleElements * sizeof(__half)};
}

}  // namespace sirocco::cuda

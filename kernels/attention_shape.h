// What attention kernels are told about heads and the KV cache.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "kernels/tensor_type.h"

namespace sirocco {

// One layer's KV cache as one sequence sees it. Position p lies in block table[p / block_tokens], at slot
// p % block_tokens. How a block looks inside is the kernels' own affair: only their kv_write writes it, only their
// attend_piece reads it.
struct KvView {
  std::byte* keys = nullptr;  // of block 0 of this layer
  std::byte* values = nullptr;
  std::size_t block_stride = 0;  // bytes from a block to the next, for keys and for values
  std::span<const std::uint32_t> table;
  std::uint32_t block_tokens = 0;
  TensorType type = TensorType::f32;  // f32, f16 or q8_0
};

struct AttentionShape {
  std::size_t heads = 0;  // a multiple of kv_heads; head h reads kv head h / (heads / kv_heads)
  std::size_t kv_heads = 0;
  std::size_t head_dim = 0;
  float scale = 0;           // usually 1 / sqrt(head_dim)
  std::uint32_t window = 0;  // position i sees keys i - window + 1 to i; 0: all of 0 to i

  // The first key that a position sees.
  std::uint32_t first_key(std::uint32_t position) const {
    return window == 0 || position < window ? 0 : position - window + 1;
  }
};

// Attention runs over pieces of the keys, positions kAttentionPiece * i to kAttentionPiece * (i + 1) - 1, whose results
// are folded together in ascending order: so many threads can share one row, and its result does not depend on them.
inline constexpr std::uint32_t kAttentionPiece = 256;

// One row's query in one head.
struct AttentionQuery {
  const float* q = nullptr;  // [head_dim]
  std::uint32_t position = 0;
};
inline constexpr std::size_t kMaxAttentionQueries = 8;  // in one call

// A piece's result for a query, and what several are folded into: the largest score, the sum of exp(score - largest),
// and [head_dim] sums of the values weighted so.
constexpr std::size_t attention_part_floats(std::size_t head_dim) {
  return head_dim + 2;
}
// Scratch of attend_piece, in floats.
constexpr std::size_t attention_scratch_floats(std::size_t head_dim) {
  return kMaxAttentionQueries * (kAttentionPiece + head_dim + 16);
}

}  // namespace sirocco

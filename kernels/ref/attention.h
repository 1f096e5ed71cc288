// Grouped-query attention over a paged KV cache (Ainslie et al. 2023; Kwon et al. 2023).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "kernels/tensor_type.h"

namespace sirocco::ref {

// One layer's KV cache as one sequence sees it. Position p lies in block table[p / block_tokens], at slot
// p % block_tokens. A block of K is [block_tokens, kv_heads, head_dim] in `type`, a block of V the same.
struct KvView {
  std::byte* keys = nullptr;  // of block 0 of this layer
  std::byte* values = nullptr;
  std::size_t block_stride = 0;  // bytes from a block to the next, for keys and for values
  std::span<const std::uint32_t> table;
  std::uint32_t block_tokens = 0;
  TensorType type = TensorType::f32;  // f32 or f16
};

// Writes the keys and values of consecutive positions.
//
//   k, v   [rows, kv_heads, head_dim] f32
//   first  position of row 0
void kv_write(const KvView& kv, std::uint32_t first, std::size_t kv_heads, std::size_t head_dim,
              std::span<const float> k, std::span<const float> v);

struct AttentionShape {
  std::size_t heads = 0;  // a multiple of kv_heads; head h reads kv head h / (heads / kv_heads)
  std::size_t kv_heads = 0;
  std::size_t head_dim = 0;
  float scale = 0;           // usually 1 / sqrt(head_dim)
  std::uint32_t window = 0;  // position i sees keys i - window + 1 to i; 0: all of 0 to i
};

// One row and one head: softmax(q k^T * scale) v over the keys that `position` sees.
//
//   q, y     [head_dim] f32
//   scratch  [at least the number of keys seen] f32
void attention(const AttentionShape& shape, const KvView& kv, std::uint32_t position, std::size_t head,
               std::span<const float> q, std::span<float> y, std::span<float> scratch);

}  // namespace sirocco::ref

// Grouped-query attention over a paged KV cache (Ainslie et al. 2023; Kwon et al. 2023), piece by piece
// (kernels/attention_shape.h).
//
// A block of keys is [block_tokens, kv_heads, head_dim] in the cache's type, a block of values the same.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "kernels/attention_shape.h"

namespace sirocco::ref {

std::size_t kv_block_bytes(TensorType type, std::size_t block_tokens, std::size_t kv_heads, std::size_t head_dim);

// Writes the keys and values of one position: k, v [kv_heads, head_dim] f32.
void kv_write(const KvView& kv, std::uint32_t position, std::size_t head_dim, std::span<const float> k,
              std::span<const float> v);

// One query's result of one piece of the keys, to part [attention_part_floats(head_dim)].
//
//   scratch  [kAttentionPiece + head_dim] f32
void attend_piece(const AttentionShape& shape, const KvView& kv, std::size_t kv_head, const AttentionQuery& query,
                  std::uint32_t piece, std::span<float> part, std::span<float> scratch);

// The result of no keys: what fold_piece begins with.
void clear_part(std::span<float> state);

// state becomes the result of the keys of both.
void fold_piece(std::span<const float> part, std::span<float> state);

}  // namespace sirocco::ref

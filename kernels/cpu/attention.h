// Attention over a paged KV cache, piece by piece; what the functions compute is in kernels/kernels.h.
//
// A block of keys is, of each kv head, [head_dim, block_tokens], so that the scores of 16 positions are a vector and
// stream; a block of values is [block_tokens, head_dim rounded up to 16]. In Q8_0 every 32 dimensions of a position
// have an f16 scale: the scales stand behind the head's int8, [head_dim / 32, block_tokens] and
// [block_tokens, head_dim / 32].
#pragma once

#include "kernels/attention_shape.h"

namespace sirocco::cpu::SIROCCO_ISA {

std::size_t kv_block_bytes(TensorType type, std::size_t block_tokens, std::size_t kv_heads, std::size_t head_dim);
void kv_write(const KvView& kv, std::uint32_t position, std::size_t kv_heads, std::size_t head_dim, const float* k,
              const float* v);
void attend_piece(const AttentionShape& shape, const KvView& kv, std::size_t kv_head, const AttentionQuery* queries,
                  std::size_t count, std::uint32_t piece, float* parts, float* scratch);
void fold_piece(const float* part, std::size_t head_dim, float* state);

}  // namespace sirocco::cpu::SIROCCO_ISA

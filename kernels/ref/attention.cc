#include "kernels/ref/attention.h"

#include <algorithm>
#include <bit>
#include <cassert>
#include <cmath>
#include <cstring>
#include <limits>

#include "kernels/half.h"
#include "kernels/quant_blocks.h"
#include "kernels/ref/dequantize.h"
#include "kernels/ref/dot.h"
#include "kernels/target_clones.h"

namespace sirocco::ref {
namespace {

// Where head `kv_head` of `position` lies, in bytes from block 0; the same for keys and values.
std::size_t kv_offset(const KvView& kv, std::size_t position, std::size_t kv_heads, std::size_t kv_head,
                      std::size_t head_dim) {
  const std::size_t slot = position % kv.block_tokens;
  return kv.table[position / kv.block_tokens] * kv.block_stride +
         row_bytes(kv.type, (slot * kv_heads + kv_head) * head_dim);
}

// To nearest, ties to even, with scale = max |x| / 127 rounded to f16. Magnitudes are compared by their bits, where NaN
// is above infinity: what is no number shows in the scale.
void store_q8_0(std::span<const float> x, std::byte* destination) {
  for (std::size_t i = 0; i < x.size(); i += 32) {
    std::uint32_t bits = 0;
    for (std::size_t j = i; j < i + 32; ++j) bits = std::max(bits, std::bit_cast<std::uint32_t>(x[j]) & 0x7FFFFFFFU);
    const auto largest = std::bit_cast<float>(bits);
    BlockQ8_0 block = {};
    const std::uint16_t scale = f32_to_f16(largest / 127.0F);
    std::memcpy(&block.scale, &scale, sizeof scale);
    if (largest > 0x1p-100F && std::isfinite(largest)) {
      for (std::size_t j = 0; j < 32; ++j)
        block.q[j] = static_cast<std::int8_t>(std::nearbyint(x[i + j] * (127.0F / largest)));
    }
    std::memcpy(destination + i / 32 * sizeof block, &block, sizeof block);
  }
}

void store(TensorType type, std::span<const float> x, std::byte* destination) {
  if (type == TensorType::q8_0) return store_q8_0(x, destination);
  if (type == TensorType::f32) {
    std::memcpy(destination, x.data(), x.size_bytes());
    return;
  }
  for (std::size_t i = 0; i < x.size(); ++i) {
    const std::uint16_t half = f32_to_f16(x[i]);
    std::memcpy(destination + 2 * i, &half, sizeof(half));
  }
}

}  // namespace

SIROCCO_TARGET_CLONES float attention_score(const float* key, const float* q, std::size_t head_dim) {
  return dot<1>(&q, head_dim, [key](std::size_t i) { return key[i]; })[0];
}

// y[i] += share * value[i]
SIROCCO_TARGET_CLONES void attention_accumulate(const float* value, float share, float* y, std::size_t head_dim) {
  for (std::size_t i = 0; i < head_dim; ++i) y[i] += share * value[i];
}

std::size_t kv_block_bytes(TensorType type, std::size_t block_tokens, std::size_t kv_heads, std::size_t head_dim) {
  return row_bytes(type, block_tokens * kv_heads * head_dim);
}

void kv_write(const KvView& kv, std::uint32_t position, std::size_t head_dim, std::span<const float> k,
              std::span<const float> v) {
  assert(k.size() == v.size() && k.size() % head_dim == 0);

  const std::size_t offset = kv_offset(kv, position, k.size() / head_dim, 0, head_dim);
  store(kv.type, k, kv.keys + offset);
  store(kv.type, v, kv.values + offset);
}

void attend_piece(const AttentionShape& shape, const KvView& kv, std::size_t kv_head, const AttentionQuery& query,
                  std::uint32_t piece, std::span<float> part, std::span<float> scratch) {
  const std::size_t head_dim = shape.head_dim;
  const std::size_t begin = std::max(shape.first_key(query.position), piece * kAttentionPiece);
  const std::size_t end = std::min<std::size_t>(query.position + 1, std::size_t{piece + 1} * kAttentionPiece);
  assert(part.size() == attention_part_floats(head_dim) && scratch.size() >= kAttentionPiece + head_dim);
  clear_part(part);
  if (begin >= end) return;

  const std::span<float> scores = scratch.first(end - begin);
  const std::span<float> row = scratch.subspan(kAttentionPiece, head_dim);  // a key or value as floats
  const auto offset_of = [&](std::size_t key) { return kv_offset(kv, key, shape.kv_heads, kv_head, head_dim); };
  for (std::size_t key = begin; key < end; ++key) {
    dequantize(kv.type, kv.keys + offset_of(key), row);
    scores[key - begin] = attention_score(row.data(), query.q, head_dim) * shape.scale;
  }
  const float largest = *std::max_element(scores.begin(), scores.end());
  double sum = 0;
  for (float& score : scores) {
    score = std::exp(score - largest);
    sum += score;
  }
  part[0] = largest;
  part[1] = static_cast<float>(sum);
  for (std::size_t key = begin; key < end; ++key) {
    dequantize(kv.type, kv.values + offset_of(key), row);
    attention_accumulate(row.data(), scores[key - begin], &part[2], head_dim);
  }
}

void clear_part(std::span<float> state) {
  std::fill(state.begin(), state.end(), 0.0F);
  state[0] = -std::numeric_limits<float>::infinity();
}

void fold_piece(std::span<const float> part, std::span<float> state) {
  assert(part.size() == state.size());
  if (part[0] == -std::numeric_limits<float>::infinity()) return;  // a piece of no keys

  const float largest = std::max(part[0], state[0]);
  const float old_share = std::exp(state[0] - largest);
  const float new_share = std::exp(part[0] - largest);
  state[0] = largest;
  for (std::size_t i = 1; i < state.size(); ++i) state[i] = state[i] * old_share + part[i] * new_share;
}

}  // namespace sirocco::ref

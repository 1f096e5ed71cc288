#include "kernels/ref/attention.h"

#include <algorithm>
#include <cassert>
#include <cstring>

#include "kernels/half.h"
#include "kernels/quant_blocks.h"
#include "kernels/ref/dot.h"
#include "kernels/ref/softmax.h"
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

void store(TensorType type, std::span<const float> x, std::byte* destination) {
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

// q k^T of one head; key: [head_dim] in `type`.
SIROCCO_TARGET_CLONES float attention_score(TensorType type, const std::byte* key, const float* q,
                                            std::size_t head_dim) {
  if (type == TensorType::f32) {
    return dot<1>(q, head_dim, head_dim, [key](std::size_t i) { return load_unaligned<float>(key + 4 * i); })[0];
  }
  return dot<1>(q, head_dim, head_dim,
                [key](std::size_t i) { return f16_to_f32(load_unaligned<std::uint16_t>(key + 2 * i)); })[0];
}

// y[i] += share * value[i]; value: [head_dim] in `type`.
SIROCCO_TARGET_CLONES void attention_accumulate(TensorType type, const std::byte* value, float share, float* y,
                                                std::size_t head_dim) {
  if (type == TensorType::f32) {
    for (std::size_t i = 0; i < head_dim; ++i) y[i] += share * load_unaligned<float>(value + 4 * i);
  } else {
    for (std::size_t i = 0; i < head_dim; ++i) y[i] += share * f16_to_f32(load_unaligned<std::uint16_t>(value + 2 * i));
  }
}

void kv_write(const KvView& kv, std::uint32_t first, std::size_t kv_heads, std::size_t head_dim,
              std::span<const float> k, std::span<const float> v) {
  const std::size_t width = kv_heads * head_dim;
  assert(kv.type == TensorType::f32 || kv.type == TensorType::f16);
  assert(k.size() == v.size() && k.size() % width == 0);

  for (std::size_t row = 0; row < k.size() / width; ++row) {
    const std::size_t offset = kv_offset(kv, first + row, kv_heads, 0, head_dim);
    store(kv.type, k.subspan(row * width, width), kv.keys + offset);
    store(kv.type, v.subspan(row * width, width), kv.values + offset);
  }
}

void attention(const AttentionShape& shape, const KvView& kv, std::uint32_t position, std::size_t head,
               std::span<const float> q, std::span<float> y, std::span<float> scratch) {
  const std::size_t end = std::size_t{position} + 1;
  const std::size_t begin = shape.window == 0 || end <= shape.window ? 0 : end - shape.window;
  const std::size_t kv_head = head / (shape.heads / shape.kv_heads);
  assert(head < shape.heads && shape.heads % shape.kv_heads == 0);
  assert(kv.type == TensorType::f32 || kv.type == TensorType::f16);
  assert(q.size() == shape.head_dim && y.size() == shape.head_dim && scratch.size() >= end - begin);

  const auto offset_of = [&](std::size_t key) { return kv_offset(kv, key, shape.kv_heads, kv_head, shape.head_dim); };

  const std::span<float> shares = scratch.first(end - begin);
  for (std::size_t key = begin; key < end; ++key) {
    shares[key - begin] = attention_score(kv.type, kv.keys + offset_of(key), q.data(), shape.head_dim) * shape.scale;
  }
  softmax(shares);
  std::fill(y.begin(), y.end(), 0.0F);
  for (std::size_t key = begin; key < end; ++key) {
    attention_accumulate(kv.type, kv.values + offset_of(key), shares[key - begin], y.data(), shape.head_dim);
  }
}

}  // namespace sirocco::ref

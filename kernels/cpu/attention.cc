// Of one query: scores = scale * sum_d fma(k[d], q[d]) in order of d; exp(score - largest) and their sum in 16 partial
// sums of position mod 16, added pairwise; values fma(p, v, sum) in order of positions. However many queries are
// computed together, each keeps to this.
#include "kernels/cpu/attention.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

#include "kernels/cpu/vector_math.h"
#include "kernels/half.h"

namespace sirocco::cpu::SIROCCO_ISA {
namespace {

constexpr float kNothing = -std::numeric_limits<float>::infinity();
constexpr std::size_t kGroup = 32;  // positions whose scores are computed together

std::size_t padded(std::size_t head_dim) {
  return (head_dim + 15) / 16 * 16;
}

// --- the cache's types: 16 elements as floats, and how a row is stored

struct KvF32 {
  static constexpr std::size_t kBytes = 4;
  static constexpr bool kScales = false;
  SIROCCO_INLINE static Floats16 load(const std::byte* p) { return load_floats(reinterpret_cast<const float*>(p)); }
  static void store(std::byte* p, float x, float) { std::memcpy(p, &x, sizeof x); }
};
struct KvF16 {
  static constexpr std::size_t kBytes = 2;
  static constexpr bool kScales = false;
  SIROCCO_INLINE static Floats16 load(const std::byte* p) { return load_f16(p); }
  static void store(std::byte* p, float x, float) {
    const std::uint16_t half = f32_to_f16(x);
    std::memcpy(p, &half, sizeof half);
  }
};
struct KvQ8 {
  static constexpr std::size_t kBytes = 1;
  static constexpr bool kScales = true;
  SIROCCO_INLINE static Floats16 load(const std::byte* p) {
    return to_floats(widen_bytes(reinterpret_cast<const std::int8_t*>(p)));
  }
  static void store(std::byte* p, float x, float factor) {
    const auto q = static_cast<std::int8_t>(factor == 0 ? 0.0F : std::nearbyint(x * factor));
    std::memcpy(p, &q, sizeof q);
  }
};

template <class Function>
SIROCCO_INLINE auto with_type(TensorType type, Function f) {
  if (type == TensorType::f16) return f(KvF16());
  if (type == TensorType::q8_0) return f(KvQ8());
  return f(KvF32());
}

template <class Type>
std::size_t head_bytes(std::size_t block_tokens, std::size_t head_dim) {
  const std::size_t elements = block_tokens * padded(head_dim);
  return elements * Type::kBytes + (Type::kScales ? elements / 32 * 2 : 0);
}

// Where one head's part of the block of `position` begins.
template <class Type>
std::byte* head_of(std::byte* base, const KvView& kv, std::size_t position, std::size_t kv_head, std::size_t head_dim) {
  return base + kv.table[position / kv.block_tokens] * kv.block_stride +
         kv_head * head_bytes<Type>(kv.block_tokens, head_dim);
}

// The scale of 32 elements, stored at p, and the factor that makes int8 of them: 0 where they are as good as zero, or
// where one is no number, which the scale then is too. Magnitudes are compared by their bits: NaN is above infinity.
float store_scale(std::byte* p, const float* x) {
  std::uint32_t largest = 0;
  for (std::size_t i = 0; i < 32; ++i) largest = std::max(largest, std::bit_cast<std::uint32_t>(x[i]) & 0x7FFFFFFFU);
  const auto magnitude = std::bit_cast<float>(largest);
  KvF16::store(p, magnitude / 127.0F, 0);
  return magnitude > 0x1p-100F && std::isfinite(magnitude) ? 127.0F / magnitude : 0.0F;
}

// One head of one position. Element d goes to first + d * step (in elements).
template <class Type>
void write_head(std::byte* head, std::size_t block_tokens, std::size_t head_dim, const float* x, std::size_t first,
                std::size_t step, std::size_t first_scale, std::size_t scale_step) {
  std::byte* const scales = head + block_tokens * padded(head_dim) * Type::kBytes;
  float factor = 1;
  for (std::size_t d = 0; d < head_dim; ++d) {
    if constexpr (Type::kScales)
      if (d % 32 == 0) factor = store_scale(scales + 2 * (first_scale + d / 32 * scale_step), x + d);
    Type::store(head + (first + d * step) * Type::kBytes, x[d], factor);
  }
}

template <class Type>
void write(const KvView& kv, std::uint32_t position, std::size_t kv_heads, std::size_t head_dim, const float* k,
           const float* v) {
  const std::size_t slot = position % kv.block_tokens;
  for (std::size_t head = 0; head < kv_heads; ++head) {
    write_head<Type>(head_of<Type>(kv.keys, kv, position, head, head_dim), kv.block_tokens, head_dim,
                     k + head * head_dim, slot, kv.block_tokens, slot, kv.block_tokens);
    std::byte* const values = head_of<Type>(kv.values, kv, position, head, head_dim);
    write_head<Type>(values, kv.block_tokens, head_dim, v + head * head_dim, slot * padded(head_dim), 1,
                     slot * (head_dim / 32), 1);
    // Behind the last dimension zeros, which the vectors add up.
    for (std::size_t d = head_dim; d < padded(head_dim); ++d)
      Type::store(values + (slot * padded(head_dim) + d) * Type::kBytes, 0, 0);
  }
}

// --- scores

// q . k of kGroup positions for each query, to scores[query * kAttentionPiece] [kGroup]. keys: the head's part of their
// block, at the slot of the first.
template <class Type, std::size_t Queries>
SIROCCO_INLINE void score_group(const std::byte* head, std::size_t block_tokens, std::size_t slot, std::size_t head_dim,
                                const AttentionQuery* queries, float scale, float* scores) {
  constexpr std::size_t kVectors = kGroup / 16;
  const std::byte* keys = head + slot * Type::kBytes;
  const std::byte* scales = head + (block_tokens * padded(head_dim) * Type::kBytes) + 2 * slot;
  Floats16 sums[Queries][kVectors];
  for (auto& of_query : sums)
    for (Floats16& sum : of_query) sum = zero_floats();
  for (std::size_t first = 0; first < head_dim; first += 32) {
    const std::size_t last = Type::kScales ? first + 32 : head_dim;
    Floats16 part[Queries][kVectors];
    if constexpr (Type::kScales)
      for (auto& of_query : part)
        for (Floats16& sum : of_query) sum = zero_floats();
    auto& into = Type::kScales ? part : sums;
    for (std::size_t d = first; d < last; ++d) {
      for (std::size_t i = 0; i < kVectors; ++i) {
        const Floats16 k = Type::load(keys + (d * block_tokens + 16 * i) * Type::kBytes);
        for (std::size_t query = 0; query < Queries; ++query)
          into[query][i] = fma(k, broadcast(queries[query].q[d]), into[query][i]);
      }
    }
    if constexpr (!Type::kScales) break;
    for (std::size_t i = 0; i < kVectors; ++i) {
      const Floats16 s = load_f16(scales + 2 * (first / 32 * block_tokens + 16 * i));
      for (std::size_t query = 0; query < Queries; ++query) sums[query][i] = fma(part[query][i], s, sums[query][i]);
    }
  }
  for (std::size_t query = 0; query < Queries; ++query)
    for (std::size_t i = 0; i < kVectors; ++i)
      store_floats(scores + query * kAttentionPiece + 16 * i, multiply(sums[query][i], broadcast(scale)));
}

// --- softmax of a piece

struct Range {  // of positions, within the piece
  std::size_t begin = 0;
  std::size_t end = 0;
};

// scores [whole vectors around the range] become exp(score - largest), 0 outside the range; the largest and their sum
// to part[0] and part[1].
void soften(float* scores, Range range, float* part) {
  const std::size_t begin = range.begin / 16 * 16;
  const std::size_t end = (range.end + 15) / 16 * 16;
  std::fill(scores + begin, scores + range.begin, kNothing);
  std::fill(scores + range.end, scores + end, kNothing);
  Floats16 largest = broadcast(kNothing);
  for (std::size_t i = begin; i < end; i += 16) largest = maximum(largest, load_floats(scores + i));
  float lanes[16];
  store_floats(lanes, largest);
  part[0] = *std::max_element(lanes, lanes + 16);
  const Floats16 subtrahend = broadcast(part[0]);
  Floats16 sum = zero_floats();
  for (std::size_t i = begin; i < end; i += 16) {
    const Floats16 share = exponential(subtract(load_floats(scores + i), subtrahend));
    store_floats(scores + i, share);
    sum = add(sum, share);
  }
  part[1] = sum_lanes(sum);
}

// --- values

// sums[query] [head_dim padded] += share * value over positions of the range, kDims dimensions at a time.
template <class Type, std::size_t Queries>
SIROCCO_INLINE void add_values(const KvView& kv, std::size_t kv_head, std::size_t head_dim, std::size_t piece_begin,
                               Range range, const float* shares, float* sums) {
  constexpr std::size_t kVectors = Queries <= 4 ? 4 : 2;  // so that all sums are in registers
  const std::size_t width = padded(head_dim);
  for (std::size_t first = 0; first < width; first += 16 * kVectors) {
    const std::size_t vectors = std::min(kVectors, (width - first) / 16);
    Floats16 acc[Queries][kVectors];
    for (std::size_t query = 0; query < Queries; ++query)
      for (std::size_t i = 0; i < vectors; ++i) acc[query][i] = load_floats(sums + query * width + first + 16 * i);
    for (std::size_t position = range.begin; position < range.end; ++position) {
      const std::byte* head = head_of<Type>(kv.values, kv, piece_begin + position, kv_head, head_dim);
      const std::size_t slot = (piece_begin + position) % kv.block_tokens;
      const std::byte* value = head + (slot * width + first) * Type::kBytes;
      const std::byte* scales =
          head + kv.block_tokens * width * Type::kBytes + 2 * (slot * (head_dim / 32) + first / 32);
      const auto add_vector = [&](std::size_t i) {
        Floats16 v = Type::load(value + 16 * i * Type::kBytes);
        if constexpr (Type::kScales) {
          std::uint16_t half;
          std::memcpy(&half, scales + i / 2 * 2, sizeof half);
          v = multiply(v, broadcast(f16_to_f32(half)));
        }
        for (std::size_t query = 0; query < Queries; ++query)
          acc[query][i] = fma(v, broadcast(shares[query * kAttentionPiece + position]), acc[query][i]);
      };
      if (vectors == kVectors) {
#pragma GCC unroll 4
        for (std::size_t i = 0; i < kVectors; ++i) add_vector(i);
      } else {
        for (std::size_t i = 0; i < vectors; ++i) add_vector(i);
      }
    }
    for (std::size_t query = 0; query < Queries; ++query)
      for (std::size_t i = 0; i < vectors; ++i) store_floats(sums + query * width + first + 16 * i, acc[query][i]);
  }
}

template <class Type, std::size_t Queries>
void attend(const AttentionShape& shape, const KvView& kv, std::size_t kv_head, const AttentionQuery* queries,
            std::uint32_t piece, float* parts, float* scratch) {
  const std::size_t piece_begin = std::size_t{piece} * kAttentionPiece;
  const std::size_t width = padded(shape.head_dim);
  const std::size_t part_floats = attention_part_floats(shape.head_dim);
  float* const scores = scratch;
  float* const sums = scratch + Queries * kAttentionPiece;
  Range ranges[Queries];
  Range any = {.begin = kAttentionPiece, .end = 0};    // what some query sees
  Range every = {.begin = 0, .end = kAttentionPiece};  // what all see
  for (std::size_t query = 0; query < Queries; ++query) {
    const std::size_t first = shape.first_key(queries[query].position);
    const std::size_t end = std::size_t{queries[query].position} + 1;
    Range& range = ranges[query];
    range.begin = std::min<std::size_t>(std::max(first, piece_begin) - piece_begin, kAttentionPiece);
    const std::size_t most = piece_begin + kAttentionPiece;
    range.end = (end < piece_begin ? piece_begin : end < most ? end : most) - piece_begin;
    if (range.begin >= range.end) range = {};
    every = {.begin = std::max(every.begin, range.begin), .end = std::min(every.end, range.end)};
    if (range.begin < range.end) any = {.begin = std::min(any.begin, range.begin), .end = std::max(any.end, range.end)};
  }
  for (std::size_t group = any.begin / kGroup * kGroup; group < any.end; group += kGroup) {
    const std::size_t position = piece_begin + group;
    score_group<Type, Queries>(head_of<Type>(kv.keys, kv, position, kv_head, shape.head_dim), kv.block_tokens,
                               position % kv.block_tokens, shape.head_dim, queries, shape.scale, scores + group);
  }
  std::fill(sums, sums + Queries * width, 0.0F);
  for (std::size_t query = 0; query < Queries; ++query) {
    float* const part = parts + query * part_floats;
    part[0] = kNothing;
    part[1] = 0;
    if (ranges[query].begin < ranges[query].end) soften(scores + query * kAttentionPiece, ranges[query], part);
  }
  // In order of positions: what one query sees before all do, what all see, what one sees after them. Nothing that a
  // query does not see touches its sums: it could be NaN.
  const auto alone = [&](std::size_t query, Range range) {
    add_values<Type, 1>(kv, kv_head, shape.head_dim, piece_begin, range, scores + query * kAttentionPiece,
                        sums + query * width);
  };
  if (every.begin >= every.end) {
    for (std::size_t query = 0; query < Queries; ++query) alone(query, ranges[query]);
  } else {
    for (std::size_t query = 0; query < Queries; ++query) alone(query, {ranges[query].begin, every.begin});
    add_values<Type, Queries>(kv, kv_head, shape.head_dim, piece_begin, every, scores, sums);
    for (std::size_t query = 0; query < Queries; ++query) alone(query, {every.end, ranges[query].end});
  }
  for (std::size_t query = 0; query < Queries; ++query)
    std::copy_n(sums + query * width, shape.head_dim, parts + query * part_floats + 2);
}

template <class Type>
void attend_count(std::size_t count, const AttentionShape& shape, const KvView& kv, std::size_t kv_head,
                  const AttentionQuery* queries, std::uint32_t piece, float* parts, float* scratch) {
  switch (count) {
    case 1:
      return attend<Type, 1>(shape, kv, kv_head, queries, piece, parts, scratch);
    case 2:
      return attend<Type, 2>(shape, kv, kv_head, queries, piece, parts, scratch);
    case 3:
      return attend<Type, 3>(shape, kv, kv_head, queries, piece, parts, scratch);
    case 4:
      return attend<Type, 4>(shape, kv, kv_head, queries, piece, parts, scratch);
    case 5:
      return attend<Type, 5>(shape, kv, kv_head, queries, piece, parts, scratch);
    case 6:
      return attend<Type, 6>(shape, kv, kv_head, queries, piece, parts, scratch);
    case 7:
      return attend<Type, 7>(shape, kv, kv_head, queries, piece, parts, scratch);
    default:
      return attend<Type, 8>(shape, kv, kv_head, queries, piece, parts, scratch);
  }
}

}  // namespace

std::size_t kv_block_bytes(TensorType type, std::size_t block_tokens, std::size_t kv_heads, std::size_t head_dim) {
  return with_type(type, [&]<class Type>(Type) { return kv_heads * head_bytes<Type>(block_tokens, head_dim); });
}

void kv_write(const KvView& kv, std::uint32_t position, std::size_t kv_heads, std::size_t head_dim, const float* k,
              const float* v) {
  with_type(kv.type, [&]<class Type>(Type) { write<Type>(kv, position, kv_heads, head_dim, k, v); });
}

void attend_piece(const AttentionShape& shape, const KvView& kv, std::size_t kv_head, const AttentionQuery* queries,
                  std::size_t count, std::uint32_t piece, float* parts, float* scratch) {
  with_type(kv.type,
            [&]<class Type>(Type) { attend_count<Type>(count, shape, kv, kv_head, queries, piece, parts, scratch); });
}

void fold_piece(const float* part, std::size_t head_dim, float* state) {
  if (part[0] == kNothing) return;  // a piece of no keys
  const float largest = part[0] < state[0] ? state[0] : part[0];
  float shares[16] = {state[0] - largest, part[0] - largest};
  store_floats(shares, exponential(load_floats(shares)));
  const Floats16 old_share = broadcast(shares[0]);
  const Floats16 new_share = broadcast(shares[1]);
  state[0] = largest;
  for (std::size_t i = 1; i < head_dim + 2; i += 16) {
    const std::size_t count = head_dim + 2 - i;
    const Floats16 old_part = multiply(load_some(state + i, count), old_share);
    store_some(state + i, fma(load_some(part + i, count), new_share, old_part), count);
  }
}

}  // namespace sirocco::cpu::SIROCCO_ISA

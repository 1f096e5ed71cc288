// The one arithmetic of attention, as a warp computes it for 16 pairs of (row, head) that read one kv head and 64 keys.
//
// A row's result is the same bits whatever the pairs beside it, however its prompt was cut, whoever computes it: keys
// are taken in splits of kAttentionSplit positions from 0 on; a split begins with nothing and takes tiles of 64 keys in
// ascending order (online softmax, Milakov & Gimelshein 2018); splits are folded in ascending order (fold). What a row
// does not see changes nothing in it, not even the rounding: its shares are 0, and its largest score stays.
//
// Fragments are those of mma.m16n8k16 (PTX ISA): lane 4 g + t has rows g and g + 8. Which key is which column of the
// scores, and which dimension is which step, is chosen so that a lane reads K and V in runs: column 2 t + e of n-tile j
// is key 8 j + 4 e + t, and steps 2 c and 2 c + 1 take dimensions 32 c + 8 t to 32 c + 8 t + 7 from lane t.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/cuda/cu.cuh"
#include "kernels/cuda/kernels.h"
#include "kernels/cuda/kv_layout.cuh"

namespace sirocco::cuda {

inline constexpr unsigned kAllLanes = 0xFFFFFFFF;
inline constexpr unsigned kTilePairs = 16;
inline constexpr unsigned kTileKeys = 64;
inline constexpr unsigned kSplitTiles = kAttentionSplit / kTileKeys;
inline constexpr float kNothing = -INFINITY;  // the largest score of no keys

// --- which rows and which keys

// The keys that a row sees; first > last: none.
struct Sight {
  std::uint32_t first;
  std::uint32_t last;
};

__device__ __forceinline__ Sight sight_of(std::uint32_t window, std::uint32_t position) {
  return {window == 0 || position < window ? 0 : position - window + 1, position};
}

// Consecutive rows of one sequence that a block computes together. Whoever these are, tiles begin at positions that
// are a multiple of their length or where a sequence begins, so that each row finds its tile by itself.
struct RowTile {
  std::uint32_t first = 0;
  std::uint32_t rows = 0;  // 0: no tile begins at this row
  const std::uint32_t* block_table = nullptr;
  Sight sight = {};  // of all of them together
};

// Rows of a tile of kPairs pairs, at most.
template <unsigned kPairs>
__host__ __device__ constexpr std::uint32_t tile_rows(const AttentionArguments& a) {
  const std::uint32_t group = a.heads / a.kv_heads;
  return kPairs > group ? kPairs / group : 1;
}

// Whether row and row + 1 are of one tile of up to `most` rows.
__device__ __forceinline__ bool same_tile(const StepRows& step, std::uint32_t row, std::uint32_t most) {
  return step.sequences[row] == step.sequences[row + 1] && step.positions[row] / most == step.positions[row + 1] / most;
}

__device__ __forceinline__ RowTile tile_of(const AttentionArguments& a, std::uint32_t first, std::uint32_t rows) {
  const std::uint32_t* table =
      a.step.block_tables + static_cast<std::size_t>(a.step.sequences[first]) * a.step.table_stride;
  const Sight sight = {sight_of(a.window, a.step.positions[first]).first, a.step.positions[first + rows - 1]};
  return {first, rows, table, sight};
}

// Pair i of a tile's rows * (heads / kv_heads).
struct Pair {
  std::uint32_t row = 0;
  std::uint32_t head = 0;
  Sight sight = {1, 0};
  bool there = false;
};

__device__ __forceinline__ Pair pair_of(const AttentionArguments& a, const RowTile& tile, std::uint32_t kv_head,
                                        std::uint32_t i) {
  const std::uint32_t group = a.heads / a.kv_heads;
  Pair pair;
  if (i >= tile.rows * group) return pair;
  pair.row = tile.first + i / group;
  pair.head = kv_head * group + i % group;
  pair.sight = sight_of(a.window, a.step.positions[pair.row]);
  pair.there = true;
  return pair;
}

// --- scores

__device__ __forceinline__ std::uint32_t two_halves(float low, float high) {
  const __half2_raw raw = __half2_raw(__floats2half2_rn(low, high));
  return static_cast<std::uint32_t>(raw.x) | static_cast<std::uint32_t>(raw.y) << 16;
}

// Halves of a row of q in shared memory: one row's 16 bytes more than its dimensions.
template <unsigned kDim>
inline constexpr unsigned kQueryStride = kDim + 8;

// q of pairs [first, first + kPairs), times scale / ln 2, so that shares are powers of two; zero where there is none.
// A thread takes eight dimensions at a time.
template <unsigned kDim, unsigned kPairs>
__device__ void load_queries(const AttentionArguments& a, const RowTile& tile, std::uint32_t kv_head,
                             std::uint32_t first, __half* q) {
  const float scale = a.scale * 1.44269504F;
  const std::uint32_t group = a.heads / a.kv_heads;
  for (unsigned i = threadIdx.x; i < kPairs * kDim / 8; i += blockDim.x) {
    const unsigned d = i % (kDim / 8) * 8;
    const unsigned pair = first + i / (kDim / 8);
    float4 x[2] = {};
    if (pair < tile.rows * group && d < a.head_dim) {
      const std::size_t head =
          static_cast<std::size_t>(tile.first + pair / group) * a.heads + kv_head * group + pair % group;
      const auto* from = reinterpret_cast<const float4*>(a.q + head * a.head_dim + d);
      x[0] = from[0];
      x[1] = from[1];
    }
    *reinterpret_cast<uint4*>(q + i / (kDim / 8) * kQueryStride<kDim> + d) =
        make_uint4(two_halves(x[0].x * scale, x[0].y * scale), two_halves(x[0].z * scale, x[0].w * scale),
                   two_halves(x[1].x * scale, x[1].y * scale), two_halves(x[1].z * scale, x[1].w * scale));
  }
}

// s = q k of 16 pairs and 64 keys.
//
//   q     the first pair's row in shared memory
//   load  load(k, key, d): k becomes dimensions d to d + 7 of a key of the tile, zero behind the last
template <unsigned kDim, class Load>
__device__ __forceinline__ void score_tile(const __half* q, std::uint32_t head_dim, Load load, float (&s)[8][4]) {
  const unsigned lane = threadIdx.x % 32;
  const unsigned g = lane / 4;
  const unsigned t = lane % 4;
#pragma unroll
  for (unsigned j = 0; j < 8; ++j)
    for (float& score : s[j]) score = 0;
#pragma unroll
  for (unsigned d = 0; d < kDim; d += 32) {
    if (d >= head_dim) break;
    const uint4 low = *reinterpret_cast<const uint4*>(q + g * kQueryStride<kDim> + d + 8 * t);
    const uint4 high = *reinterpret_cast<const uint4*>(q + (g + 8) * kQueryStride<kDim> + d + 8 * t);
    const std::uint32_t q0[4] = {low.x, high.x, low.y, high.y};
    const std::uint32_t q1[4] = {low.z, high.z, low.w, high.w};
#pragma unroll
    for (unsigned j = 0; j < 8; j += 4) {  // four sums at a time, so that none waits for its own last product
      std::uint32_t k[4][4];
#pragma unroll
      for (unsigned i = 0; i < 4; ++i) load(k[i], 8 * (j + i) + 4 * (g % 2) + g / 2, d + 8 * t);
#pragma unroll
      for (unsigned i = 0; i < 4; ++i) mma_f16(s[j + i], q0, {k[i][0], k[i][1]});
#pragma unroll
      for (unsigned i = 0; i < 4; ++i) mma_f16(s[j + i], q1, {k[i][2], k[i][3]});
    }
  }
}

__device__ __forceinline__ bool sees(const Sight& sight, std::uint32_t key) {
  return key >= sight.first && key <= sight.last;
}

// What a pair does not see becomes kNothing. key: the tile's first; sights: of the lane's rows g and g + 8.
__device__ __forceinline__ void mask_tile(const Sight (&sights)[2], std::uint32_t key, float (&s)[8][4]) {
  const unsigned t = threadIdx.x % 4;
#pragma unroll
  for (unsigned j = 0; j < 8; ++j)
    for (unsigned i = 0; i < 4; ++i)
      if (!sees(sights[i / 2], key + 8 * j + 4 * (i % 2) + t)) s[j][i] = kNothing;
}

// Whether each of the lane's rows sees all of the tile's keys, or none at all.
__device__ __forceinline__ bool nothing_to_mask(const Sight (&sights)[2], std::uint32_t key) {
  bool whole = true;
#pragma unroll
  for (const Sight& sight : sights)
    whole = whole && (sight.first > sight.last || (sees(sight, key) && sees(sight, key + kTileKeys - 1)));
  return whole;
}

// --- softmax

// Of rows g and g + 8.
__device__ __forceinline__ void largest_of_tile(const float (&s)[8][4], float (&largest)[2]) {
#pragma unroll
  for (unsigned h = 0; h < 2; ++h) {
    float m = kNothing;
#pragma unroll
    for (unsigned j = 0; j < 8; ++j) m = fmaxf(m, fmaxf(s[j][2 * h], s[j][2 * h + 1]));
    m = fmaxf(m, __shfl_xor_sync(kAllLanes, m, 1));
    largest[h] = fmaxf(m, __shfl_xor_sync(kAllLanes, m, 2));
  }
}

// What is subtracted from scores: the largest, unless there is none, which would make inf - inf of them.
__device__ __forceinline__ float subtrahend(float largest) {
  return largest == kNothing ? 0.0F : largest;
}

// What sums and outputs of `before` are multiplied with when the largest score becomes `now`.
__device__ __forceinline__ float rescale(float before, float now) {
  return exp2_approx(before - subtrahend(now));
}

// Scores become shares, 2^(score - largest), and `sums` theirs.
__device__ __forceinline__ void soften_tile(const float (&largest)[2], float (&s)[8][4], float (&sums)[2]) {
#pragma unroll
  for (unsigned h = 0; h < 2; ++h) {
    const float m = subtrahend(largest[h]);
    float sum = 0;
#pragma unroll
    for (unsigned j = 0; j < 8; ++j) {
      s[j][2 * h] = exp2_approx(s[j][2 * h] - m);
      s[j][2 * h + 1] = exp2_approx(s[j][2 * h + 1] - m);
      sum += s[j][2 * h] + s[j][2 * h + 1];
    }
    sum += __shfl_xor_sync(kAllLanes, sum, 1);
    sums[h] = sum + __shfl_xor_sync(kAllLanes, sum, 2);
  }
}

// The shares of keys 16 step to 16 step + 15 as the A operand.
__device__ __forceinline__ void shares_of_step(const float (&s)[8][4], unsigned step, std::uint32_t (&p)[4]) {
  p[0] = two_halves(s[2 * step][0], s[2 * step][1]);
  p[1] = two_halves(s[2 * step][2], s[2 * step][3]);
  p[2] = two_halves(s[2 * step + 1][0], s[2 * step + 1][1]);
  p[3] = two_halves(s[2 * step + 1][2], s[2 * step + 1][3]);
}

// --- values: B operands of 16 keys, n-tile by n-tile. A lane has keys t and 4 + t in the first word, 8 + t and 12 + t
// in the second.

// o += p v
template <unsigned kColumnTiles>
__device__ __forceinline__ void add_values(const std::uint32_t (&p)[4], const std::uint32_t (&v)[kColumnTiles][2],
                                           float (&o)[kColumnTiles][4]) {
#pragma unroll
  for (unsigned i = 0; i < kColumnTiles; ++i) mma_f16(o[i], p, v[i]);
}

// Before add_values where some pair does not see some of the 16 keys from `key` on: a value that is no finite number
// would reach it, as 0 * inf is NaN. It is taken out, and who sees it gets NaN.
template <unsigned kColumnTiles>
__device__ void take_out_non_finite(const Sight (&sights)[2], std::uint32_t key, std::uint32_t (&v)[kColumnTiles][2],
                                    float (&o)[kColumnTiles][4]) {
  bool found[4] = {};  // of key 4 r + t
#pragma unroll
  for (unsigned i = 0; i < kColumnTiles; ++i) {
#pragma unroll
    for (unsigned word = 0; word < 2; ++word) {
      const bool low = (v[i][word] & 0x7C00U) == 0x7C00U;
      const bool high = (v[i][word] & 0x7C000000U) == 0x7C000000U;
      found[2 * word] = found[2 * word] || low;
      found[2 * word + 1] = found[2 * word + 1] || high;
      v[i][word] &= (low ? 0xFFFF0000U : 0xFFFFFFFFU) & (high ? 0x0000FFFFU : 0xFFFFFFFFU);
    }
  }
  if (__any_sync(kAllLanes, found[0] || found[1] || found[2] || found[3] ? 1 : 0) == 0) return;
#pragma unroll
  for (unsigned k = 0; k < 16; ++k) {
    const std::uint32_t lanes = __ballot_sync(kAllLanes, found[k / 4] ? 1 : 0);
    if ((lanes & 0x11111111U << k % 4) == 0) continue;
#pragma unroll
    for (unsigned i = 0; i < kColumnTiles; ++i)
      for (unsigned j = 0; j < 4; ++j)
        if (sees(sights[j / 2], key + k)) o[i][j] = NAN;
  }
}

// --- folding

// The result of some keys for one pair: the largest score, the sum of shares, and the values weighted by them.
struct PartSums {
  float largest = kNothing;
  float sum = 0;
};

// What both sides' outputs are multiplied with when `part` is folded into `state`: o = fma(o, before, part's * added).
// A part of no keys must not be folded; a sum of NaN is one of keys.
struct FoldFactors {
  float before;
  float added;
};
__device__ __forceinline__ FoldFactors fold(const PartSums& part, PartSums& state) {
  const float largest = fmaxf(state.largest, part.largest);
  const FoldFactors factors = {rescale(state.largest, largest), rescale(part.largest, largest)};
  state.largest = largest;
  state.sum = fmaf(state.sum, factors.before, part.sum * factors.added);
  return factors;
}

// --- parts: [rows, heads, splits, head_dim] outputs, behind them as many PartSums, behind them a list of tiles

struct Parts {
  float* outputs;
  PartSums* sums;
  std::uint32_t* tiles;  // [1 + rows]: how many, and the first row of each (attend_walk)
};

__host__ __device__ __forceinline__ Parts parts_of(const AttentionArguments& a) {
  const std::size_t parts = static_cast<std::size_t>(a.rows) * a.heads * a.splits;
  auto* const sums = reinterpret_cast<PartSums*>(a.parts + parts * a.head_dim);
  return {a.parts, sums, reinterpret_cast<std::uint32_t*>(sums + parts)};
}

__device__ __forceinline__ std::size_t part_index(const AttentionArguments& a, std::uint32_t row, std::uint32_t head,
                                                  std::uint32_t slot) {
  return (static_cast<std::size_t>(row) * a.heads + head) * a.splits + slot;
}

// --- q8_0

// Eight int8 as halves: values as the cache means them, rounded to f16.
__device__ __forceinline__ void widen(uint2 q, __half scale, std::uint32_t (&halves)[4]) {
  const std::uint32_t words[2] = {q.x ^ 0x80808080U, q.y ^ 0x80808080U};  // q + 128
  const __half2 scales = __half2half2(scale);
  const __half2 offset = __floats2half2_rn(1152.0F, 1152.0F);  // of 0x6400 + n, which is 1024 + n
#pragma unroll
  for (unsigned i = 0; i < 4; ++i) {
    const std::uint32_t bits = __byte_perm(words[i / 2], 0x64646464U, i % 2 == 0 ? 0x4140 : 0x4342);
    const __half2 raised = __halves2half2(__ushort_as_half(static_cast<unsigned short>(bits)),
                                          __ushort_as_half(static_cast<unsigned short>(bits >> 16)));
    const __half2_raw raw = __half2_raw(__hmul2(__hsub2(raised, offset), scales));
    halves[i] = static_cast<std::uint32_t>(raw.x) | static_cast<std::uint32_t>(raw.y) << 16;
  }
}

}  // namespace sirocco::cuda

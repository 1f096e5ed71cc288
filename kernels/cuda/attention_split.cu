// Attention of few rows: a block is a tile of 16 pairs of (row, head), a kv head, and a split of the keys. Bound by
// memory: each of the four warps scores the 64 keys of one tile, and then adds up a quarter of the dimensions over all
// 256, so that the outputs are summed in order of the keys. K and V go from global memory to fragments at once.
#include "kernels/cuda/attention.cuh"
#include "kernels/cuda/attention_tile.cuh"

namespace sirocco::cuda {
namespace {

constexpr unsigned kWarps = kSplitTiles;
constexpr unsigned kThreads = 32 * kWarps;

template <unsigned kDim>
struct Shared {
  __half q[kTilePairs * kQueryStride<kDim>];
  KvPlace places[kAttentionSplit];         // of the split's keys
  uint4 shares[kAttentionSplit / 16][32];  // A operands, by step
  float largest[kSplitTiles][kTilePairs];  // of a tile's scores; kNothing where it is not seen
  float sums[kSplitTiles][kTilePairs];
};

// kCount (2, 4 or 8) elements of a key or value as halves, from dimension d on; zero behind the last.
template <unsigned kCount, bool kQ8>
__device__ __forceinline__ void load_run(const std::byte* cache, const KvPlace& place, unsigned d, unsigned head_dim,
                                         std::uint32_t (&halves)[kCount / 2]) {
  if (d >= head_dim) {
#pragma unroll
    for (std::uint32_t& two : halves) two = 0;
    return;
  }
  if constexpr (kQ8) {
    const std::byte* p = cache + place.values + d;
    uint2 q = make_uint2(0, 0);
    if constexpr (kCount == 8) q = *reinterpret_cast<const uint2*>(p);
    if constexpr (kCount == 4) q.x = *reinterpret_cast<const std::uint32_t*>(p);
    if constexpr (kCount == 2) q.x = *reinterpret_cast<const std::uint16_t*>(p);
    std::uint32_t wide[4];
    widen(q, reinterpret_cast<const __half*>(cache + place.scales)[d / kScaleElements], wide);
#pragma unroll
    for (unsigned i = 0; i < kCount / 2; ++i) halves[i] = wide[i];
  } else {
    const std::byte* p = cache + place.values + d * sizeof(__half);
    if constexpr (kCount == 8) {
      const uint4 all = *reinterpret_cast<const uint4*>(p);
      halves[0] = all.x, halves[1] = all.y, halves[2] = all.z, halves[3] = all.w;
    }
    if constexpr (kCount == 4) {
      const uint2 all = *reinterpret_cast<const uint2*>(p);
      halves[0] = all.x, halves[1] = all.y;
    }
    if constexpr (kCount == 2) halves[0] = *reinterpret_cast<const std::uint32_t*>(p);
  }
}

// The tile that begins at `row`, if one does.
__device__ RowTile row_tile(const AttentionArguments& a, std::uint32_t row) {
  const std::uint32_t most = tile_rows<kTilePairs>(a);
  if (row > 0 && same_tile(a.step, row - 1, most)) return {};
  std::uint32_t rows = 1;
  while (rows < most && row + rows < a.rows && same_tile(a.step, row + rows - 1, most)) ++rows;
  return tile_of(a, row, rows);
}

// Tile i of the split that begins at `begin`: whether some row sees a key of it.
__device__ __forceinline__ bool tile_is_seen(const RowTile& tile, std::uint32_t begin, unsigned i) {
  const std::uint32_t key = begin + i * kTileKeys;
  return key <= tile.sight.last && key + kTileKeys > tile.sight.first;
}

// The largest scores of tiles 0 to `last` of the split, of one pair.
template <unsigned kDim>
__device__ float largest_until(const Shared<kDim>& shared, unsigned last, unsigned pair) {
  float largest = kNothing;
  for (unsigned tile = 0; tile <= last; ++tile) largest = fmaxf(largest, shared.largest[tile][pair]);
  return largest;
}

// The warp's tile of keys: scores, their largest, and (after a barrier) shares.
template <unsigned kDim, bool kQ8>
__device__ void score_and_soften(const AttentionArguments& a, const Sight (&sights)[2], bool seen, std::uint32_t begin,
                                 Shared<kDim>& shared) {
  const unsigned lane = threadIdx.x % 32;
  const unsigned warp = threadIdx.x / 32;
  const unsigned g = lane / 4;
  float s[8][4];
  float largest[2] = {kNothing, kNothing};
  if (seen) {
    const KvPlace* places = shared.places + warp * kTileKeys;
    score_tile<kDim>(
        shared.q, a.head_dim,
        [&](std::uint32_t(&k)[4], unsigned key, unsigned d) {
          load_run<8, kQ8>(a.kv.keys, places[key], d, a.head_dim, k);
        },
        s);
    mask_tile(sights, begin + warp * kTileKeys, s);
    largest_of_tile(s, largest);
  }
  if (lane % 4 == 0) {
    shared.largest[warp][g] = largest[0];
    shared.largest[warp][g + 8] = largest[1];
  }
  __syncthreads();
  if (seen) {
    const float until_here[2] = {largest_until(shared, warp, g), largest_until(shared, warp, g + 8)};
    float sums[2];
    soften_tile(until_here, s, sums);
    for (unsigned step = 0; step < 4; ++step) {
      std::uint32_t p[4];
      shares_of_step(s, step, p);
      shared.shares[4 * warp + step][lane] = make_uint4(p[0], p[1], p[2], p[3]);
    }
    if (lane % 4 == 0) {
      shared.sums[warp][g] = sums[0];
      shared.sums[warp][g + 8] = sums[1];
    }
  }
  __syncthreads();
}

// A tile's values of the warp's quarter of the dimensions, as they are loaded: by step, runs of keys 4 r + t.
template <unsigned kDim>
struct ValueRuns {
  static constexpr unsigned kRun = kDim / 8 / kWarps;
  std::uint32_t v[4][4][kRun / 2];

  // first: the lane's first dimension.
  template <bool kQ8>
  __device__ __forceinline__ void load(const AttentionArguments& a, const KvPlace* places, unsigned first) {
#pragma unroll
    for (unsigned step = 0; step < 4; ++step)
#pragma unroll
      for (unsigned r = 0; r < 4; ++r)
        load_run<kRun, kQ8>(a.kv.values, places[16 * step + 4 * r + threadIdx.x % 4], first, a.head_dim, v[step][r]);
  }

  // Column g of n-tile i is the i-th dimension of lane 4 g's run.
  __device__ __forceinline__ void fragments(unsigned step, std::uint32_t (&b)[kRun][2]) const {
#pragma unroll
    for (unsigned i = 0; i < kRun; ++i) {
      const unsigned half = i % 2 == 0 ? 0x5410 : 0x7632;
      b[i][0] = __byte_perm(v[step][0][i / 2], v[step][1][i / 2], half);
      b[i][1] = __byte_perm(v[step][2][i / 2], v[step][3][i / 2], half);
    }
  }
};

// o = the shares' sums of values of the warp's dimensions, part[h] = the largest score and the sum of row g + 8 h.
template <unsigned kDim, bool kQ8>
__device__ void add_split(const AttentionArguments& a, const Sight (&sights)[2], const RowTile& tile,
                          std::uint32_t begin, const Shared<kDim>& shared, ValueRuns<kDim>& next,
                          float (&o)[kDim / 32][4], PartSums (&part)[2]) {
  const unsigned lane = threadIdx.x % 32;
  const unsigned first = threadIdx.x / 32 * (kDim / kWarps) + ValueRuns<kDim>::kRun * (lane / 4);
#pragma unroll
  for (unsigned i = 0; i < kSplitTiles; ++i) {
    const ValueRuns<kDim> now = next;
    if (i + 1 < kSplitTiles && tile_is_seen(tile, begin, i + 1))
      next.template load<kQ8>(a, shared.places + (i + 1) * kTileKeys, first);
    if (!tile_is_seen(tile, begin, i)) continue;
#pragma unroll
    for (unsigned h = 0; h < 2; ++h) {
      const float largest = fmaxf(part[h].largest, shared.largest[i][lane / 4 + 8 * h]);
      const float factor = rescale(part[h].largest, largest);
      part[h].largest = largest;
      part[h].sum = fmaf(part[h].sum, factor, shared.sums[i][lane / 4 + 8 * h]);
#pragma unroll
      for (float(&column)[4] : o) {
        column[2 * h] *= factor;
        column[2 * h + 1] *= factor;
      }
    }
    const std::uint32_t key = begin + i * kTileKeys;
    const bool masked = __any_sync(kAllLanes, nothing_to_mask(sights, key) ? 0 : 1) != 0;
#pragma unroll
    for (unsigned step = 0; step < 4; ++step) {
      std::uint32_t v[ValueRuns<kDim>::kRun][2];
      now.fragments(step, v);
      if (masked) take_out_non_finite(sights, key + 16 * step, v, o);
      const uint4 shares = shared.shares[4 * i + step][lane];
      add_values({shares.x, shares.y, shares.z, shares.w}, v, o);
    }
  }
}

// The lane's outputs of row g + 8 h: two runs.
template <unsigned kDim>
__device__ __forceinline__ void write_outputs(const float (&o)[kDim / 32][4], unsigned h, unsigned head_dim,
                                              float* output) {
  constexpr unsigned kRun = ValueRuns<kDim>::kRun;
  const unsigned first = threadIdx.x / 32 * (kDim / kWarps) + 2 * kRun * (threadIdx.x % 4);
#pragma unroll
  for (unsigned e = 0; e < 2; ++e) {
#pragma unroll
    for (unsigned i = 0; i < kRun; i += 2) {
      const unsigned d = first + e * kRun + i;
      if (d < head_dim) *reinterpret_cast<float2*>(output + d) = make_float2(o[i][2 * h + e], o[i + 1][2 * h + e]);
    }
  }
}

// Block (split, kv head, row and part of its pairs); splits are counted from the first that the tile sees.
template <unsigned kDim, bool kQ8>
__global__ void __launch_bounds__(kThreads) split_kernel(AttentionArguments a, std::uint32_t tiles_of_row) {
  CU_SHARED(Shared<kDim>, shared, );
  launch_dependents();
  wait_for_previous();
  const RowTile tile = row_tile(a, blockIdx.z / tiles_of_row);
  const std::uint32_t split = tile.sight.first / kAttentionSplit + blockIdx.x;
  const std::uint32_t begin = split * kAttentionSplit;
  if (tile.rows == 0 || begin > tile.sight.last) return;

  const unsigned warp = threadIdx.x / 32;
  const unsigned g = threadIdx.x % 32 / 4;
  const unsigned t = threadIdx.x % 4;
  const std::uint32_t kv_head = blockIdx.y;
  const std::uint32_t first_pair = blockIdx.z % tiles_of_row * kTilePairs;
  // A key that no row sees is read as one that is seen, and masked: what lies there may be anything.
  for (unsigned i = threadIdx.x; i < kAttentionSplit; i += kThreads) {
    const std::uint32_t key = min(max(begin + i, tile.sight.first), tile.sight.last);
    const KvPlace place = kv_place(a.kv, tile.block_table, key, kv_head, a.head_dim);
    shared.places[i] = place;
    // Values are wanted last, but should not wait for memory then.
    const unsigned bytes = a.head_dim * (kQ8 ? 1U : 2U);
    for (unsigned line = 0; line < bytes; line += 128) prefetch_l2(a.kv.values + place.values + line);
  }
  load_queries<kDim, kTilePairs>(a, tile, kv_head, first_pair, shared.q);
  __syncthreads();

  const Pair pairs[2] = {pair_of(a, tile, kv_head, first_pair + g), pair_of(a, tile, kv_head, first_pair + g + 8)};
  const Sight sights[2] = {pairs[0].sight, pairs[1].sight};
  ValueRuns<kDim> values;  // of the first tile: on their way while scores are computed
  values.template load<kQ8>(a, shared.places, warp * (kDim / kWarps) + ValueRuns<kDim>::kRun * g);
  score_and_soften<kDim, kQ8>(a, sights, tile_is_seen(tile, begin, warp), begin, shared);

  float o[kDim / 32][4] = {};
  PartSums part[2];
  add_split<kDim, kQ8>(a, sights, tile, begin, shared, values, o, part);
  const Parts parts = parts_of(a);
  for (unsigned h = 0; h < 2; ++h) {
    const Pair& pair = pairs[h];
    if (!pair.there || pair.sight.last < begin || pair.sight.first >= begin + kAttentionSplit) continue;
    const std::size_t index = part_index(a, pair.row, pair.head, split - pair.sight.first / kAttentionSplit);
    write_outputs<kDim>(o, h, a.head_dim, parts.outputs + index * a.head_dim);
    if (warp == 0 && t == 0) parts.sums[index] = part[h];
  }
}

}  // namespace

cudaError_t attend_splits(const AttentionArguments& arguments, cudaStream_t stream) {
  const AttentionArguments& a = arguments;
  const std::uint32_t group = a.heads / a.kv_heads;
  const std::uint32_t tiles_of_row = group <= kTilePairs ? 1 : (group + kTilePairs - 1) / kTilePairs;
  // Where windows end at different keys, a tile of several rows may see one split more than each of them.
  const std::uint32_t splits = a.splits + (a.window != 0 && tile_rows<kTilePairs>(a) > 1 ? 1 : 0);
  const Dims dims{.grid = dim3(splits, a.kv_heads, a.rows * tiles_of_row), .block = dim3(kThreads), .overlap = true};
  return with_kernel(a, [&]<unsigned kDim, bool kQ8>() {
    return launch(dims, stream, split_kernel<kDim, kQ8>, arguments, tiles_of_row);
  });
}

}  // namespace sirocco::cuda

// Attention of many rows: a block of four warps is a tile of 64 pairs of (row, head) and a kv head, and walks over all
// keys that its rows see, 64 at a time. K and V of the tile lie in shared memory as f16; while one is computed with,
// the other is on its way (FlashAttention-2, Dao 2023).
#include "kernels/cuda/attention.cuh"
#include "kernels/cuda/attention_tile.cuh"

namespace sirocco::cuda {
namespace {

constexpr unsigned kWarps = 4;
constexpr unsigned kThreads = 32 * kWarps;
constexpr unsigned kPairs = kWarps * kTilePairs;

// Rows are padded so that the lanes that are served together find different banks: those of keys 4 apart in K, and of
// four keys in a run in V.
template <unsigned kDim>
struct Shared {
  static constexpr unsigned kKeyStride = kDim + 8;  // halves
  static constexpr unsigned kValueStride = kDim + 16;
  __half q[kPairs * kQueryStride<kDim>];
  __half keys[kTileKeys * kKeyStride];
  __half values[kTileKeys * kValueStride];
  KvPlace places[2][kTileKeys];  // of this tile's keys and of the next one's
};

// Brings the keys or the values of a tile to shared memory: begin() before something else is computed, end() after it.
// What end() brought others see behind a barrier.
template <unsigned kDim, bool kQ8>
struct TileCopy;

template <unsigned kDim>
struct TileCopy<kDim, false> {
  __device__ void begin(const std::byte* cache, const KvPlace* places, unsigned head_dim, __half* to, unsigned stride) {
    for (unsigned i = threadIdx.x; i < kTileKeys * kDim / 8; i += kThreads) {
      const unsigned key = i / (kDim / 8);
      const unsigned d = i % (kDim / 8) * 8;
      if (d < head_dim) cp_async16(to + key * stride + d, cache + places[key].values + d * sizeof(__half));
    }
    cp_async_commit();
  }
  __device__ void end(unsigned, __half*, unsigned) { cp_async_wait<0>(); }
};

template <unsigned kDim>
struct TileCopy<kDim, true> {
  static constexpr unsigned kRuns = kTileKeys * kDim / 16 / kThreads;  // of 16 elements
  uint4 q[kRuns];
  __half scales[kRuns];

  __device__ void begin(const std::byte* cache, const KvPlace* places, unsigned head_dim, __half*, unsigned) {
#pragma unroll
    for (unsigned i = 0; i < kRuns; ++i) {
      const unsigned key = (threadIdx.x + i * kThreads) / (kDim / 16);
      const unsigned d = (threadIdx.x + i * kThreads) % (kDim / 16) * 16;
      if (d >= head_dim) continue;
      q[i] = *reinterpret_cast<const uint4*>(cache + places[key].values + d);
      scales[i] = reinterpret_cast<const __half*>(cache + places[key].scales)[d / kScaleElements];
    }
  }
  __device__ void end(unsigned head_dim, __half* to, unsigned stride) {
#pragma unroll
    for (unsigned i = 0; i < kRuns; ++i) {
      const unsigned key = (threadIdx.x + i * kThreads) / (kDim / 16);
      const unsigned d = (threadIdx.x + i * kThreads) % (kDim / 16) * 16;
      if (d >= head_dim) continue;
      std::uint32_t low[4];
      std::uint32_t high[4];
      widen(make_uint2(q[i].x, q[i].y), scales[i], low);
      widen(make_uint2(q[i].z, q[i].w), scales[i], high);
      auto* run = reinterpret_cast<uint4*>(to + key * stride + d);
      run[0] = make_uint4(low[0], low[1], low[2], low[3]);
      run[1] = make_uint4(high[0], high[1], high[2], high[3]);
    }
  }
};

// One warp's 16 pairs: what it has of the split so far, and of the splits before.
template <unsigned kDim>
struct WarpState {
  static constexpr unsigned kChunks = kDim / 64;
  float o[kChunks][8][4] = {};
  float folded[kChunks][8][4] = {};
  PartSums part[2];
  PartSums state[2];
};

template <unsigned kDim>
__device__ __forceinline__ void fold_split(WarpState<kDim>& w) {
#pragma unroll
  for (unsigned h = 0; h < 2; ++h) {
    if (w.part[h].sum != 0) {  // or NaN
      const FoldFactors factors = fold(w.part[h], w.state[h]);
#pragma unroll
      for (unsigned c = 0; c < WarpState<kDim>::kChunks; ++c)
#pragma unroll
        for (unsigned i = 0; i < 8; ++i)
#pragma unroll
          for (unsigned e = 2 * h; e < 2 * h + 2; ++e)
            w.folded[c][i][e] = fmaf(w.folded[c][i][e], factors.before, w.o[c][i][e] * factors.added);
    }
    w.part[h] = PartSums();
#pragma unroll
    for (unsigned c = 0; c < WarpState<kDim>::kChunks; ++c)
#pragma unroll
      for (unsigned i = 0; i < 8; ++i) w.o[c][i][2 * h] = w.o[c][i][2 * h + 1] = 0;
  }
}

// Scores to shares; what the warp has so far is rescaled to the new largest score.
template <unsigned kDim>
__device__ __forceinline__ void soften(WarpState<kDim>& w, float (&s)[8][4]) {
  float largest[2];
  float factors[2];
  largest_of_tile(s, largest);
#pragma unroll
  for (unsigned h = 0; h < 2; ++h) {
    largest[h] = fmaxf(w.part[h].largest, largest[h]);
    const float factor = rescale(w.part[h].largest, largest[h]);
    factors[h] = factor;
    w.part[h].largest = largest[h];
#pragma unroll
    for (unsigned c = 0; c < WarpState<kDim>::kChunks; ++c)
#pragma unroll
      for (unsigned i = 0; i < 8; ++i) {
        w.o[c][i][2 * h] *= factor;
        w.o[c][i][2 * h + 1] *= factor;
      }
  }
  float sums[2];
  soften_tile(largest, s, sums);
#pragma unroll
  for (unsigned h = 0; h < 2; ++h) w.part[h].sum = fmaf(w.part[h].sum, factors[h], sums[h]);
}

// Adds the tile's values, which lie in shared memory.
template <unsigned kDim>
__device__ __forceinline__ void add_tile(WarpState<kDim>& w, const float (&s)[8][4], const __half* values,
                                         const Sight (&sights)[2], std::uint32_t key, bool masked) {
  constexpr unsigned kStride = Shared<kDim>::kValueStride;
  const unsigned g = threadIdx.x % 32 / 4;
  const unsigned t = threadIdx.x % 4;
#pragma unroll
  for (unsigned step = 0; step < 4; ++step) {
    std::uint32_t p[4];
    shares_of_step(s, step, p);
#pragma unroll
    for (unsigned c = 0; c < WarpState<kDim>::kChunks; ++c) {
      std::uint32_t v[4][4];
#pragma unroll
      for (unsigned r = 0; r < 4; ++r) {
        const uint4 run = *reinterpret_cast<const uint4*>(values + (16 * step + 4 * r + t) * kStride + 64 * c + 8 * g);
        v[r][0] = run.x, v[r][1] = run.y, v[r][2] = run.z, v[r][3] = run.w;
      }
      if (masked) take_out_non_finite<8>(sights, key + 16 * step, v, w.o[c]);
      add_values<8>(p, v, w.o[c]);
    }
  }
}

// Zeroes what stands behind head_dim in K and V: no copy touches it.
template <unsigned kDim>
__device__ void clear_padding(Shared<kDim>& shared, unsigned head_dim) {
  const unsigned width = kDim - head_dim;
  for (unsigned i = threadIdx.x; i < kTileKeys * width; i += kThreads) {
    shared.keys[i / width * Shared<kDim>::kKeyStride + head_dim + i % width] = __float2half_rn(0);
    shared.values[i / width * Shared<kDim>::kValueStride + head_dim + i % width] = __float2half_rn(0);
  }
}

// A key that no row sees is read as one that is seen, and masked: what lies there may be anything.
__device__ __forceinline__ void find_places(const AttentionArguments& a, const RowTile& tile, std::uint32_t kv_head,
                                            std::uint32_t begin, KvPlace* places) {
  if (threadIdx.x >= kTileKeys) return;
  const std::uint32_t key = min(max(begin + threadIdx.x, tile.sight.first), tile.sight.last);
  places[threadIdx.x] = kv_place(a.kv, tile.block_table, key, kv_head, a.head_dim);
}

template <unsigned kDim, bool kQ8>
__device__ void walk(const AttentionArguments& a, const RowTile& tile, std::uint32_t kv_head, const Sight (&sights)[2],
                     Shared<kDim>& shared, WarpState<kDim>& w) {
  using S = Shared<kDim>;
  TileCopy<kDim, kQ8> copy;
  std::uint32_t key = tile.sight.first / kTileKeys * kTileKeys;
  const __half* q = shared.q + threadIdx.x / 32 * kTilePairs * kQueryStride<kDim>;
  find_places(a, tile, kv_head, key, shared.places[0]);
  __syncthreads();
  copy.begin(a.kv.keys, shared.places[0], a.head_dim, shared.keys, S::kKeyStride);
  copy.end(a.head_dim, shared.keys, S::kKeyStride);
  __syncthreads();
  for (unsigned now = 0; key <= tile.sight.last; key += kTileKeys, now ^= 1) {
    const bool more = key + kTileKeys <= tile.sight.last;
    copy.begin(a.kv.values, shared.places[now], a.head_dim, shared.values, S::kValueStride);
    if (more) find_places(a, tile, kv_head, key + kTileKeys, shared.places[now ^ 1]);

    // A tile that none of the warp's pairs sees is passed over.
    const bool mine = sights[0].first <= sights[0].last && key <= sights[0].last && key + kTileKeys > sights[0].first;
    const bool other = sights[1].first <= sights[1].last && key <= sights[1].last && key + kTileKeys > sights[1].first;
    const bool seen = __any_sync(kAllLanes, mine || other ? 1 : 0) != 0;
    const bool masked = __any_sync(kAllLanes, nothing_to_mask(sights, key) ? 0 : 1) != 0;
    float s[8][4];
    if (seen) {
      score_tile<kDim>(
          q, a.head_dim,
          [&](std::uint32_t(&k)[4], unsigned of, unsigned d) {
            const uint4 run = *reinterpret_cast<const uint4*>(shared.keys + of * S::kKeyStride + d);
            k[0] = run.x, k[1] = run.y, k[2] = run.z, k[3] = run.w;
          },
          s);
      if (masked) mask_tile(sights, key, s);
      soften(w, s);
    }
    copy.end(a.head_dim, shared.values, S::kValueStride);
    __syncthreads();
    if (more) copy.begin(a.kv.keys, shared.places[now ^ 1], a.head_dim, shared.keys, S::kKeyStride);
    if (seen) add_tile<kDim>(w, s, shared.values, sights, key, masked);
    if (!more || (key + kTileKeys) % kAttentionSplit == 0) fold_split(w);
    if (more) copy.end(a.head_dim, shared.keys, S::kKeyStride);
    __syncthreads();
  }
}

// Block (kv head, row and part of its pairs), the rows from the last one on: those have the most keys.
template <unsigned kDim, bool kQ8>
__global__ void __launch_bounds__(kThreads) walk_kernel(AttentionArguments a, std::uint32_t tiles_of_row) {
  CU_DYN_SHARED(Shared<kDim>, shared);
  launch_dependents();
  wait_for_previous();
  const std::uint32_t index = gridDim.y - 1 - blockIdx.y;
  const RowTile tile = row_tile<kPairs>(a, index / tiles_of_row);
  if (tile.rows == 0) return;

  const std::uint32_t kv_head = blockIdx.x;
  const std::uint32_t first_pair = index % tiles_of_row * kPairs;
  load_queries<kDim, kPairs>(a, tile, kv_head, first_pair, shared->q);
  clear_padding(*shared, a.head_dim);

  const unsigned t = threadIdx.x % 4;
  const std::uint32_t own = first_pair + threadIdx.x / 32 * kTilePairs + threadIdx.x % 32 / 4;
  const Pair pairs[2] = {pair_of(a, tile, kv_head, own), pair_of(a, tile, kv_head, own + 8)};
  const Sight sights[2] = {pairs[0].sight, pairs[1].sight};
  WarpState<kDim> w;
  walk<kDim, kQ8>(a, tile, kv_head, sights, *shared, w);
  const Parts parts = parts_of(a);
  for (unsigned h = 0; h < 2; ++h) {
    if (!pairs[h].there) continue;
    const std::size_t part = part_index(a, pairs[h].row, pairs[h].head, 0);
#pragma unroll
    for (unsigned c = 0; c < WarpState<kDim>::kChunks; ++c)
      write_outputs<8>(w.folded[c], h, 64 * c + 16 * t, a.head_dim, parts.outputs + part * a.head_dim);
    if (t == 0) parts.sums[part] = w.state[h];
  }
}

}  // namespace

cudaError_t attend_walk(const AttentionArguments& arguments, cudaStream_t stream) {
  const AttentionArguments& a = arguments;
  const std::uint32_t group = a.heads / a.kv_heads;
  const std::uint32_t tiles_of_row = group <= kPairs ? 1 : (group + kPairs - 1) / kPairs;
  return with_kernel(a, [&]<unsigned kDim, bool kQ8>() {
    const Dims dims{.grid = dim3(a.kv_heads, a.rows * tiles_of_row),
                    .block = dim3(kThreads),
                    .smem = sizeof(Shared<kDim>),
                    .overlap = true};
    const auto kernel = walk_kernel<kDim, kQ8>;
    const cudaError_t error =
        cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel), cudaFuncAttributeMaxDynamicSharedMemorySize,
                             static_cast<int>(dims.smem));
    return error != cudaSuccess ? error : launch(dims, stream, kernel, arguments, tiles_of_row);
  });
}

}  // namespace sirocco::cuda

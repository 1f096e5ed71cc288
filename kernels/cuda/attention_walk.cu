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
constexpr unsigned kListThreads = 256;
constexpr unsigned kMoreTiles = 64;  // that have blocks of their own beyond those of one long prompt

// Rows are padded so that lanes that are served together find different banks.
template <unsigned kDim>
struct Shared {
  static constexpr unsigned kStride = kDim + 8;  // halves
  __half q[kPairs * kQueryStride<kDim>];
  __half keys[kTileKeys * kStride];
  __half values[kTileKeys * kStride];
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
  // The lane's row of the four 8 x 8 matrices that it loads at once: keys 0 to 7, 8 to 15, and again, of the next 8
  // dimensions. Row 2 t + e is key 4 e + t.
  const unsigned lane = threadIdx.x % 32;
  const unsigned row = lane / 8 % 2 * 8 + lane % 2 * 4 + lane % 8 / 2;
  const __half* from = values + row * Shared<kDim>::kStride + lane / 16 * 8;
#pragma unroll
  for (unsigned step = 0; step < 4; ++step) {
    std::uint32_t p[4];
    shares_of_step(s, step, p);
#pragma unroll
    for (unsigned c = 0; c < WarpState<kDim>::kChunks; ++c) {
      std::uint32_t v[8][2];
#pragma unroll
      for (unsigned i = 0; i < 8; i += 2) {
        std::uint32_t two[4];
        ldmatrix_x4_trans(two, from + 16 * step * Shared<kDim>::kStride + 64 * c + 8 * i);
        v[i][0] = two[0], v[i][1] = two[1], v[i + 1][0] = two[2], v[i + 1][1] = two[3];
      }
      if (masked) take_out_non_finite(sights, key + 16 * step, v, w.o[c]);
      add_values(p, v, w.o[c]);
    }
  }
}

// The lane's outputs of row g + 8 h.
template <unsigned kDim>
__device__ __forceinline__ void write_outputs(const WarpState<kDim>& w, unsigned h, unsigned head_dim, float* output) {
#pragma unroll
  for (unsigned c = 0; c < WarpState<kDim>::kChunks; ++c) {
#pragma unroll
    for (unsigned i = 0; i < 8; ++i) {
      const unsigned d = 64 * c + 8 * i + threadIdx.x % 4 * 2;
      const float* of_row = w.folded[c][i] + 2 * h;
      if (d < head_dim) *reinterpret_cast<float2*>(output + d) = make_float2(of_row[0], of_row[1]);
    }
  }
}

// Zeroes what stands behind head_dim in K and V: no copy touches it.
template <unsigned kDim>
__device__ void clear_padding(Shared<kDim>& shared, unsigned head_dim) {
  const unsigned width = kDim - head_dim;
  for (unsigned i = threadIdx.x; i < kTileKeys * width; i += kThreads) {
    shared.keys[i / width * Shared<kDim>::kStride + head_dim + i % width] = __float2half_rn(0);
    shared.values[i / width * Shared<kDim>::kStride + head_dim + i % width] = __float2half_rn(0);
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
  copy.begin(a.kv.keys, shared.places[0], a.head_dim, shared.keys, S::kStride);
  copy.end(a.head_dim, shared.keys, S::kStride);
  __syncthreads();
  for (unsigned now = 0; key <= tile.sight.last; key += kTileKeys, now ^= 1) {
    const bool more = key + kTileKeys <= tile.sight.last;
    copy.begin(a.kv.values, shared.places[now], a.head_dim, shared.values, S::kStride);
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
            const uint4 run = *reinterpret_cast<const uint4*>(shared.keys + of * S::kStride + d);
            k[0] = run.x, k[1] = run.y, k[2] = run.z, k[3] = run.w;
          },
          s);
      if (masked) mask_tile(sights, key, s);
      soften(w, s);
    }
    copy.end(a.head_dim, shared.values, S::kStride);
    __syncthreads();
    if (more) copy.begin(a.kv.keys, shared.places[now ^ 1], a.head_dim, shared.keys, S::kStride);
    if (seen) add_tile<kDim>(w, s, shared.values, sights, key, masked);
    if (!more || (key + kTileKeys) % kAttentionSplit == 0) fold_split(w);
    if (more) copy.end(a.head_dim, shared.keys, S::kStride);
    __syncthreads();
  }
}

// One tile: pairs from first_pair on.
template <unsigned kDim, bool kQ8>
__device__ void attend_tile(const AttentionArguments& a, const RowTile& tile, std::uint32_t kv_head,
                            std::uint32_t first_pair, Shared<kDim>& shared) {
  load_queries<kDim, kPairs>(a, tile, kv_head, first_pair, shared.q);
  const std::uint32_t own = first_pair + threadIdx.x / 32 * kTilePairs + threadIdx.x % 32 / 4;
  const Pair pairs[2] = {pair_of(a, tile, kv_head, own), pair_of(a, tile, kv_head, own + 8)};
  const Sight sights[2] = {pairs[0].sight, pairs[1].sight};
  WarpState<kDim> w;
  walk<kDim, kQ8>(a, tile, kv_head, sights, shared, w);
  const Parts parts = parts_of(a);
  for (unsigned h = 0; h < 2; ++h) {
    if (!pairs[h].there) continue;
    const std::size_t part = part_index(a, pairs[h].row, pairs[h].head, 0);
    write_outputs(w, h, a.head_dim, parts.outputs + part * a.head_dim);
    if (threadIdx.x % 4 == 0) parts.sums[part] = w.state[h];
  }
}

// Block (kv head, tile and part of its pairs), and further tiles if there are more than blocks.
template <unsigned kDim, bool kQ8>
__global__ void __launch_bounds__(kThreads) walk_kernel(AttentionArguments a, std::uint32_t tiles_of_row) {
  CU_DYN_SHARED(Shared<kDim>, shared);
  launch_dependents();
  wait_for_previous();
  clear_padding(*shared, a.head_dim);
  const std::uint32_t* tiles = parts_of(a).tiles;
  const std::uint32_t count = tiles[0] * tiles_of_row;
  for (std::uint32_t i = blockIdx.y; i < count; i += gridDim.y) {
    const std::uint32_t at = i / tiles_of_row;
    const std::uint32_t first = tiles[1 + at];
    const std::uint32_t end = at == 0 ? a.rows : tiles[at];  // the list goes from the last tile to the first
    attend_tile<kDim, kQ8>(a, tile_of(a, first, end - first), blockIdx.x, i % tiles_of_row * kPairs, *shared);
  }
}

// Lists the first rows of the tiles from the last one on, which have the most keys: they are begun first.
__global__ void __launch_bounds__(kListThreads) list_tiles_kernel(AttentionArguments a) {
  CU_SHARED(std::uint32_t, of_warps, [kListThreads / 32]);
  const unsigned lane = threadIdx.x % 32;
  const std::uint32_t most = tile_rows<kPairs>(a);
  const std::uint32_t each = (a.rows + kListThreads - 1) / kListThreads;
  const std::uint32_t begin = min(threadIdx.x * each, a.rows);  // counted from the last row
  const std::uint32_t end = min(begin + each, a.rows);
  const auto begins_tile = [&](std::uint32_t row) { return row == 0 || !same_tile(a.step, row - 1, most); };
  launch_dependents();
  wait_for_previous();
  std::uint32_t own = 0;
  for (std::uint32_t i = begin; i < end; ++i) own += begins_tile(a.rows - 1 - i) ? 1 : 0;
  std::uint32_t until = own;
  for (unsigned step = 1; step < 32; step *= 2) {
    const std::uint32_t more = __shfl_up_sync(kAllLanes, until, step);
    if (lane >= step) until += more;
  }
  if (lane == 31) of_warps[threadIdx.x / 32] = until;
  __syncthreads();
  for (unsigned warp = 0; warp < threadIdx.x / 32; ++warp) until += of_warps[warp];
  std::uint32_t* tiles = parts_of(a).tiles;
  std::uint32_t* to = tiles + 1 + until - own;
  for (std::uint32_t i = begin; i < end; ++i)
    if (begins_tile(a.rows - 1 - i)) *to++ = a.rows - 1 - i;
  if (threadIdx.x == kListThreads - 1) tiles[0] = until;
}

}  // namespace

cudaError_t attend_walk(const AttentionArguments& arguments, cudaStream_t stream) {
  const AttentionArguments& a = arguments;
  const Dims list{.grid = dim3(1), .block = dim3(kListThreads), .overlap = true};
  if (const cudaError_t error = launch(list, stream, list_tiles_kernel, arguments)) return error;

  const std::uint32_t tiles_of_row = (a.heads / a.kv_heads + kPairs - 1) / kPairs;
  const std::uint32_t tiles = min((a.rows + tile_rows<kPairs>(a) - 1) / tile_rows<kPairs>(a) + kMoreTiles, a.rows);
  return with_kernel(a, [&]<unsigned kDim, bool kQ8>() {
    const Dims dims{.grid = dim3(a.kv_heads, tiles * tiles_of_row),
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

// The choice of experts, as kernels/ref/route.h, and who meets whom: the assignments sorted by expert.
//
// A warp chooses for a row. The sort is a counting sort that keeps the order of rows: the place of (row, expert) is
// what lies before the expert, and the rows before that have chosen it. Every block counts all assignments anew and
// places those of its own rows, so that blocks need not wait for each other.
#include "kernels/cuda/cu.cuh"
#include "kernels/cuda/kernels.h"

namespace sirocco::cuda {
namespace {

constexpr unsigned kMaxExperts = 512;
constexpr unsigned kMaxUsed = 32;
constexpr unsigned kAllLanes = 0xFFFFFFFF;
constexpr unsigned kWarps = 8;
constexpr unsigned kThreads = kWarps * 32;
constexpr unsigned kPlacedRows = 64;  // of a block: 32 for each word of a mask
constexpr unsigned kMaskWords = kPlacedRows / 32;

// --- the choice: expert 32 j + lane is the lane's j-th

// As integers that compare like the logits, -0 as +0, NaN as the largest.
__device__ int order_of(float logit) {
  if (logit != logit) return INT32_MAX;
  const int bits = __float_as_int(logit == 0 ? 0.0F : logit);
  return bits < 0 ? bits ^ 0x7FFFFFFF : bits;
}

__device__ float sum_of_lanes(float x) {
  for (int step = 16; step > 0; step /= 2) x += __shfl_xor_sync(kAllLanes, x, step);
  return x;
}

template <unsigned kPerLane>
struct Choice {
  std::uint32_t mine = 0;         // bit j: the lane's j-th expert is chosen
  std::uint32_t lower[kPerLane];  // how many chosen ones stand before the lane's j-th expert
};

// The `used` largest, ties to the lower index.
template <unsigned kPerLane>
__device__ Choice<kPerLane> choose(const float (&logits)[kPerLane], unsigned experts, unsigned used) {
  const unsigned lane = threadIdx.x % 32;
  Choice<kPerLane> choice;
  int order[kPerLane];
  std::uint32_t open = 0;  // bit j: may still be chosen
#pragma unroll
  for (unsigned j = 0; j < kPerLane; ++j) {
    order[j] = order_of(logits[j]);
    if (32 * j + lane < experts) open |= 1U << j;
  }
  for (unsigned i = 0; i < used; ++i) {
    int largest = INT32_MIN;
    unsigned first = kPerLane;
#pragma unroll
    for (unsigned j = 0; j < kPerLane; ++j) {
      if ((open >> j & 1) != 0 && (first == kPerLane || order[j] > largest)) {
        largest = order[j];
        first = j;
      }
    }
    const int best = __reduce_max_sync(kAllLanes, largest);
    const int index = first < kPerLane && largest == best ? static_cast<int>(32 * first + lane) : INT32_MAX;
    const auto expert = static_cast<unsigned>(__reduce_min_sync(kAllLanes, index));
    if (expert % 32 == lane) {
      open &= ~(1U << expert / 32);
      choice.mine |= 1U << expert / 32;
    }
  }
  unsigned before = 0;
#pragma unroll
  for (unsigned j = 0; j < kPerLane; ++j) {
    const std::uint32_t chosen = __ballot_sync(kAllLanes, static_cast<int>(choice.mine >> j & 1));
    choice.lower[j] = before + static_cast<unsigned>(__popc(chosen & ((1U << lane) - 1)));
    before += static_cast<unsigned>(__popc(chosen));
  }
  return choice;
}

// The chosen experts' weights before they are normalised: exp(logit - largest) over their sum.
template <unsigned kPerLane>
__device__ void soften(float (&shares)[kPerLane], std::uint32_t counted) {
  float largest = -INFINITY;
#pragma unroll
  for (unsigned j = 0; j < kPerLane; ++j)
    if ((counted >> j & 1) != 0) largest = fmaxf(largest, shares[j]);
  for (int step = 16; step > 0; step /= 2) largest = fmaxf(largest, __shfl_xor_sync(kAllLanes, largest, step));
  float sum = 0;
#pragma unroll
  for (unsigned j = 0; j < kPerLane; ++j) {
    if ((counted >> j & 1) == 0) continue;
    shares[j] = expf(shares[j] - largest);
    sum += shares[j];
  }
  sum = sum_of_lanes(sum);
#pragma unroll
  for (unsigned j = 0; j < kPerLane; ++j) shares[j] = __fdiv_rn(shares[j], sum);
}

// One row, by one warp, to chosen and weights [used].
//
//   ascending  [used] f32 of the warp in shared memory
template <unsigned kPerLane>
__device__ Choice<kPerLane> route_row(const RouteArguments& a, unsigned row, float* ascending) {
  const unsigned lane = threadIdx.x % 32;
  const float* logits = a.logits + static_cast<std::size_t>(row) * a.experts;
  float shares[kPerLane];
  std::uint32_t all = 0;
#pragma unroll
  for (unsigned j = 0; j < kPerLane; ++j) {
    const bool there = 32 * j + lane < a.experts;
    shares[j] = there ? logits[32 * j + lane] : 0.0F;
    if (there) all |= 1U << j;
  }
  const Choice<kPerLane> choice = choose(shares, a.experts, a.used);
  soften(shares, a.softmax_before_choice ? all : choice.mine);

  const std::size_t to = static_cast<std::size_t>(row) * a.used;
#pragma unroll
  for (unsigned j = 0; j < kPerLane; ++j) {
    if ((choice.mine >> j & 1) == 0) continue;
    ascending[choice.lower[j]] = shares[j];
    a.lists.chosen[to + choice.lower[j]] = 32 * j + lane;
  }
  __syncwarp();
  float sum = 1;
  if (a.softmax_before_choice && a.normalise) {
    sum = 0;
    for (unsigned i = 0; i < a.used; ++i) sum += ascending[i];
  }
  if (lane < a.used) a.lists.weights[to + lane] = __fmul_rn(__fdiv_rn(ascending[lane], sum), a.scale);
  return choice;
}

// --- the lists

// Whether the kernels compute it.
__device__ bool on_device(const RouteArguments& a, unsigned expert) {
  return a.experts_table == nullptr || a.experts_table[expert].gate != nullptr;
}

// Of one row: every assignment is a tile of its own, in order of experts.
template <unsigned kPerLane>
__device__ void list_one_row(const RouteArguments& a, const Choice<kPerLane>& choice) {
  const unsigned lane = threadIdx.x % 32;
  unsigned tiles = 0;
#pragma unroll
  for (unsigned j = 0; j < kPerLane; ++j) {
    const unsigned expert = 32 * j + lane;
    const bool chosen = (choice.mine >> j & 1) != 0;
    const bool computed = chosen && on_device(a, expert);
    const std::uint32_t all_computed = __ballot_sync(kAllLanes, static_cast<int>(computed));
    const unsigned tile = tiles + static_cast<unsigned>(__popc(all_computed & ((1U << lane) - 1)));
    tiles += static_cast<unsigned>(__popc(all_computed));
    if (expert >= a.experts) continue;
    const unsigned place = choice.lower[j];
    a.lists.first[expert] = place;
    if (!chosen) continue;
    a.lists.place[place] = place;
    a.lists.row_of[place] = 0;
    if (computed) a.lists.tiles[tile] = {expert, place, 1};
  }
  if (lane == 0) {
    a.lists.first[a.experts] = a.used;
    *a.lists.tile_count = tiles;
  }
}

struct Counts {
  std::uint32_t all[kMaxExperts];               // assignments of an expert
  std::uint32_t tiles[kMaxExperts];             // that it has
  std::uint32_t earlier[kMaxExperts];           // of rows before the block's
  std::uint32_t mask[kMaxExperts][kMaskWords];  // bit: the block's row has chosen it
  std::uint32_t first[kMaxExperts];
  std::uint32_t first_tile[kMaxExperts];
};

__device__ unsigned tiles_of(const RouteArguments& a, const Counts& counts, unsigned expert) {
  return on_device(a, expert) ? (counts.all[expert] + a.tile_rows - 1) / a.tile_rows : 0;
}

// first, first_tile = how many stand before each expert; by the block's first warp.
__device__ void sum_up(const RouteArguments& a, Counts& counts) {
  const unsigned lane = threadIdx.x % 32;
  const unsigned each = (a.experts + 31) / 32;
  const unsigned begin = min(lane * each, a.experts);
  const unsigned end = min(begin + each, a.experts);
  std::uint32_t places = 0;
  std::uint32_t tiles = 0;
  for (unsigned expert = begin; expert < end; ++expert) {
    places += counts.all[expert];
    counts.tiles[expert] = tiles_of(a, counts, expert);
    tiles += counts.tiles[expert];
  }
  std::uint32_t place = places;
  std::uint32_t tile = tiles;
  for (unsigned step = 1; step < 32; step *= 2) {
    const std::uint32_t more_places = __shfl_up_sync(kAllLanes, place, step);
    const std::uint32_t more_tiles = __shfl_up_sync(kAllLanes, tile, step);
    if (lane < step) continue;
    place += more_places;
    tile += more_tiles;
  }
  place -= places;
  tile -= tiles;
  for (unsigned expert = begin; expert < end; ++expert) {
    counts.first[expert] = place;
    counts.first_tile[expert] = tile;
    place += counts.all[expert];
    tile += counts.tiles[expert];
  }
  if (lane == 31 && blockIdx.x == 0) {
    a.lists.first[a.experts] = place;
    *a.lists.tile_count = tile;
  }
}

__device__ void write_tiles(const RouteArguments& a, const Counts& counts) {
  for (unsigned expert = threadIdx.x; expert < a.experts; expert += kThreads) {
    a.lists.first[expert] = counts.first[expert];
    ExpertTile* const tiles = a.lists.tiles + counts.first_tile[expert];
    for (unsigned i = 0; i < counts.tiles[expert]; ++i) {
      const unsigned done = i * a.tile_rows;
      tiles[i] = {expert, counts.first[expert] + done, min(a.tile_rows, counts.all[expert] - done)};
    }
  }
}

// Places the rows kPlacedRows * blockIdx.x …; block 0 writes what is of all.
__device__ void list_rows(const RouteArguments& a) {
  CU_SHARED(Counts, counts, );
  for (unsigned expert = threadIdx.x; expert < a.experts; expert += kThreads) {
    counts.all[expert] = 0;
    counts.earlier[expert] = 0;
    for (unsigned word = 0; word < kMaskWords; ++word) counts.mask[expert][word] = 0;
  }
  __syncthreads();
  const unsigned begin = blockIdx.x * kPlacedRows * a.used;
  const unsigned end = min(begin + kPlacedRows * a.used, a.rows * a.used);
  for (unsigned i = threadIdx.x; i < a.rows * a.used; i += kThreads) {
    const std::uint32_t expert = a.lists.chosen[i];
    atomicAdd(&counts.all[expert], 1U);
    if (i < begin) atomicAdd(&counts.earlier[expert], 1U);
    const unsigned row = (i - begin) / a.used;
    if (i >= begin && i < end) atomicOr(&counts.mask[expert][row / 32], 1U << row % 32);
  }
  __syncthreads();
  if (threadIdx.x < 32) sum_up(a, counts);
  __syncthreads();
  for (unsigned i = begin + threadIdx.x; i < end; i += kThreads) {
    const std::uint32_t expert = a.lists.chosen[i];
    const unsigned row = (i - begin) / a.used;
    unsigned place = counts.first[expert] + counts.earlier[expert];
    for (unsigned word = 0; word < row / 32; ++word) place += static_cast<unsigned>(__popc(counts.mask[expert][word]));
    place += static_cast<unsigned>(__popc(counts.mask[expert][row / 32] & ((1U << row % 32) - 1)));
    a.lists.place[i] = place;
    a.lists.row_of[place] = i / a.used;
  }
  if (blockIdx.x == 0) write_tiles(a, counts);
}

// --- kernels

// Block i chooses for rows kWarps * i …; if those are all, it makes the lists as well.
template <unsigned kPerLane>
__global__ void __launch_bounds__(kThreads) choose_kernel(RouteArguments a) {
  CU_SHARED(float, ascending, [kWarps][kMaxUsed]);
  const unsigned row = blockIdx.x * kWarps + threadIdx.x / 32;
  launch_dependents();
  wait_for_previous();
  if (row < a.rows) {
    const Choice<kPerLane> choice = route_row<kPerLane>(a, row, ascending[threadIdx.x / 32]);
    if (a.rows == 1) list_one_row(a, choice);
  }
  if (gridDim.x > 1 || a.rows == 1) return;
  __syncthreads();
  list_rows(a);
}

__global__ void __launch_bounds__(kThreads) list_kernel(RouteArguments a) {
  launch_dependents();
  wait_for_previous();
  list_rows(a);
}

}  // namespace

cudaError_t route(const RouteArguments& arguments, cudaStream_t stream) {
  const RouteArguments& a = arguments;
  if (a.rows == 0 || a.experts > kMaxExperts || a.used == 0 || a.used > kMaxUsed) return cudaErrorInvalidValue;
  if (a.used > a.experts || a.tile_rows == 0) return cudaErrorInvalidValue;

  const unsigned blocks = (a.rows + kWarps - 1) / kWarps;
  const Dims choice{.grid = dim3(blocks), .block = dim3(a.rows == 1 ? 32 : kThreads), .overlap = true};
  const cudaError_t error = a.experts <= 128   ? launch(choice, stream, choose_kernel<4>, arguments)
                            : a.experts <= 256 ? launch(choice, stream, choose_kernel<8>, arguments)
                                               : launch(choice, stream, choose_kernel<16>, arguments);
  if (error != cudaSuccess || blocks == 1) return error;
  const Dims lists{.grid = dim3((a.rows + kPlacedRows - 1) / kPlacedRows), .block = dim3(kThreads), .overlap = true};
  return launch(lists, stream, list_kernel, arguments);
}

}  // namespace sirocco::cuda

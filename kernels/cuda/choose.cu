// A token from each row of logits, as kernels/ref/choose_token.h: a block a row. Weights are integers, so that their
// sums are those of the host in whatever order threads add them up.
//
// Nothing is sorted. What the host finds in a sorted row, the k-th logit or the token at which weights reach a sum, is
// found digit by digit of the logits' bits: how much lies in each of the next digit's bins, and in which of them the
// wanted one is. The warps' parts of a row are runs, one after another, so that what goes by ids is a sum of runs.
#include "kernels/cuda/cu.cuh"
#include "kernels/cuda/kernels.h"

namespace sirocco::cuda {
namespace {

constexpr unsigned kAllLanes = 0xFFFFFFFF;
constexpr unsigned kThreads = 1024;
constexpr unsigned kWarps = kThreads / 32;
constexpr unsigned kBins = 2048;

using Weight = unsigned long long;

struct Shared {
  Weight bins[kBins];
  Weight of_warp[kWarps];
  Weight result[2];
  unsigned highest[kWarps];
  std::uint32_t id[kWarps];
};

// Bits that compare like the logits, -0 as +0; of -infinity kNothing.
constexpr std::uint32_t kNothing = 0x007FFFFF;
__device__ std::uint32_t order_of(float logit) {
  const std::uint32_t bits = __float_as_uint(logit == 0 ? 0.0F : logit);
  return (bits & 0x80000000U) != 0 ? ~bits : bits | 0x80000000U;
}
__device__ float logit_of(std::uint32_t order) {
  return __uint_as_float((order & 0x80000000U) != 0 ? order & 0x7FFFFFFFU : ~order);
}

// A row, and its tokens that may be chosen.
struct Row {
  const float* logits;
  unsigned begin;  // of the warp's run
  unsigned end;
  float highest;
  float scale;
  float least;                // probability
  std::uint32_t least_order;  // of a logit

  __device__ float probability(float logit) const { return exponential((logit - highest) * scale); }
  __device__ Weight weight(unsigned id) const {
    const float logit = logits[id];
    if (order_of(logit) < least_order) return 0;
    const float p = probability(logit);
    return p < least ? 0 : token_weight(p);
  }
};

// f(id) for the tokens of the warp's run, 32 at a time, all lanes together; beyond its end with an id that is not less.
template <class Function>
__device__ __forceinline__ void each_token(const Row& row, Function f) {
  const unsigned lane = threadIdx.x % 32;
  for (unsigned id = row.begin + lane; id - lane < row.end; id += 32) f(id);
}

__device__ __forceinline__ Weight sum_of_lanes(Weight x) {
  for (int step = 16; step > 0; step /= 2) x += __shfl_xor_sync(kAllLanes, x, step);
  return x;
}

// Of all lanes up to this one.
__device__ __forceinline__ Weight sum_up_to_lane(Weight x) {
  for (unsigned step = 1; step < 32; step *= 2) {
    const Weight more = __shfl_up_sync(kAllLanes, x, step);
    if (threadIdx.x % 32 >= step) x += more;
  }
  return x;
}

// The sum of f(id) over the row, for every thread; shared.of_warp has the runs'.
template <class Function>
__device__ Weight sum_of(const Row& row, Shared& shared, Function f) {
  Weight sum = 0;
  each_token(row, [&](unsigned id) { sum += id < row.end ? f(id) : 0; });
  sum = sum_of_lanes(sum);
  __syncthreads();
  if (threadIdx.x % 32 == 0) shared.of_warp[threadIdx.x / 32] = sum;
  __syncthreads();
  Weight all = 0;
  for (unsigned warp = 0; warp < kWarps; ++warp) all += shared.of_warp[warp];
  return all;
}

// The first id up to which f(id), added up in the order of ids, is more than `target`, which is less than all of it.
template <class Function>
__device__ std::int32_t find_by_id(const Row& row, Shared& shared, Weight target, Function f) {
  sum_of(row, shared, f);
  Weight before = 0;
  for (unsigned warp = 0; warp < threadIdx.x / 32; ++warp) before += shared.of_warp[warp];
  if (before <= target && target < before + shared.of_warp[threadIdx.x / 32]) {
    bool found = false;
    each_token(row, [&](unsigned id) {
      if (found) return;
      const Weight up_to = before + sum_up_to_lane(id < row.end ? f(id) : 0);
      const std::uint32_t beyond = __ballot_sync(kAllLanes, static_cast<int>(up_to > target));
      found = beyond != 0;
      if (found && static_cast<int>(threadIdx.x % 32) == __ffs(static_cast<int>(beyond)) - 1) shared.result[0] = id;
      before = __shfl_sync(kAllLanes, up_to, 31);
    });
  }
  __syncthreads();
  return static_cast<std::int32_t>(shared.result[0]);
}

struct Place {
  std::uint32_t order;  // of the logit
  Weight above;         // of all larger ones
};

// The logit at which f(id), added up from the largest logit down, is more than `target`; f(id) is the same for equal
// logits. If there is none, order is 0.
template <class Function>
__device__ Place find_by_logit(const Row& row, Shared& shared, Weight target, Function f) {
  std::uint32_t prefix = 0;
  Weight above = 0;
  for (unsigned digit = 0; digit < 3; ++digit) {
    const unsigned bits = digit < 2 ? 11 : 10;
    const unsigned shift = digit == 0 ? 21 : digit == 1 ? 10 : 0;
    __syncthreads();
    for (unsigned bin = threadIdx.x; bin < kBins; bin += kThreads) shared.bins[bin] = 0;
    if (threadIdx.x == 0) shared.result[1] = kBins;
    __syncthreads();
    each_token(row, [&](unsigned id) {
      if (id >= row.end) return;
      const std::uint32_t order = order_of(row.logits[id]);
      if (digit != 0 && order >> (shift + bits) != prefix) return;
      const Weight weight = f(id);
      if (weight != 0) atomicAdd(&shared.bins[order >> shift & ((1U << bits) - 1)], weight);
    });
    __syncthreads();
    // The first warp: each lane has a run of bins, from the highest down.
    if (threadIdx.x < 32) {
      constexpr unsigned kRun = kBins / 32;
      const unsigned top = kBins - 1 - threadIdx.x * kRun;
      Weight mine = 0;
      for (unsigned i = 0; i < kRun; ++i) mine += shared.bins[top - i];
      Weight sum = above + sum_up_to_lane(mine) - mine;
      if (sum <= target && target < sum + mine) {
        unsigned bin = top;
        while (sum + shared.bins[bin] <= target) sum += shared.bins[bin--];
        shared.result[0] = sum;
        shared.result[1] = bin;
      }
    }
    __syncthreads();
    if (shared.result[1] == kBins) return {.order = 0, .above = 0};
    above = shared.result[0];
    prefix = prefix << bits | static_cast<std::uint32_t>(shared.result[1]);
  }
  return {.order = prefix, .above = above};
}

// The largest logit and the lowest id that has it; false if one is not below infinity, or none above -infinity.
__device__ bool find_highest(const Row& row, Shared& shared, std::uint32_t& order, std::uint32_t& best) {
  constexpr std::uint32_t kNoNumber = 0xFFFFFFFFU;
  order = 0;
  best = 0;
  each_token(row, [&](unsigned id) {
    if (id >= row.end) return;
    const float logit = row.logits[id];
    const std::uint32_t here = logit < INFINITY ? order_of(logit) : kNoNumber;
    if (here <= order) return;
    order = here;
    best = id;
  });
  const std::uint32_t highest = __reduce_max_sync(kAllLanes, order);
  const std::uint32_t lowest = __reduce_min_sync(kAllLanes, order == highest ? best : kNoNumber);
  if (threadIdx.x % 32 == 0) {
    shared.highest[threadIdx.x / 32] = highest;
    shared.id[threadIdx.x / 32] = lowest;
  }
  __syncthreads();
  order = 0;
  for (unsigned warp = 0; warp < kWarps; ++warp) {
    if (shared.highest[warp] <= order) continue;
    order = shared.highest[warp];
    best = shared.id[warp];
  }
  return kNothing < order && order < kNoNumber;
}

// By a block, for a temperature above 0.
__device__ std::int32_t draw(const TokenChoice& choice, std::uint32_t vocabulary, Row row, Shared& shared) {
  row.scale = inverse_temperature(choice.temperature);
  if (choice.top_k > 0) {
    const auto may_be = [&](unsigned id) { return static_cast<Weight>(order_of(row.logits[id]) > kNothing ? 1 : 0); };
    const Place kth = find_by_logit(row, shared, choice.top_k - 1, may_be);
    if (kth.order != 0) row.least_order = kth.order;
  }
  const auto weight = [&](unsigned id) { return row.weight(id); };
  Weight enough = 0;
  if (choice.top_p < 1) {
    const Weight total = sum_of(row, shared, weight);
    enough = top_p_weight(choice.top_p, total);
    if (choice.top_k == 0) row.least = below_top_p(choice.top_p, total, vocabulary);
  }
  row.least = fmaxf(row.least, choice.min_p);
  Weight kept = 0;
  if (enough > 0) {
    const Place last = find_by_logit(row, shared, enough - 1, weight);
    if (last.order != 0) {
      // Of equal ones as many as it takes.
      const Weight each = token_weight(row.probability(logit_of(last.order)));
      kept = last.above + (enough - last.above + each - 1) / each * each;
    }
  }
  if (kept == 0) kept = sum_of(row, shared, weight);
  const Weight target = drawn_weight(choice.random, kept);
  if (choice.top_k == 0 && enough == 0) return find_by_id(row, shared, target, weight);
  const Place drawn = find_by_logit(row, shared, target, weight);
  const Weight each = token_weight(row.probability(logit_of(drawn.order)));
  return find_by_id(row, shared, (target - drawn.above) / each,
                    [&](unsigned id) { return static_cast<Weight>(order_of(row.logits[id]) == drawn.order ? 1 : 0); });
}

__global__ void __launch_bounds__(kThreads) choose_kernel(ChooseArguments a) {
  CU_SHARED(Shared, shared, );
  launch_dependents();
  wait_for_previous();
  const TokenChoice choice = a.choices[blockIdx.x].choice;
  if (a.choices[blockIdx.x].wanted == 0) return;
  const unsigned run = (a.vocabulary + kThreads - 1) / kThreads * 32;
  const unsigned begin = min(threadIdx.x / 32 * run, a.vocabulary);
  Row row = {.logits = a.logits + static_cast<std::size_t>(blockIdx.x) * a.vocabulary,
             .begin = begin,
             .end = min(begin + run, a.vocabulary),
             .highest = 0,
             .scale = 0,
             .least = 0,
             .least_order = kNothing + 1};
  std::uint32_t order = 0;
  std::uint32_t best = 0;
  std::int32_t token = kNoToken;
  if (find_highest(row, shared, order, best)) {
    row.highest = logit_of(order);
    token = choice.temperature == 0 ? static_cast<std::int32_t>(best) : draw(choice, a.vocabulary, row, shared);
  }
  if (threadIdx.x == 0) a.chosen[blockIdx.x] = token;
}

}  // namespace

cudaError_t choose(const ChooseArguments& arguments, cudaStream_t stream) {
  if (arguments.rows == 0 || arguments.vocabulary == 0 || arguments.vocabulary > kMostTokens)
    return cudaErrorInvalidValue;
  return launch({.grid = dim3(arguments.rows), .block = dim3(kThreads), .overlap = true}, stream, choose_kernel,
                arguments);
}

}  // namespace sirocco::cuda

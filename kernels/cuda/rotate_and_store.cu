// What attention begins with: norms of heads, positions rotated into them, keys and values into the cache. One warp for
// each head of a row, which lies in its part of shared memory meanwhile.
#include "kernels/cuda/cu.cuh"
#include "kernels/cuda/kernels.h"
#include "kernels/cuda/kv_layout.cuh"

namespace sirocco::cuda {
namespace {

constexpr unsigned kWarps = 4;
constexpr unsigned kMaxHeadDim = 256;
constexpr unsigned kAllLanes = 0xFFFFFFFF;

// x = x / sqrt(mean of squares + epsilon) * weight
__device__ void norm_head(float* x, unsigned head_dim, const float* weight, float epsilon) {
  const unsigned lane = threadIdx.x % 32;
  float sum = 0;
  for (unsigned d = lane; d < head_dim; d += 32) sum = fmaf(x[d], x[d], sum);
  for (int step = 16; step > 0; step /= 2) sum += __shfl_xor_sync(kAllLanes, sum, step);
  const float scale = 1.0F / sqrtf(sum / static_cast<float>(head_dim) + epsilon);
  for (unsigned d = lane; d < head_dim; d += 32) x[d] = x[d] * scale * weight[d];
  __syncwarp();
}

// As kernels/ref/rope.h. cosines, sines: of the row's position.
__device__ void rotate_head(float* x, RopeStyle style, unsigned pairs, const float* cosines, const float* sines) {
  const unsigned step = style == RopeStyle::normal ? 2 : 1;
  const unsigned distance = style == RopeStyle::normal ? 1 : pairs;
  for (unsigned i = threadIdx.x % 32; i < pairs; i += 32) {
    const float a = x[i * step];
    const float b = x[i * step + distance];
    x[i * step] = a * cosines[i] - b * sines[i];
    x[i * step + distance] = a * sines[i] + b * cosines[i];
  }
  __syncwarp();
}

// As kernels/ref/attention.cc: the scale is the largest magnitude / 127 in f16; magnitudes are compared by their bits,
// where NaN is above infinity, so that what is no number shows in the scale.
__device__ void store_q8_0(const float* x, unsigned head_dim, std::byte* cache, KvPlace place) {
  const unsigned lane = threadIdx.x % 32;
  for (unsigned i = 0; i < head_dim / kScaleElements; ++i) {
    const float value = x[i * kScaleElements + lane];
    const float largest = __int_as_float(__reduce_max_sync(kAllLanes, __float_as_int(value) & 0x7FFFFFFF));
    const bool usable = largest > 0x1p-100F && largest <= 3.402823466e38F;  // neither as good as zero nor infinite
    const float q = usable ? rintf(__fmul_rn(value, __fdiv_rn(127.0F, largest))) : 0.0F;
    reinterpret_cast<std::int8_t*>(cache + place.values)[i * kScaleElements + lane] = static_cast<std::int8_t>(q);
    if (lane == 0) reinterpret_cast<__half*>(cache + place.scales)[i] = __float2half_rn(__fdiv_rn(largest, 127.0F));
  }
}

__device__ void store_head(const float* x, unsigned head_dim, bool q8_0, std::byte* cache, KvPlace place) {
  if (q8_0) return store_q8_0(x, head_dim, cache, place);
  for (unsigned d = threadIdx.x % 32; d < head_dim; d += 32)
    reinterpret_cast<__half*>(cache + place.values)[d] = __float2half_rn(x[d]);
}

// Warp i of all is of row i / heads in all and of its head i % heads in all: first those of q, then of k, then of v.
__global__ void __launch_bounds__(kWarps * 32) rotate_and_store_kernel(AttentionArguments a) {
  CU_SHARED(float, heads_of_warps, [kWarps][kMaxHeadDim]);
  float* x = heads_of_warps[threadIdx.x / 32];
  const unsigned lane = threadIdx.x % 32;
  const unsigned all_heads = a.heads + 2 * a.kv_heads;
  const unsigned index = blockIdx.x * kWarps + threadIdx.x / 32;
  const unsigned row = index / all_heads;
  unsigned head = index % all_heads;
  if (row >= a.rows) return;

  const bool of_q = head < a.heads;
  const bool of_v = head >= a.heads + a.kv_heads;
  head -= of_q ? 0 : of_v ? a.heads + a.kv_heads : a.heads;
  const std::size_t from = (static_cast<std::size_t>(row) * (of_q ? a.heads : a.kv_heads) + head) * a.head_dim;
  const float* source = (of_q ? a.q : of_v ? a.v : a.k) + from;
  const float* weight = of_q ? a.q_norm : of_v ? nullptr : a.k_norm;

  launch_dependents();
  wait_for_previous();
  for (unsigned d = lane; d < a.head_dim; d += 32) x[d] = source[d];
  __syncwarp();
  if (weight != nullptr) norm_head(x, a.head_dim, weight, a.epsilon);
  const std::size_t angles = static_cast<std::size_t>(row) * a.pairs;
  if (!of_v) rotate_head(x, a.style, a.pairs, a.cosines + angles, a.sines + angles);
  if (of_q) {
    for (unsigned d = lane; d < a.head_dim; d += 32) a.q[from + d] = x[d];
    return;
  }
  const std::uint32_t* block_table =
      a.step.block_tables + static_cast<std::size_t>(a.step.sequences[row]) * a.step.table_stride;
  const KvPlace place = kv_place(a.kv, block_table, a.step.positions[row], head, a.head_dim);
  store_head(x, a.head_dim, a.kv.type == TensorType::q8_0, of_v ? a.kv.values : a.kv.keys, place);
}

}  // namespace

std::size_t kv_block_bytes(TensorType type, std::uint32_t block_tokens, std::uint32_t kv_heads,
                           std::uint32_t head_dim) {
  return kv_heads * kv_head_bytes(type == TensorType::q8_0, block_tokens, head_dim);
}

cudaError_t rotate_and_store(const AttentionArguments& arguments, cudaStream_t stream) {
  const AttentionArguments& a = arguments;
  const bool q8_0 = a.kv.type == TensorType::q8_0;
  if (a.rows == 0 || a.head_dim > kMaxHeadDim || 2 * a.pairs > a.head_dim) return cudaErrorInvalidValue;
  if (q8_0 ? a.head_dim % kScaleElements != 0 : a.kv.type != TensorType::f16) return cudaErrorInvalidValue;
  const unsigned warps = a.rows * (a.heads + 2 * a.kv_heads);
  const Dims dims{.grid = dim3((warps + kWarps - 1) / kWarps), .block = dim3(kWarps * 32), .overlap = true};
  return launch(dims, stream, rotate_and_store_kernel, arguments);
}

}  // namespace sirocco::cuda

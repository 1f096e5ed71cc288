// Rows between the products: residual sums, RMS norm, and int8 activations. One block a row; a row's sums have one
// order, which its width alone decides.
#include "kernels/cuda/kernels.h"
#include "kernels/cuda/quantise.cuh"

namespace sirocco::cuda {
namespace {

constexpr unsigned kMaxWarps = 16;

unsigned warps_for(std::uint32_t inputs) {
  const auto chunks = static_cast<unsigned>(padded(inputs, kTileInputs) / kTileInputs);
  return chunks < kMaxWarps ? chunks : kMaxWarps;
}

// A lane's eight elements of a row from `at` on, zero beyond its end. Where rows begin at multiples of 16 bytes, by two
// loads.
__device__ __forceinline__ void load_eight(const float* row, unsigned at, std::uint32_t inputs, float (&x)[8]) {
  if (inputs % 8 == 0) {
    const bool inside = at < inputs;
    const float4 zero = make_float4(0, 0, 0, 0);
    const float4 first = inside ? *reinterpret_cast<const float4*>(row + at) : zero;
    const float4 second = inside ? *reinterpret_cast<const float4*>(row + at + 4) : zero;
    x[0] = first.x, x[1] = first.y, x[2] = first.z, x[3] = first.w;
    x[4] = second.x, x[5] = second.y, x[6] = second.z, x[7] = second.w;
    return;
  }
#pragma unroll
  for (unsigned i = 0; i < 8; ++i) x[i] = at + i < inputs ? row[at + i] : 0.0F;
}
__device__ __forceinline__ void store_eight(float* row, unsigned at, std::uint32_t inputs, const float (&x)[8]) {
  if (inputs % 8 == 0) {
    if (at >= inputs) return;
    *reinterpret_cast<float4*>(row + at) = make_float4(x[0], x[1], x[2], x[3]);
    *reinterpret_cast<float4*>(row + at + 4) = make_float4(x[4], x[5], x[6], x[7]);
    return;
  }
#pragma unroll
  for (unsigned i = 0; i < 8; ++i)
    if (at + i < inputs) row[at + i] = x[i];
}

// x += what the last part of the layer left for the row `from`.
__device__ __forceinline__ void add_residual(const NormArguments& a, std::size_t from, unsigned at, float (&x)[8]) {
  if (a.branch != nullptr) {
    float branch[8];
    load_eight(a.branch + from * a.width, at, a.width, branch);
#pragma unroll
    for (unsigned i = 0; i < 8; ++i) x[i] = __fadd_rn(x[i], branch[i]);
  }
  if (a.expert_out == nullptr) return;
  constexpr std::uint32_t kTogether = 4;  // experts whose outputs are asked for at once
  float sum[8] = {};
  for (std::uint32_t first = 0; first < a.used; first += kTogether) {
    float out[kTogether][8];
    float weight[kTogether];
#pragma unroll
    for (std::uint32_t j = 0; j < kTogether; ++j) {
      if (first + j >= a.used) break;
      const std::size_t assignment = from * a.used + first + j;
      weight[j] = a.expert_weights[assignment];
      load_eight(a.expert_out + static_cast<std::size_t>(a.place[assignment]) * a.width, at, a.width, out[j]);
    }
#pragma unroll
    for (std::uint32_t j = 0; j < kTogether; ++j) {
      if (first + j >= a.used) break;
#pragma unroll
      for (unsigned i = 0; i < 8; ++i) sum[i] = __fadd_rn(sum[i], __fmul_rn(weight[j], out[j][i]));
    }
  }
#pragma unroll
  for (unsigned i = 0; i < 8; ++i) x[i] = __fadd_rn(x[i], sum[i]);
}

// The sum over all threads of the block, in one order; every thread gets it.
__device__ float block_sum(float value) {
  CU_SHARED(float, of_warp, [kMaxWarps]);
#pragma unroll
  for (int distance = 16; distance > 0; distance /= 2)
    value = __fadd_rn(value, __shfl_xor_sync(0xFFFFFFFFU, value, distance));
  if (threadIdx.x % 32 == 0) of_warp[threadIdx.x / 32] = value;
  __syncthreads();
  float sum = 0;
  for (unsigned warp = 0; warp < blockDim.x / 32; ++warp) sum = __fadd_rn(sum, of_warp[warp]);
  return sum;
}

constexpr unsigned kKept = 4;  // chunks of a warp that stay in registers: 16,384 elements in all

__global__ void norm_kernel(NormArguments a) {
  launch_dependents();
  const unsigned warp = threadIdx.x / 32;
  const unsigned warps = blockDim.x / 32;
  const auto chunks = static_cast<unsigned>(padded(a.width, kTileInputs) / kTileInputs);
  const auto at_of = [&](unsigned i) { return (warp + i * warps) * kTileInputs + threadIdx.x % 32 * 8; };
  // The norm's own weights do not depend on the last kernel; wanted at the end, they are in the cache by then.
  if (a.weight != nullptr && threadIdx.x * 32 < a.width) prefetch_l2(a.weight + threadIdx.x * 32);
  wait_for_previous();
  const std::size_t row = blockIdx.x;
  const bool gathers = a.rows_of != nullptr;
  const std::size_t from = gathers ? a.rows_of[row] : row;
  const bool adds = a.branch != nullptr || a.expert_out != nullptr;
  float kept[kKept][8] = {};
  float squares = 0;
#pragma unroll
  for (unsigned i = 0; i < kKept; ++i) {
    if (warp + i * warps >= chunks) break;
    load_eight(a.x + from * a.width, at_of(i), a.width, kept[i]);
    add_residual(a, from, at_of(i), kept[i]);
#pragma unroll
    for (const float x : kept[i]) squares = __fmaf_rn(x, x, squares);
    if (adds && !gathers) store_eight(a.x + row * a.width, at_of(i), a.width, kept[i]);
  }
  if (a.weight == nullptr) return;
  const float mean = __fdiv_rn(block_sum(squares), static_cast<float>(a.width));
  const float scale = __fdiv_rn(1.0F, __fsqrt_rn(__fadd_rn(mean, a.epsilon)));
#pragma unroll
  for (unsigned i = 0; i < kKept; ++i) {
    if (warp + i * warps >= chunks) break;
    float weight[8];
    load_eight(a.weight, at_of(i), a.width, weight);
#pragma unroll
    for (unsigned j = 0; j < 8; ++j) kept[i][j] = __fmul_rn(__fmul_rn(kept[i][j], scale), weight[j]);
    if (a.f32 != nullptr) store_eight(a.f32 + row * a.width, at_of(i), a.width, kept[i]);
    quantise_chunk(kept[i], row, warp + i * warps, chunks, a.q8_32, a.q8_256);
  }
}

__global__ void quantise_kernel(const float* x, std::uint32_t inputs, Activations q8_32, Activations q8_256) {
  launch_dependents();
  wait_for_previous();
  const auto chunks = static_cast<unsigned>(padded(inputs, kTileInputs) / kTileInputs);
  const unsigned chunk = blockIdx.y * (blockDim.x / 32) + threadIdx.x / 32;
  if (chunk >= chunks) return;
  float eight[8];
  load_eight(x + static_cast<std::size_t>(blockIdx.x) * inputs, chunk * kTileInputs + threadIdx.x % 32 * 8, inputs,
             eight);
  quantise_chunk(eight, blockIdx.x, chunk, chunks, q8_32, q8_256);
}

}  // namespace

cudaError_t norm(const NormArguments& arguments, cudaStream_t stream) {
  if (padded(arguments.width, kTileInputs) > kKept * kMaxWarps * kTileInputs) return cudaErrorInvalidValue;
  return launch({.grid = dim3(arguments.rows), .block = dim3(32 * warps_for(arguments.width)), .overlap = true}, stream,
                norm_kernel, arguments);
}

cudaError_t quantise(const float* x, std::uint32_t rows, std::uint32_t inputs, const Activations& q8_32,
                     const Activations& q8_256, cudaStream_t stream) {
  constexpr unsigned kWarps = 4;
  const auto chunks = static_cast<unsigned>(padded(inputs, kTileInputs) / kTileInputs);
  return launch({.grid = dim3(rows, (chunks + kWarps - 1) / kWarps), .block = dim3(32 * kWarps), .overlap = true},
                stream, quantise_kernel, x, inputs, q8_32, q8_256);
}

}  // namespace sirocco::cuda

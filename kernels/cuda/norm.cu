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

// Elements 8 lane to 8 lane + 7 of a chunk, zero beyond the row.
template <class Load>
__device__ __forceinline__ void load_eight(float (&x)[8], unsigned chunk, std::uint32_t inputs, Load load) {
  const unsigned at = chunk * kTileInputs + threadIdx.x % 32 * 8;
#pragma unroll
  for (unsigned i = 0; i < 8; ++i) x[i] = at + i < inputs ? load(at + i) : 0.0F;
}

__device__ __forceinline__ float residual(const NormArguments& a, std::size_t from, unsigned i) {
  const float x = a.x[from * a.width + i];
  if (a.branch != nullptr) return __fadd_rn(x, a.branch[from * a.width + i]);
  if (a.expert_out == nullptr) return x;
  float sum = 0;
  for (std::uint32_t j = 0; j < a.used; ++j) {
    const std::size_t assignment = from * a.used + j;
    const float out = a.expert_out[static_cast<std::size_t>(a.place[assignment]) * a.width + i];
    sum = __fadd_rn(sum, __fmul_rn(a.expert_weights[assignment], out));
  }
  return __fadd_rn(x, sum);
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

__global__ void norm_kernel(NormArguments a) {
  wait_for_previous();
  launch_dependents();
  const std::size_t row = blockIdx.x;
  const bool gathers = a.rows_of != nullptr;
  const std::size_t from = gathers ? a.rows_of[row] : row;
  const unsigned warp = threadIdx.x / 32;
  const unsigned warps = blockDim.x / 32;
  const auto chunks = static_cast<unsigned>(padded(a.width, kTileInputs) / kTileInputs);
  const bool adds = a.branch != nullptr || a.expert_out != nullptr;
  constexpr unsigned kKept = 4;  // chunks of a warp that stay in registers: 16,384 elements
  float kept[kKept][8];
  float squares = 0;
#pragma unroll
  for (unsigned i = 0; i < kKept; ++i) {
    const unsigned chunk = warp + i * warps;
    load_eight(kept[i], chunk, chunk < chunks ? a.width : 0, [&](unsigned at) { return residual(a, from, at); });
#pragma unroll
    for (const float x : kept[i]) squares = __fmaf_rn(x, x, squares);
    if (adds && !gathers && chunk < chunks) {
      const unsigned at = chunk * kTileInputs + threadIdx.x % 32 * 8;
#pragma unroll
      for (unsigned j = 0; j < 8; ++j)
        if (at + j < a.width) a.x[row * a.width + at + j] = kept[i][j];
    }
  }
  if (a.weight == nullptr) return;
  const float mean = __fdiv_rn(block_sum(squares), static_cast<float>(a.width));
  const float scale = __fdiv_rn(1.0F, __fsqrt_rn(__fadd_rn(mean, a.epsilon)));
#pragma unroll
  for (unsigned i = 0; i < kKept; ++i) {
    const unsigned chunk = warp + i * warps;
    if (chunk >= chunks) break;
    const unsigned at = chunk * kTileInputs + threadIdx.x % 32 * 8;
#pragma unroll
    for (unsigned j = 0; j < 8; ++j) {
      if (at + j >= a.width) continue;
      kept[i][j] = __fmul_rn(__fmul_rn(kept[i][j], scale), a.weight[at + j]);
      if (a.f32 != nullptr) a.f32[row * a.width + at + j] = kept[i][j];
    }
    quantise_chunk(kept[i], row, chunk, chunks, a.q8_32, a.q8_256);
  }
}

__global__ void quantise_kernel(const float* x, std::uint32_t inputs, Activations q8_32, Activations q8_256) {
  wait_for_previous();
  launch_dependents();
  const auto chunks = static_cast<unsigned>(padded(inputs, kTileInputs) / kTileInputs);
  const unsigned chunk = blockIdx.y * (blockDim.x / 32) + threadIdx.x / 32;
  if (chunk >= chunks) return;
  const float* const from = x + static_cast<std::size_t>(blockIdx.x) * inputs;
  float eight[8];
  load_eight(eight, chunk, inputs, [&](unsigned at) { return from[at]; });
  quantise_chunk(eight, blockIdx.x, chunk, chunks, q8_32, q8_256);
}

}  // namespace

cudaError_t norm(const NormArguments& arguments, cudaStream_t stream) {
  if (padded(arguments.width, kTileInputs) > 4 * kMaxWarps * kTileInputs) return cudaErrorInvalidValue;
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

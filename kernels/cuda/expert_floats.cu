// The order of the sums is that of kernels/cpu, since the host computes the experts that are not here: partial sum j,
// of 16, takes the inputs j, j + 16, j + 32 …; then sum j takes sum j + 8, j + 4, j + 2, j + 1. Eight lanes have two
// of them each, for one output or several, and for several rows that read the weights once.
#include "kernels/cuda/expert_floats.h"

#include "kernels/cuda/cu.cuh"
#include "kernels/cuda/math.cuh"
#include "kernels/cuda/weights.cuh"

namespace sirocco::cuda {
namespace {

constexpr unsigned kThreads = 128;
constexpr unsigned kLanes = 8;  // of an output
constexpr unsigned kGroups = kThreads / kLanes;
constexpr unsigned kRows = 8;  // at once

struct Arguments {
  ExpertPart part;
  std::uint32_t inputs;
  std::uint32_t outputs;
  const ExpertTile* tiles;
  const std::uint32_t* tile_count;
  const DeviceExpert* experts;
  const std::uint32_t* row_of;  // of a place; null: the place itself
  const float* x;
  float* y;
};

struct F32 {
  static constexpr unsigned kBytes = 4;
  __device__ __forceinline__ static float2 two(const std::byte* p) { return __ldg(reinterpret_cast<const float2*>(p)); }
  __device__ __forceinline__ static float one(const std::byte* p) { return __ldg(reinterpret_cast<const float*>(p)); }
};
struct F16 {
  static constexpr unsigned kBytes = 2;
  __device__ __forceinline__ static float2 two(const std::byte* p) {
    const unsigned bits = __ldg(reinterpret_cast<const unsigned*>(p));
    return make_float2(half_bits(bits), half_bits(bits >> 16));
  }
  __device__ __forceinline__ static float one(const std::byte* p) {
    return half_bits(__ldg(reinterpret_cast<const unsigned short*>(p)));
  }
};
struct BF16 {
  static constexpr unsigned kBytes = 2;
  __device__ __forceinline__ static float2 two(const std::byte* p) {
    const unsigned bits = __ldg(reinterpret_cast<const unsigned*>(p));
    return make_float2(__uint_as_float(bits << 16), __uint_as_float(bits & 0xFFFF0000U));
  }
  __device__ __forceinline__ static float one(const std::byte* p) {
    return __uint_as_float(static_cast<unsigned>(__ldg(reinterpret_cast<const unsigned short*>(p))) << 16);
  }
};

// Weights k and k + 1 of an output, zeros beyond its inputs, as kernels/cpu pads them.
template <class W>
__device__ __forceinline__ float2 weights_at(const std::byte* row, unsigned k, unsigned inputs) {
  if (inputs % 2 == 0 && k < inputs) return W::two(row + static_cast<std::size_t>(k) * W::kBytes);
  const float first = k < inputs ? W::one(row + static_cast<std::size_t>(k) * W::kBytes) : 0.0F;
  const float second = k + 1 < inputs ? W::one(row + static_cast<std::size_t>(k + 1) * W::kBytes) : 0.0F;
  return make_float2(first, second);
}
__device__ __forceinline__ float2 inputs_at(const float* row, unsigned k, unsigned inputs) {
  return weights_at<F32>(reinterpret_cast<const std::byte*>(row), k, inputs);
}

// Rows x Outputs products by eight lanes.
template <class W, unsigned Rows, unsigned Outputs>
__device__ __forceinline__ void products(const std::byte* const (&w)[Outputs], const float* const (&x)[Rows],
                                         std::uint32_t inputs, float (&sums)[Outputs][Rows]) {
  float2 partial[Outputs][Rows] = {};
#pragma unroll 4
  for (unsigned k = threadIdx.x % kLanes * 2; k < (inputs + 15) / 16 * 16; k += 16) {
    float2 of_w[Outputs];
#pragma unroll
    for (unsigned o = 0; o < Outputs; ++o) of_w[o] = weights_at<W>(w[o], k, inputs);
#pragma unroll
    for (unsigned r = 0; r < Rows; ++r) {
      const float2 of_x = inputs_at(x[r], k, inputs);
#pragma unroll
      for (unsigned o = 0; o < Outputs; ++o) {
        partial[o][r].x = __fmaf_rn(of_w[o].x, of_x.x, partial[o][r].x);
        partial[o][r].y = __fmaf_rn(of_w[o].y, of_x.y, partial[o][r].y);
      }
    }
  }
#pragma unroll
  for (unsigned o = 0; o < Outputs; ++o) {
#pragma unroll
    for (unsigned r = 0; r < Rows; ++r) {
      float2 sum = partial[o][r];
#pragma unroll
      for (int distance = 4; distance > 0; distance /= 2) {
        sum.x = __fadd_rn(sum.x, __shfl_xor_sync(0xFFFFFFFFU, sum.x, distance));
        sum.y = __fadd_rn(sum.y, __shfl_xor_sync(0xFFFFFFFFU, sum.y, distance));
      }
      sums[o][r] = __fadd_rn(sum.x, sum.y);
    }
  }
}

template <class W, unsigned Rows, unsigned Outputs>
__global__ void __launch_bounds__(kThreads) expert_kernel(Arguments a) {
  launch_dependents();
  wait_for_previous();
  if (blockIdx.x >= *a.tile_count) return;
  const ExpertTile tile = a.tiles[blockIdx.x];
  const DeviceExpert expert = a.experts[tile.expert];
  const std::byte* const weights = a.part == ExpertPart::gate ? expert.gate
                                   : a.part == ExpertPart::up ? expert.up
                                                              : expert.down;
  const unsigned first = (blockIdx.y * kGroups + threadIdx.x / kLanes) * Outputs;
  const std::byte* w[Outputs];
#pragma unroll
  for (unsigned o = 0; o < Outputs; ++o)
    w[o] = weights + static_cast<std::size_t>(min(first + o, a.outputs - 1)) * a.inputs * W::kBytes;
  for (unsigned done = 0; done < tile.count; done += Rows) {
    const float* x[Rows];
#pragma unroll
    for (unsigned r = 0; r < Rows; ++r) {
      const unsigned place = tile.first + min(done + r, tile.count - 1);
      x[r] = a.x + static_cast<std::size_t>(a.row_of == nullptr ? place : a.row_of[place]) * a.inputs;
    }
    float sums[Outputs][Rows];
    products<W, Rows, Outputs>(w, x, a.inputs, sums);
#pragma unroll
    for (unsigned o = 0; o < Outputs; ++o) {
#pragma unroll
      for (unsigned r = 0; r < Rows; ++r)
        if (threadIdx.x % kLanes == r % kLanes && done + r < tile.count && first + o < a.outputs)
          a.y[static_cast<std::size_t>(tile.first + done + r) * a.outputs + first + o] = sums[o][r];
    }
  }
}

template <class W, unsigned Rows, unsigned Outputs>
cudaError_t launch_experts(const Arguments& a, std::uint32_t tiles, cudaStream_t stream) {
  constexpr unsigned kOutputs = kGroups * Outputs;
  return launch({.grid = dim3(tiles, (a.outputs + kOutputs - 1) / kOutputs), .block = dim3(kThreads), .overlap = true},
                stream, expert_kernel<W, Rows, Outputs>, a);
}

// One row reads weights as fast as it can; many share what they have read.
template <class W>
cudaError_t launch_experts(const Arguments& a, std::uint32_t tile_rows, std::uint32_t tiles, cudaStream_t stream) {
  if (tile_rows == 1) return launch_experts<W, 1, 1>(a, tiles, stream);
  if (tile_rows <= kRows) return launch_experts<W, kRows, 1>(a, tiles, stream);
  return launch_experts<W, kRows, 4>(a, tiles, stream);
}

__global__ void gated_kernel(float* gate, const float* up, std::size_t count) {
  launch_dependents();
  wait_for_previous();
  const std::size_t i = static_cast<std::size_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i < count) gate[i] = swiglu(gate[i], up[i]);
}

}  // namespace

cudaError_t expert_floats(const ExpertArguments& arguments, ExpertPart part, TensorType type, float* y,
                          cudaStream_t stream) {
  const Arguments a = {.part = part,
                       .inputs = arguments.inputs,
                       .outputs = arguments.outputs,
                       .tiles = arguments.lists.tiles,
                       .tile_count = arguments.lists.tile_count,
                       .experts = arguments.experts_table,
                       .row_of = part == ExpertPart::down ? nullptr : arguments.lists.row_of,
                       .x = arguments.x.f32,
                       .y = y};
  if (a.x == nullptr) return cudaErrorInvalidValue;
  const std::uint32_t tiles = max_expert_tiles(arguments.rows, arguments.used, arguments.experts, arguments.tile_rows);
  if (type == TensorType::f32) return launch_experts<F32>(a, arguments.tile_rows, tiles, stream);
  if (type == TensorType::f16) return launch_experts<F16>(a, arguments.tile_rows, tiles, stream);
  if (type == TensorType::bf16) return launch_experts<BF16>(a, arguments.tile_rows, tiles, stream);
  return cudaErrorNotSupported;
}

cudaError_t multiply_gated(float* gate, const float* up, std::size_t count, cudaStream_t stream) {
  return launch({.grid = dim3(static_cast<unsigned>((count + kThreads - 1) / kThreads)),
                 .block = dim3(kThreads),
                 .overlap = true},
                stream, gated_kernel, gate, up, count);
}

}  // namespace sirocco::cuda

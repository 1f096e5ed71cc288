// Attention's last part: the parts of each row and head are folded in ascending order of their splits, and the row is
// quantised for the matrix that it meets.
#include "kernels/cuda/attention.cuh"

#include "kernels/cuda/attention_tile.cuh"
#include "kernels/cuda/quantise.cuh"

namespace sirocco::cuda {
namespace {

// Rows that are worth the memory for parts of every split. With more, there are enough tiles to keep a device busy.
constexpr std::uint32_t kSplitRows = 16;

constexpr unsigned kWarps = 4;
constexpr unsigned kRun = 8;    // elements of a lane; head_dim is a multiple of it
constexpr unsigned kAhead = 8;  // parts that are read at once

// kAhead parts of one row and head, kRun dimensions.
struct Batch {
  PartSums sums[kAhead];
  float4 values[kAhead][2];

  // Parts [index, last], as many as there are; d: the first dimension.
  __device__ __forceinline__ void load(const Parts& parts, std::size_t index, std::size_t last, std::size_t head_dim,
                                       std::uint32_t d) {
#pragma unroll
    for (unsigned i = 0; i < kAhead; ++i) {
      if (index + i > last) break;
      sums[i] = parts.sums[index + i];
      const auto* from = reinterpret_cast<const float4*>(parts.outputs + (index + i) * head_dim + d);
      values[i][0] = from[0];
      values[i][1] = from[1];
    }
  }

  // The first `count` of them.
  __device__ __forceinline__ void fold_into(PartSums& state, float (&output)[kRun], std::size_t count) const {
#pragma unroll
    for (unsigned i = 0; i < kAhead; ++i) {
      if (i >= count || sums[i].sum == 0) continue;  // of no keys
      const FoldFactors factors = fold(sums[i], state);
      const float added[kRun] = {values[i][0].x, values[i][0].y, values[i][0].z, values[i][0].w,
                                 values[i][1].x, values[i][1].y, values[i][1].z, values[i][1].w};
#pragma unroll
      for (unsigned k = 0; k < kRun; ++k) output[k] = fmaf(output[k], factors.before, added[k] * factors.added);
    }
  }
};

// The output of one row and head, kRun dimensions from d on, of parts [first, last]. A batch is on its way while the
// one before is folded.
__device__ void fold_parts(const AttentionArguments& a, std::size_t first, std::size_t last, std::uint32_t d,
                           float (&output)[kRun]) {
  const Parts parts = parts_of(a);
  PartSums state;
  Batch batches[2];
  batches[0].load(parts, first, last, a.head_dim, d);
  for (std::size_t index = first; index <= last; index += 2 * kAhead) {
#pragma unroll
    for (unsigned i = 0; i < 2; ++i) {
      const std::size_t now = index + i * kAhead;
      batches[1 - i].load(parts, now + kAhead, last, a.head_dim, d);
      if (now <= last) batches[i].fold_into(state, output, last - now + 1);
    }
  }
#pragma unroll
  for (float& value : output) value = __fdiv_rn(value, state.sum);
}

// A warp takes a chunk of 256 elements of a row, each lane kRun in a run; zeros are behind the last.
__global__ void __launch_bounds__(32 * kWarps) combine_kernel(AttentionArguments a, bool walked) {
  const std::uint32_t row = blockIdx.y;
  const std::uint32_t width = a.heads * a.head_dim;
  const std::uint32_t chunks = (width + kTileInputs - 1) / kTileInputs;
  const std::uint32_t chunk = blockIdx.x * kWarps + threadIdx.x / 32;
  const std::uint32_t element = chunk * kTileInputs + threadIdx.x % 32 * kRun;
  launch_dependents();
  wait_for_previous();
  if (chunk >= chunks) return;
  float output[kRun] = {};
  if (element < width) {
    const Sight sight = sight_of(a.window, a.step.positions[row]);
    const std::uint32_t count = walked ? 1 : sight.last / kAttentionSplit - sight.first / kAttentionSplit + 1;
    const std::size_t first = part_index(a, row, element / a.head_dim, 0);
    fold_parts(a, first, first + count - 1, element % a.head_dim, output);
    if (a.mixed != nullptr) {
      auto* to = reinterpret_cast<float4*>(a.mixed + static_cast<std::size_t>(row) * width + element);
      to[0] = make_float4(output[0], output[1], output[2], output[3]);
      to[1] = make_float4(output[4], output[5], output[6], output[7]);
    }
  }
  __syncwarp();
  quantise_chunk(output, row, chunk, chunks, a.q8_32, a.q8_256);
}

cudaError_t combine(const AttentionArguments& a, bool walked, cudaStream_t stream) {
  const std::uint32_t chunks = (a.heads * a.head_dim + kTileInputs - 1) / kTileInputs;
  const Dims dims{.grid = dim3((chunks + kWarps - 1) / kWarps, a.rows), .block = dim3(32 * kWarps), .overlap = true};
  return launch(dims, stream, combine_kernel, a, walked);
}

}  // namespace

std::size_t attention_part_bytes(std::uint32_t rows, std::uint32_t heads, std::uint32_t head_dim,
                                 std::uint32_t splits) {
  const std::size_t parts = static_cast<std::size_t>(rows) * heads * (rows <= kSplitRows ? splits : 1);
  return parts * (head_dim * sizeof(float) + sizeof(PartSums)) + (1 + rows) * sizeof(std::uint32_t);
}

cudaError_t attend(const AttentionArguments& arguments, cudaStream_t stream) {
  AttentionArguments a = arguments;
  const bool q8_0 = a.kv.type == TensorType::q8_0;
  if (a.rows == 0 || a.kv_heads == 0 || a.heads % a.kv_heads != 0 || a.splits == 0) return cudaErrorInvalidValue;
  if (a.head_dim == 0 || a.head_dim > 256 || a.head_dim % (q8_0 ? 32 : 16) != 0) return cudaErrorInvalidValue;
  if (!q8_0 && a.kv.type != TensorType::f16) return cudaErrorInvalidValue;

  const bool walks = a.rows > kSplitRows;
  if (walks) a.splits = 1;
  if (const cudaError_t error = walks ? attend_walk(a, stream) : attend_splits(a, stream)) return error;
  return combine(a, walks, stream);
}

}  // namespace sirocco::cuda

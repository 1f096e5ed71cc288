// Weights from the file's layout to tiles: the function of a tile's bytes that the host uses as well, a thread a byte.
#include "kernels/cuda/copy_bytes.h"
#include "kernels/cuda/cu.cuh"
#include "kernels/cuda/kernels.h"
#include "kernels/cuda/tile_layout.h"

namespace sirocco::cuda {
namespace {

constexpr unsigned kThreads = 256;

struct Blocks {
  const std::byte* data;
  std::uint32_t inputs;
  std::uint32_t outputs;
  std::byte* tiles;
};

// Block (c, o) makes the tile of chunk c and tile row o.
template <class Block>
__global__ void __launch_bounds__(kThreads) repack_kernel(Blocks a) {
  CU_SHARED(const Block*, rows, [kTileOutputs]);
  constexpr auto kBlock = static_cast<unsigned>(TileLayout<Block>::kBlock);
  constexpr auto kBytes = static_cast<unsigned>(TileLayout<Block>::kBytes);
  const unsigned input = blockIdx.x * kTileInputs;
  if (threadIdx.x < kTileOutputs) {
    const unsigned output = blockIdx.y * kTileOutputs + threadIdx.x;
    const std::size_t block = static_cast<std::size_t>(output) * (a.inputs / kBlock) + input / kBlock;
    rows[threadIdx.x] = output < a.outputs ? reinterpret_cast<const Block*>(a.data) + block : nullptr;
  }
  __syncthreads();
  const unsigned here = min(kTileInputs, a.inputs - input);
  std::byte* const tile = a.tiles + (static_cast<std::size_t>(blockIdx.y) * gridDim.x + blockIdx.x) * kBytes;
  for (unsigned at = threadIdx.x; at < kBytes; at += kThreads)
    tile[at] = static_cast<std::byte>(tile_byte<Block>(rows, here, at));
}

}  // namespace

cudaError_t repack(const RepackArguments& arguments, cudaStream_t stream) {
  const Matrix& m = arguments.matrix;
  if (tile_bytes(m.type) == 0)  // floats stay as they are
    return copy_bytes(m.data, arguments.tiles, matrix_bytes(m.type, m.inputs, m.outputs), stream);
  const Blocks blocks = {.data = m.data,
                         .inputs = static_cast<std::uint32_t>(m.inputs),
                         .outputs = static_cast<std::uint32_t>(m.outputs),
                         .tiles = arguments.tiles};
  const dim3 grid(static_cast<unsigned>(padded(m.inputs, kTileInputs) / kTileInputs),
                  static_cast<unsigned>(padded(m.outputs, kTileOutputs) / kTileOutputs));
  cudaError_t error = cudaErrorNotSupported;
  with_block(m.type, [&](auto* block) {
    error =
        launch({.grid = grid, .block = dim3(kThreads)}, stream, repack_kernel<std::decay_t<decltype(*block)>>, blocks);
  });
  return error;
}

}  // namespace sirocco::cuda

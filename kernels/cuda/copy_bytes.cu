#include "kernels/cuda/copy_bytes.h"

#include "kernels/cuda/cu.cuh"

namespace sirocco::cuda {
namespace {

constexpr unsigned kThreads = 256;
constexpr unsigned kMostBlocks = 256;

struct Run {
  const std::byte* from;
  std::byte* to;
  std::size_t bytes;
};

// Words of 16 bytes where both ends are aligned to that, then single bytes.
__global__ void __launch_bounds__(kThreads) copy_kernel(Run a) {
  const std::size_t thread = static_cast<std::size_t>(blockIdx.x) * kThreads + threadIdx.x;
  const std::size_t threads = static_cast<std::size_t>(gridDim.x) * kThreads;
  const bool aligned = (reinterpret_cast<std::uintptr_t>(a.from) | reinterpret_cast<std::uintptr_t>(a.to)) % 16 == 0;
  const std::size_t words = aligned ? a.bytes / 16 : 0;
  for (std::size_t i = thread; i < words; i += threads)
    reinterpret_cast<uint4*>(a.to)[i] = reinterpret_cast<const uint4*>(a.from)[i];
  for (std::size_t i = words * 16 + thread; i < a.bytes; i += threads) a.to[i] = a.from[i];
}

}  // namespace

cudaError_t copy_bytes(const std::byte* from, std::byte* to, std::size_t bytes, cudaStream_t stream) {
  if (bytes == 0) return cudaSuccess;
  const std::size_t wanted = (bytes / 16 + kThreads) / kThreads;
  const auto blocks = static_cast<unsigned>(wanted < kMostBlocks ? wanted : kMostBlocks);
  return launch({.grid = dim3(blocks), .block = dim3(kThreads)}, stream, copy_kernel,
                Run{.from = from, .to = to, .bytes = bytes});
}

}  // namespace sirocco::cuda

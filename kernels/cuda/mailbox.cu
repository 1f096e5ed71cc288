// Experts that are not in device memory: a layer's question to the host, and the answer. The question holds what the
// host computes with, so that nothing else of the step needs to be known there.
#include "kernels/cuda/cu.cuh"
#include "kernels/cuda/kernels.h"

namespace sirocco::cuda {
namespace {

constexpr unsigned kThreads = 256;
constexpr unsigned kMostCollecting = 64;  // blocks, each of which asks for the answer

__device__ bool is_missing(const MailArguments& a, std::uint32_t expert) {
  return a.experts_table == nullptr || a.experts_table[expert].gate == nullptr;
}

// By all threads of the block.
__device__ void copy_row(const float* from, float* to, std::uint32_t width) {
  for (unsigned i = threadIdx.x; i < width; i += kThreads) to[i] = from[i];
}

// Lists the missing experts, by one warp; returns how many there are.
__device__ std::uint32_t list_missing(const MailArguments& a) {
  const unsigned lane = threadIdx.x % 32;
  std::uint32_t found = 0;
  for (unsigned begin = 0; begin < a.experts; begin += 32) {
    const unsigned expert = begin + lane;
    std::uint32_t first = 0;
    std::uint32_t count = 0;
    if (expert < a.experts) {
      first = a.lists.first[expert];
      count = a.lists.first[expert + 1] - first;
      a.mailbox.rows_of_expert[a.layer * a.experts + expert] = count;
    }
    const bool missing = count != 0 && is_missing(a, expert);
    const std::uint32_t all = __ballot_sync(0xFFFFFFFFU, static_cast<int>(missing));
    if (missing)
      a.mailbox.experts[found + static_cast<unsigned>(__popc(all & ((1U << lane) - 1)))] = {expert, first, count};
    found += static_cast<unsigned>(__popc(all));
  }
  return found;
}

// By one block, when all rows are there.
__device__ void post(const MailArguments& a) {
  const Mailbox& box = a.mailbox;
  CU_SHARED(std::uint32_t, missing, [1]);
  if (threadIdx.x < 32) {
    const std::uint32_t found = list_missing(a);
    if (threadIdx.x == 0) missing[0] = *box.missing_now = found;
  }
  __syncthreads();
  if (missing[0] == 0 && !a.always) return;
  for (unsigned place = threadIdx.x; place < a.rows * a.used; place += kThreads)
    box.row_of[place] = a.lists.row_of[place];
  __threadfence_system();
  __syncthreads();
  if (threadIdx.x != 0) return;
  *box.layer = a.layer;
  *box.missing = missing[0];
  const std::uint32_t number = *box.posts + 1;
  *box.posts = number;
  __threadfence_system();
  store_release_system(box.posted, number);
}

// Block r copies row r, if it meets a missing expert; the last one to be done posts.
__global__ void __launch_bounds__(kThreads) post_kernel(MailArguments a) {
  CU_SHARED(std::uint32_t, last, [1]);
  launch_dependents();
  wait_for_previous();
  const std::size_t row = blockIdx.x;
  bool wanted = false;
  for (unsigned i = 0; i < a.used; ++i) wanted = wanted || is_missing(a, a.lists.chosen[row * a.used + i]);
  if (wanted && a.x != nullptr) copy_row(a.x + row * a.width, a.mailbox.rows + row * a.width, a.width);
  __threadfence_system();
  __syncthreads();
  if (threadIdx.x == 0) last[0] = atomicInc(a.mailbox.blocks_done, gridDim.x - 1) == gridDim.x - 1 ? 1 : 0;
  __syncthreads();
  if (last[0] == 0) return;
  __threadfence_system();
  post(a);
}

// Does not let the next kernel start before it ends: that one's blocks would hold the multiprocessors while the host
// computes.
__global__ void __launch_bounds__(kThreads) collect_kernel(MailArguments a) {
  CU_SHARED(std::uint32_t, answered, [1]);
  wait_for_previous();
  const Mailbox& box = a.mailbox;
  if (*box.missing_now == 0) return;
  if (threadIdx.x == 0) answered[0] = await_host(box.answered, *box.posts, kHostGaveUp) ? 1 : 0;
  __syncthreads();
  if (answered[0] == 0) return;
  for (unsigned i = blockIdx.x; i < a.rows * a.used; i += gridDim.x) {
    if (!is_missing(a, a.lists.chosen[i])) continue;
    const std::size_t at = static_cast<std::size_t>(a.lists.place[i]) * a.width;
    copy_row(box.out + at, a.expert_out + at, a.width);
  }
}

}  // namespace

cudaError_t post_missing(const MailArguments& arguments, cudaStream_t stream) {
  if (arguments.rows == 0) return cudaErrorInvalidValue;
  return launch({.grid = dim3(arguments.rows), .block = dim3(kThreads), .overlap = true}, stream, post_kernel,
                arguments);
}

cudaError_t collect_missing(const MailArguments& arguments, cudaStream_t stream) {
  if (arguments.rows == 0 || arguments.experts_table == nullptr) return cudaErrorInvalidValue;
  const unsigned assignments = arguments.rows * arguments.used;
  const unsigned blocks = assignments < kMostCollecting ? assignments : kMostCollecting;
  return launch({.grid = dim3(blocks), .block = dim3(kThreads), .overlap = true}, stream, collect_kernel, arguments);
}

}  // namespace sirocco::cuda

#include "tests/unit/cuda_emulator/kernels.h"

#include <cooperative_groups.h>

#include "kernels/cuda/cu.cuh"

namespace sirocco::test {

using cuda::launch;

namespace {

constexpr unsigned kAllLanes = 0xffffffffu;

__device__ float warp_sum(float v) {
  for (int distance = 16; distance > 0; distance /= 2) v += __shfl_xor_sync(kAllLanes, v, distance);
  return v;
}

template <Bug kBug>
__global__ void row_sums_kernel(const float* x, float* out, int rows, int n) {
  const int row = static_cast<int>(blockIdx.x * 4 + threadIdx.x / 32);
  const int lane = static_cast<int>(threadIdx.x % 32);
  if (row >= rows) return;
  float sum = 0;
  for (int i = lane; kBug == Bug::off_by_one ? i <= n : i < n; i += 32) sum += __ldg(&x[row * n + i]);
  sum = warp_sum(sum);
  if (lane == 0) out[row] = sum;
}

template <Bug kBug>
__global__ void row_argmax_kernel(const float* x, float* out, int* where, int n) {
  CU_DYN_SHARED(float, values);  // [threads]
  CU_SHARED(float, greatest, [32]);
  CU_SHARED(int, index, [32]);
  const int thread = static_cast<int>(threadIdx.x);
  const int threads = static_cast<int>(blockDim.x);
  if (kBug == Bug::divergent && thread >= n) return;
  values[thread] = thread < n ? x[static_cast<int>(blockIdx.x) * n + thread] : -INFINITY;
  __syncthreads();
  int best = (thread + 1) % threads;  // another thread's, so that the barrier matters
  float value = values[best];
  for (int distance = 16; distance > 0; distance /= 2) {
    const float other = __shfl_xor_sync(kAllLanes, value, distance);
    const int other_index = __shfl_xor_sync(kAllLanes, best, distance);
    if (other > value || (other == value && other_index < best)) {
      value = other;
      best = other_index;
    }
  }
  if (thread % 32 == 0) {
    greatest[thread / 32] = value;
    index[thread / 32] = best;
  }
  if (kBug != Bug::no_sync) __syncthreads();
  if (thread == 0) {
    for (int warp = 1; warp < threads / 32; ++warp) {
      if (greatest[warp] > value) {
        value = greatest[warp];
        best = index[warp];
      }
    }
    out[blockIdx.x] = value;
    where[blockIdx.x] = best;
  }
}

constexpr int kPageRows = 16;
constexpr int kPageWidth = 64;

template <Bug kBug>
__global__ void paged_sum_kernel(const __half* x, const int* pages, float* out, int rows) {
  CU_SHARED(__half, page, [kPageRows][kPageWidth]);
  CU_SHARED(float, sums, [kPageRows]);
  const int thread = static_cast<int>(threadIdx.x);
  float result = 0;
  for (int first = 0; first < rows; first += kPageRows) {
    const __half* from = x + pages[first / kPageRows] * kPageRows * kPageWidth;
    for (int i = thread; i < kPageRows * kPageWidth / 8; i += kPageWidth) {
      cuda::cp_async16(&page[0][0] + i * 8, from + i * 8);
    }
    cuda::cp_async_commit();
    if (kBug != Bug::no_copy_wait) cuda::cp_async_wait<0>();
    __syncthreads();
    const int here = min(kPageRows, rows - first);
    for (int row = thread / 32; row < here; row += 2) {
      const int lane = thread % 32;
      const float sum = warp_sum(__half2float(page[row][lane]) + __half2float(page[row][lane + 32]));
      if (lane == 0) sums[row] = sum;
    }
    __syncthreads();
    const int added = kBug == Bug::uninit ? kPageRows : here;
    for (int row = 0; row < added; ++row) result += sums[row] * __half2float(page[row][thread]);
    if (kBug != Bug::war) __syncthreads();
    if (kBug == Bug::no_copy_wait) cuda::cp_async_wait<0>();
  }
  out[thread] = result;
}

template <Bug kBug>
__global__ void multiply_f16_kernel(const __half* a, const __half* b, float* c, int n, int k) {
  CU_SHARED(__half, tile, [16][16]);
  const int lane = static_cast<int>(threadIdx.x);
  const int g = lane / 4;
  const int t = lane % 4;
  const int row = static_cast<int>(blockIdx.y) * 16;
  const int column = static_cast<int>(blockIdx.x) * 8;
  float sums[4] = {0, 0, 0, 0};
  for (int first = 0; first < k; first += 16) {
    const __half* from = a + (row + lane / 2) * k + first + lane % 2 * 8;
    *reinterpret_cast<int4*>(&tile[lane / 2][lane % 2 * 8]) = *reinterpret_cast<const int4*>(from);
    if (kBug != Bug::no_syncwarp) __syncwarp();
    std::uint32_t fragment_a[4];
    std::uint32_t fragment_b[2];
    cuda::ldmatrix_x4(fragment_a, &tile[lane % 16][lane / 16 * 8]);
    for (int i = 0; i < 2; ++i) {
      fragment_b[i] = *reinterpret_cast<const std::uint32_t*>(b + (column + g) * k + first + t * 2 + 8 * i);
    }
    cuda::mma_f16(sums, fragment_a, fragment_b);
    __syncwarp();
  }
  for (int i = 0; i < 4; ++i) c[(row + g + 8 * (i / 2)) * n + column + t * 2 + i % 2] = sums[i];
}

__device__ std::uint32_t word_of(const std::int8_t* p) {
  return *reinterpret_cast<const std::uint32_t*>(p);
}

template <bool kShortSteps>
__global__ void multiply_s8_kernel(const std::int8_t* a, const std::int8_t* b, int* c, int n, int k) {
  const int lane = static_cast<int>(threadIdx.x);
  const int g = lane / 4;
  const int t = lane % 4;
  const std::int8_t* row = a + (static_cast<int>(blockIdx.y) * 16 + g) * k + t * 4;
  const std::int8_t* column = b + (static_cast<int>(blockIdx.x) * 8 + g) * k + t * 4;
  int sums[4] = {0, 0, 0, 0};
  for (int first = 0; first < k; first += kShortSteps ? 16 : 32) {
    if constexpr (kShortSteps) {
      const std::uint32_t fragment_a[2] = {word_of(row + first), word_of(row + 8 * k + first)};
      cuda::mma_s8_k16(sums, fragment_a, word_of(column + first));
    } else {
      const std::uint32_t fragment_a[4] = {word_of(row + first), word_of(row + 8 * k + first),
                                           word_of(row + first + 16), word_of(row + 8 * k + first + 16)};
      const std::uint32_t fragment_b[2] = {word_of(column + first), word_of(column + first + 16)};
      cuda::mma_s8(sums, fragment_a, fragment_b);
    }
  }
  for (int i = 0; i < 4; ++i) {
    c[(static_cast<int>(blockIdx.y) * 16 + g + 8 * (i / 2)) * n + static_cast<int>(blockIdx.x) * 8 + t * 2 + i % 2] =
        sums[i];
  }
}

__global__ void transpose_kernel(const __half* x, __half* transposed) {
  CU_SHARED(__half, tile, [16][16]);
  const int lane = static_cast<int>(threadIdx.x);
  *reinterpret_cast<int4*>(&tile[lane / 2][lane % 2 * 8]) =
      *reinterpret_cast<const int4*>(x + lane / 2 * 16 + lane % 2 * 8);
  __syncwarp();
  // Matrix 2 i + j of x4: rows 8 i.., columns 8 j..; the same of x2, for i = 0, must agree.
  std::uint32_t four[4];
  std::uint32_t two[2];
  cuda::ldmatrix_x4_trans(four, &tile[lane / 16 * 8 + lane % 8][lane / 8 % 2 * 8]);
  cuda::ldmatrix_x2_trans(two, &tile[lane % 8][lane / 8 % 2 * 8]);
  if (two[0] != four[0] || two[1] != four[1]) __trap();
  for (int matrix = 0; matrix < 4; ++matrix) {
    const int column = matrix % 2 * 8 + lane / 4;  // of x
    const int row = matrix / 2 * 8 + lane % 4 * 2;
    *reinterpret_cast<std::uint32_t*>(&transposed[column * 16 + row]) = four[matrix];
  }
}

template <Bug kBug>
__global__ void grid_sum_kernel(const float* x, float* parts, float* out, int n) {
  CU_SHARED(float, warps, [8]);
  float sum = 0;
  for (unsigned i = blockIdx.x * blockDim.x + threadIdx.x; i < static_cast<unsigned>(n); i += gridDim.x * blockDim.x) {
    sum += x[i];
  }
  sum = warp_sum(sum);
  if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = sum;
  __syncthreads();
  if (threadIdx.x == 0) {
    float part = 0;
    for (unsigned i = 0; i < blockDim.x / 32; ++i) part += warps[i];
    parts[blockIdx.x] = part;
  }
  if (kBug != Bug::grid_race) cooperative_groups::this_grid().sync();
  if (blockIdx.x == 0 && threadIdx.x == 0) {
    float whole = 0;
    for (unsigned i = 0; i < gridDim.x; ++i) whole += parts[i];
    *out = whole;
  }
}

__global__ void add_scaled_kernel(const float* x, float* y, float a, int n) {
  const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (i < n) y[i] += a * x[i];
}

dim3 blocks(int n, int unit) {
  return dim3(static_cast<unsigned>((n + unit - 1) / unit));
}

__global__ void wait_kernel(const std::uint32_t* word, std::uint32_t* out) {
  if (threadIdx.x == 0 && cuda::await_host(word, 1, 1)) *out = 1;
}

}  // namespace

cudaError_t row_sums(Bug bug, const float* x, float* out, int rows, int n, cudaStream_t stream) {
  auto* kernel = bug == Bug::off_by_one ? row_sums_kernel<Bug::off_by_one> : row_sums_kernel<Bug::none>;
  return launch({blocks(rows, 4), dim3(128)}, stream, kernel, x, out, rows, n);
}

cudaError_t row_argmax(Bug bug, const float* x, float* out, int* where, int rows, int n, cudaStream_t stream) {
  auto* kernel = bug == Bug::no_sync     ? row_argmax_kernel<Bug::no_sync>
                 : bug == Bug::divergent ? row_argmax_kernel<Bug::divergent>
                                         : row_argmax_kernel<Bug::none>;
  const auto threads = static_cast<unsigned>((n + 31) / 32 * 32);
  return launch({blocks(rows, 1), dim3(threads), threads * sizeof(float)}, stream, kernel, x, out, where, n);
}

cudaError_t paged_sum(Bug bug, const __half* x, const int* pages, float* out, int rows, cudaStream_t stream) {
  auto* kernel = bug == Bug::war            ? paged_sum_kernel<Bug::war>
                 : bug == Bug::no_copy_wait ? paged_sum_kernel<Bug::no_copy_wait>
                 : bug == Bug::uninit       ? paged_sum_kernel<Bug::uninit>
                                            : paged_sum_kernel<Bug::none>;
  return launch({dim3(1), dim3(kPageWidth)}, stream, kernel, x, pages, out, rows);
}

cudaError_t multiply_f16(Bug bug, const __half* a, const __half* b, float* c, int m, int n, int k,
                         cudaStream_t stream) {
  auto* kernel = bug == Bug::no_syncwarp ? multiply_f16_kernel<Bug::no_syncwarp> : multiply_f16_kernel<Bug::none>;
  const dim3 grid(static_cast<unsigned>(n / 8), static_cast<unsigned>(m / 16));
  return launch({grid, dim3(32)}, stream, kernel, a, b, c, n, k);
}

cudaError_t multiply_s8(const std::int8_t* a, const std::int8_t* b, int* c, int m, int n, int k, bool short_steps,
                        cudaStream_t stream) {
  const dim3 grid(static_cast<unsigned>(n / 8), static_cast<unsigned>(m / 16));
  return launch({grid, dim3(32)}, stream, short_steps ? multiply_s8_kernel<true> : multiply_s8_kernel<false>, a, b, c,
                n, k);
}

cudaError_t transpose(const __half* x, __half* transposed, cudaStream_t stream) {
  return launch({dim3(1), dim3(32)}, stream, transpose_kernel, x, transposed);
}

cudaError_t grid_sum(Bug bug, const float* x, float* parts, float* out, int n, cudaStream_t stream) {
  auto* kernel = bug == Bug::grid_race ? grid_sum_kernel<Bug::grid_race> : grid_sum_kernel<Bug::none>;
  return launch({.grid = dim3(8), .block = dim3(256), .cooperative = true}, stream, kernel, x, parts, out, n);
}

cudaError_t wait_for_one(const std::uint32_t* word, std::uint32_t* out, cudaStream_t stream) {
  return launch({dim3(1), dim3(32)}, stream, wait_kernel, word, out);
}

cudaError_t add_scaled(const float* x, float* y, float a, int n, cudaStream_t stream) {
  return launch({blocks(n, 128), dim3(128), 0, false, true}, stream, add_scaled_kernel, x, y, a, n);
}

}  // namespace sirocco::test

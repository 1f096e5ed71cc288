// Small kernels, each right (Bug::none) or with one error seeded: what the emulator must catch. Device memory.
#pragma once

#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <cstdint>

namespace sirocco::test {

enum class Bug {
  none,
  off_by_one,    // reads one element beyond the row
  no_sync,       // reads what other warps write, without a barrier
  divergent,     // some threads leave before the last barrier
  war,           // overwrites shared memory that others still read
  no_copy_wait,  // reads what cp.async has not yet brought
  uninit,        // reads shared memory that nobody wrote
  no_syncwarp,   // lanes read what other lanes wrote, without __syncwarp
  grid_race,     // adds up the blocks' parts without a barrier of the grid
};

// out[row] = the sum of x[row, n]; a warp a row.
cudaError_t row_sums(Bug bug, const float* x, float* out, int rows, int n, cudaStream_t stream);
// out[row] = the greatest of x[row, n], and where it is; a block of n threads, rounded up to warps, a row.
cudaError_t row_argmax(Bug bug, const float* x, float* out, int* where, int rows, int n, cudaStream_t stream);
// out[64] = sum over rows of (row's sum) * row, from pages of 16 rows of 64, listed in pages[]; one block of two warps.
cudaError_t paged_sum(Bug bug, const __half* x, const int* pages, float* out, int rows, cudaStream_t stream);
// c[m, n] = a[m, k] b[n, k]^T in f16; a warp a tile of 16 x 8.
cudaError_t multiply_f16(Bug bug, const __half* a, const __half* b, float* c, int m, int n, int k, cudaStream_t stream);
// The same in int8, k in steps of 32 and, if short_steps, of 16.
cudaError_t multiply_s8(const std::int8_t* a, const std::int8_t* b, int* c, int m, int n, int k, bool short_steps,
                        cudaStream_t stream);
// transposed[16, 16] of x[16, 16], by ldmatrix.
cudaError_t transpose(const __half* x, __half* transposed, cudaStream_t stream);
// *out = the sum of x[n]; parts [8]; a cooperative launch.
cudaError_t grid_sum(Bug bug, const float* x, float* parts, float* out, int n, cudaStream_t stream);
// *out = 1, when *word is 1.
cudaError_t wait_for_one(const std::uint32_t* word, std::uint32_t* out, cudaStream_t stream);
// y[n] += a * x[n].
cudaError_t add_scaled(const float* x, float* y, float a, int n, cudaStream_t stream);

}  // namespace sirocco::test

// The twins of cu.cuh's inline PTX, over the warp. Where a matrix's elements lie: PTX ISA, "matrix fragments"; lane
// 4 g + t. Each lane reads shared memory itself, so that the sanitizers see the reader.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#include "cuda_fp16.h"

namespace cudaemu {

template <class Sum, int kA, int kB>
struct Mma {
  Sum* d;
  const std::uint32_t* a;  // [kA]
  const std::uint32_t* b;  // [kB]
};

inline float half_of(std::uint32_t word, int high) {
  const auto bits = static_cast<std::uint16_t>(high != 0 ? word >> 16 : word);
  __half value;
  std::memcpy(static_cast<void*>(&value), &bits, sizeof bits);
  return __half2float(value);
}

// d[16, 8] += a[16, depth] b[depth, 8]: in which element of A and B part e of a lane's register r is.
//   kPerWord  elements of a register: 2 halves or 4 bytes
template <class Argument, class Element, int kDepth, int kPerWord, class Read>
void multiply_fragments(void* const* arguments, Read read) {
  Element a[16][kDepth];
  Element b[kDepth][8];
  for (int lane = 0; lane < 32; ++lane) {
    const auto* own = static_cast<const Argument*>(arguments[lane]);
    const int g = lane / 4;
    const int t = lane % 4;
    for (int k = 0; k < kDepth / (4 * kPerWord); ++k) {
      for (int e = 0; e < kPerWord; ++e) {
        const int input = 4 * kPerWord * k + kPerWord * t + e;
        a[g][input] = read(own->a[2 * k], e);
        a[g + 8][input] = read(own->a[2 * k + 1], e);
        b[input][g] = read(own->b[k], e);
      }
    }
  }
  for (int lane = 0; lane < 32; ++lane) {
    const auto* own = static_cast<const Argument*>(arguments[lane]);
    for (int r = 0; r < 4; ++r) {
      auto sum = decltype(own->d[0] + 0){};
      for (int k = 0; k < kDepth; ++k) sum += a[lane / 4 + 8 * (r / 2)][k] * b[k][lane % 4 * 2 + r % 2];
      own->d[r] += sum;
    }
  }
}

template <int kDepth, int kA, int kB>
void multiply_s8(int* d, const std::uint32_t* a, const std::uint32_t* b, const char* name, const char* file, int line) {
  Mma<int, kA, kB> argument{d, a, b};
  const auto operation = [](void* const* arguments, unsigned) {
    multiply_fragments<Mma<int, kA, kB>, std::int8_t, kDepth, 4>(
        arguments, [](std::uint32_t word, int e) { return static_cast<std::int8_t>(word >> (8 * e)); });
  };
  warp_operation(0xffffffffu, operation, name, &argument, false, file, line);
}

struct RowAddresses {
  const void** all;  // [32]
  const void* row;
};

template <int kMatrices>
void load_matrices(std::uint32_t (&r)[kMatrices], const void* row, bool transposed, const char* file, int line) {
  const void* rows[32];
  RowAddresses argument{rows, row};
  if (current->lane < 8 * kMatrices && reinterpret_cast<std::uintptr_t>(row) % 16 != 0) {
    fail("misaligned", "ldmatrix row %p at %s:%d", row, file, line);
  }
  const auto exchange = [](void* const* arguments, unsigned) {
    for (int i = 0; i < 32; ++i) {
      for (int j = 0; j < 32; ++j) {
        static_cast<RowAddresses*>(arguments[i])->all[j] = static_cast<RowAddresses*>(arguments[j])->row;
      }
    }
  };
  warp_operation(0xffffffffu, exchange, "ldmatrix", &argument, false, file, line);
  const int lane = static_cast<int>(current->lane);
  for (int m = 0; m < kMatrices; ++m) {
    std::uint16_t halves[2];
    for (int e = 0; e < 2; ++e) {
      const int row_index = transposed ? 2 * (lane % 4) + e : lane / 4;
      const int column = transposed ? lane / 4 : 2 * (lane % 4) + e;
      std::memcpy(&halves[e], static_cast<const char*>(rows[8 * m + row_index]) + 2 * column, 2);
    }
    r[m] = static_cast<std::uint32_t>(halves[1]) << 16 | halves[0];
  }
}

}  // namespace cudaemu

namespace sirocco::cuda {

inline void mma_f16(float (&d)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[2], CUDAEMU_LOC) {
  using Argument = cudaemu::Mma<float, 4, 2>;
  Argument argument{d, a, b};
  const auto operation = [](void* const* arguments, unsigned) {
    cudaemu::multiply_fragments<Argument, float, 16, 2>(arguments, cudaemu::half_of);
  };
  cudaemu::warp_operation(0xffffffffu, operation, "mma.m16n8k16.f16", &argument, false, file, line);
}
inline void mma_s8(int (&d)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[2], CUDAEMU_LOC) {
  cudaemu::multiply_s8<32, 4, 2>(d, a, b, "mma.m16n8k32.s8", file, line);
}
inline void mma_s8_k16(int (&d)[4], const std::uint32_t (&a)[2], std::uint32_t b, CUDAEMU_LOC) {
  cudaemu::multiply_s8<16, 2, 1>(d, a, &b, "mma.m16n8k16.s8", file, line);
}

inline void ldmatrix_x4(std::uint32_t (&r)[4], const void* row, CUDAEMU_LOC) {
  cudaemu::load_matrices(r, row, false, file, line);
}
inline void ldmatrix_x4_trans(std::uint32_t (&r)[4], const void* row, CUDAEMU_LOC) {
  cudaemu::load_matrices(r, row, true, file, line);
}
inline void ldmatrix_x2_trans(std::uint32_t (&r)[2], const void* row, CUDAEMU_LOC) {
  cudaemu::load_matrices(r, row, true, file, line);
}

inline std::uint32_t permute_bytes(std::uint32_t low, std::uint32_t high, std::uint32_t selector) {
  const std::uint64_t bytes = static_cast<std::uint64_t>(high) << 32 | low;
  std::uint32_t result = 0;
  for (unsigned i = 0; i < 4; ++i) {
    const std::uint32_t choice = selector >> (4 * i);
    std::uint32_t byte = static_cast<std::uint32_t>(bytes >> (8 * (choice & 7))) & 255;
    if ((choice & 8) != 0) byte = (byte & 128) != 0 ? 255 : 0;
    result |= byte << (8 * i);
  }
  return result;
}

inline void cp_async16(void* to, const void* from) {
  cudaemu::copy_async(to, from, 16);
}
inline void cp_async_commit() {
  cudaemu::copy_async_commit();
}
template <int kPending>
void cp_async_wait() {
  cudaemu::copy_async_wait(kPending);
}

// A barrier counts its complete phases. Every other seed plays a device without these copies.
using RunBarrier = std::uint64_t;
inline bool copies_runs() {
  return cudaemu::seed() % 2 == 0;
}
inline void init_run_barrier(RunBarrier* barrier) {
  __atomic_store_n(barrier, 0, __ATOMIC_RELEASE);
}
inline void copy_run(void* to, const void* from, unsigned bytes, RunBarrier* barrier) {
  std::memcpy(to, from, bytes);
  __atomic_fetch_add(barrier, 1, __ATOMIC_RELEASE);
}
inline void wait_for_run(RunBarrier* barrier, unsigned parity) {
  while ((__atomic_load_n(barrier, __ATOMIC_ACQUIRE) & 1) == parity) cudaemu::yield();
}

inline void store_release_system(std::uint32_t* word, std::uint32_t value) {
  __atomic_store_n(word, value, __ATOMIC_RELEASE);
}
// Here the host and the device take turns: where the host has not answered, the launch ends, and comes again when the
// host asks for its stream.
inline bool await_host(const std::uint32_t* word, std::uint32_t value, std::uint32_t other) {
  const std::uint32_t there = __atomic_load_n(word, __ATOMIC_ACQUIRE);
  if (there == value || there == other) return true;
  cudaemu::ask_again();
  return false;
}

inline void prefetch_l2(const void*) {}
inline float exp2_approx(float x) {
  return std::exp2(x);
}

// Kernels of a stream run one after the other here.
inline void wait_for_previous() {}
inline void launch_dependents() {}

}  // namespace sirocco::cuda

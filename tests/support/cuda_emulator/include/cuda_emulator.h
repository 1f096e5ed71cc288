// The emulator's device side, included by the shim of cuda_runtime.h: one fiber per CUDA thread, one of them at a time.
// What a kernel may use is here and in the three headers at the end; README.md says how it works.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <tuple>
#include <type_traits>
#include <utility>

#define CUDAEMU 1
// Default arguments: the caller's place, for reports.
#define CUDAEMU_LOC const char *file = __builtin_FILE(), int line = __builtin_LINE()

#undef __global__
#undef __device__
#undef __host__
#undef __constant__
#undef __shared__
#undef __launch_bounds__
#undef __grid_constant__
#undef __forceinline__
#undef __noinline__
#define __global__
#define __device__
#define __host__
#define __grid_constant__
#define __launch_bounds__(...)
#define __forceinline__ inline
#define __noinline__
#define __shared__ use_CU_SHARED_instead
#define __constant__ pass_constants_as_kernel_parameters

// The array is a block-wide allocation with red zones, filled with 0xFF at every block's start.
#define CU_SHARED(T, name, ...)      \
  static char name##_key;            \
  using name##_type = T __VA_ARGS__; \
  name##_type& name =                \
      *static_cast<name##_type*>(::cudaemu::shared_array(&name##_key, sizeof(name##_type), alignof(name##_type)))
#define CU_DYN_SHARED(T, name) T* name = static_cast<T*>(::cudaemu::dynamic_shared())

namespace cudaemu {

struct Block;

struct Thread {  // a CUDA thread
  uint3 thread_index{};
  uint3 block_index{};
  unsigned linear = 0;  // of thread_index, within the block
  unsigned lane = 0;
  unsigned warp = 0;
  Block* block = nullptr;
  struct Fiber;
  Fiber* fiber = nullptr;
};
extern Thread* current;  // the running CUDA thread; null on the host

[[noreturn]] void fail(const char* kind, const char* format, ...) __attribute__((format(printf, 2, 3)));

// --- what the intrinsics are made of

enum class Barrier { plain, count, all, any };
int block_sync(Barrier kind, int predicate, const char* file, int line);
void grid_sync(const char* file, int line);
// All lanes of the mask hand in an argument; the last to come runs `operation` over them; then all go on.
using WarpOperation = void (*)(void* const* arguments, unsigned mask);
void warp_operation(unsigned mask, WarpOperation operation, const char* name, void* argument, bool orders_memory,
                    const char* file, int line);
void yield();            // others run: for loops that wait
void yield_sometimes();  // the same, at random: atomics
void fence();
void ask_again();      // what waits for the host: the launch ends, and comes again when the host asks for the stream
std::uint64_t seed();  // CUDAEMU_SEED
void* shared_array(const void* key, std::size_t size, std::size_t alignment);
void* dynamic_shared();
void copy_async(void* to, const void* from, unsigned bytes);
void copy_async_commit();
void copy_async_wait(int pending);

// --- the host's side of a launch

void check_argument(const void* bytes, std::size_t size, int index);
// `body` runs a kernel's thread; called on the host, it checks the arguments (g++: clang 14 cannot tell what padding
// is).
cudaError_t enqueue_kernel(const cudaLaunchConfig_t* config, const void* kernel, std::function<void()> body);

template <class... Parameters, class... Arguments>
cudaError_t launch_kernel(const cudaLaunchConfig_t* config, void (*kernel)(Parameters...), Arguments&&... arguments) {
  std::tuple<std::decay_t<Parameters>...> values(
      static_cast<std::decay_t<Parameters>>(std::forward<Arguments>(arguments))...);
#if __has_builtin(__builtin_clear_padding)
  // What happened to be between the fields of a struct is not to be taken for a pointer.
  std::apply([](auto&... value) { (__builtin_clear_padding(&value), ...); }, values);
#endif
  return enqueue_kernel(config, reinterpret_cast<const void*>(kernel), [kernel, values] {
    if (current == nullptr) {
#if __has_builtin(__builtin_clear_padding)
      int index = 0;
      std::apply([&](const auto&... value) { (check_argument(&value, sizeof value, index++), ...); }, values);
#endif
      return;
    }
    std::apply(kernel, values);
  });
}

}  // namespace cudaemu

#define cudaLaunchKernelEx ::cudaemu::launch_kernel

extern uint3 threadIdx, blockIdx;  // set at every switch of fibers
extern dim3 blockDim, gridDim;
inline constexpr int warpSize = 32;

#define __trap() ::cudaemu::fail("trap", "__trap() at %s:%d", __FILE__, __LINE__)

#include "cuda_emulator_atomics.h"
#include "cuda_emulator_math.h"
#include "cuda_emulator_warp.h"

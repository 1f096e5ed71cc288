// Barriers, fences, shuffles, votes and reductions of a warp. There is no __activemask(): without lockstep it has no
// meaning that a kernel may rely on.
#pragma once

#include <type_traits>

#include "cuda_emulator.h"

inline void __syncthreads(CUDAEMU_LOC) {
  cudaemu::block_sync(cudaemu::Barrier::plain, 0, file, line);
}
inline int __syncthreads_count(int predicate, CUDAEMU_LOC) {
  return cudaemu::block_sync(cudaemu::Barrier::count, predicate, file, line);
}
inline int __syncthreads_and(int predicate, CUDAEMU_LOC) {
  return cudaemu::block_sync(cudaemu::Barrier::all, predicate, file, line);
}
inline int __syncthreads_or(int predicate, CUDAEMU_LOC) {
  return cudaemu::block_sync(cudaemu::Barrier::any, predicate, file, line);
}
inline void __syncwarp(unsigned mask = 0xffffffffu, CUDAEMU_LOC) {
  const auto nothing = [](void* const*, unsigned) {};
  cudaemu::warp_operation(mask, nothing, "__syncwarp", nullptr, true, file, line);
}
inline void __threadfence() {
  cudaemu::fence();
}
inline void __threadfence_block() {
  cudaemu::fence();
}
inline void __threadfence_system() {
  cudaemu::fence();
}
inline void __nanosleep(unsigned) {
  cudaemu::yield();
}

namespace cudaemu {

template <class T>
struct Shuffle {
  T in;
  T out;
  int source;
};

template <class T>
T shuffle(unsigned mask, T value, int source, const char* name, const char* file, int line) {
  static_assert(std::is_trivially_copyable_v<T> && sizeof(T) <= 8, "no shuffle of this type");
  Shuffle<T> argument{value, value, source};
  const auto operation = [](void* const* arguments, unsigned lanes) {
    for (int i = 0; i < 32; ++i) {
      if ((lanes >> i & 1) == 0) continue;
      auto* lane = static_cast<Shuffle<T>*>(arguments[i]);
      if ((lanes >> lane->source & 1) == 0) {
        fail("shuffle-inactive-source", "lane %d reads lane %d, which is not in mask %08x", i, lane->source, lanes);
      }
      lane->out = static_cast<Shuffle<T>*>(arguments[lane->source])->in;
    }
  };
  warp_operation(mask, operation, name, &argument, false, file, line);
  return argument.out;
}

template <class T>
struct Reduction {
  T in;
  T out;
};

template <class Function, class T>
T reduce(unsigned mask, T value, const char* name, const char* file, int line) {
  Reduction<T> argument{value, value};
  const auto operation = [](void* const* arguments, unsigned lanes) {
    const auto of = [&](int i) { return static_cast<Reduction<T>*>(arguments[i]); };
    T result = of(__builtin_ctz(lanes))->in;
    for (int i = __builtin_ctz(lanes) + 1; i < 32; ++i) {
      if (lanes >> i & 1) result = Function{}(result, of(i)->in);
    }
    for (int i = 0; i < 32; ++i) {
      if (lanes >> i & 1) of(i)->out = result;
    }
  };
  warp_operation(mask, operation, name, &argument, false, file, line);
  return argument.out;
}

struct Add {  // wraps, as on the device
  template <class T>
  T operator()(T a, T b) const {
    return static_cast<T>(static_cast<unsigned>(a) + static_cast<unsigned>(b));
  }
};
struct Min {
  template <class T>
  T operator()(T a, T b) const {
    return a < b ? a : b;
  }
};
struct Max {
  template <class T>
  T operator()(T a, T b) const {
    return a > b ? a : b;
  }
};
struct Or {
  unsigned operator()(unsigned a, unsigned b) const { return a | b; }
};
struct And {
  unsigned operator()(unsigned a, unsigned b) const { return a & b; }
};

inline int this_lane() {
  return static_cast<int>(current->lane);
}
inline int segment_of(int lane, int width) {
  return lane & ~(width - 1);
}

}  // namespace cudaemu

template <class T>
T __shfl_sync(unsigned mask, T value, int source, int width = 32, CUDAEMU_LOC) {
  const int first = cudaemu::segment_of(cudaemu::this_lane(), width);
  return cudaemu::shuffle(mask, value, first | (source & (width - 1)), "__shfl_sync", file, line);
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int bits, int width = 32, CUDAEMU_LOC) {
  const int lane = cudaemu::this_lane();
  const int source = lane ^ bits;
  const bool beyond = source >= cudaemu::segment_of(lane, width) + width;
  return cudaemu::shuffle(mask, value, beyond ? lane : source, "__shfl_xor_sync", file, line);
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned distance, int width = 32, CUDAEMU_LOC) {
  const int lane = cudaemu::this_lane();
  const int source = lane + static_cast<int>(distance);
  const bool beyond = source >= cudaemu::segment_of(lane, width) + width;
  return cudaemu::shuffle(mask, value, beyond ? lane : source, "__shfl_down_sync", file, line);
}
template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned distance, int width = 32, CUDAEMU_LOC) {
  const int lane = cudaemu::this_lane();
  const int source = lane - static_cast<int>(distance);
  const bool beyond = source < cudaemu::segment_of(lane, width);
  return cudaemu::shuffle(mask, value, beyond ? lane : source, "__shfl_up_sync", file, line);
}

inline unsigned __ballot_sync(unsigned mask, int predicate, CUDAEMU_LOC) {
  const unsigned bit = predicate != 0 ? 1u << cudaemu::current->lane : 0u;
  return cudaemu::reduce<cudaemu::Or>(mask, bit, "__ballot_sync", file, line);
}
inline int __any_sync(unsigned mask, int predicate, CUDAEMU_LOC) {
  return cudaemu::reduce<cudaemu::Or>(mask, predicate != 0 ? 1u : 0u, "__any_sync", file, line) != 0;
}
inline int __all_sync(unsigned mask, int predicate, CUDAEMU_LOC) {
  return cudaemu::reduce<cudaemu::And>(mask, predicate != 0 ? 1u : 0u, "__all_sync", file, line) != 0;
}
inline int __reduce_add_sync(unsigned mask, int value, CUDAEMU_LOC) {
  return cudaemu::reduce<cudaemu::Add>(mask, value, "__reduce_add_sync", file, line);
}
inline unsigned __reduce_add_sync(unsigned mask, unsigned value, CUDAEMU_LOC) {
  return cudaemu::reduce<cudaemu::Add>(mask, value, "__reduce_add_sync", file, line);
}
inline int __reduce_max_sync(unsigned mask, int value, CUDAEMU_LOC) {
  return cudaemu::reduce<cudaemu::Max>(mask, value, "__reduce_max_sync", file, line);
}
inline unsigned __reduce_max_sync(unsigned mask, unsigned value, CUDAEMU_LOC) {
  return cudaemu::reduce<cudaemu::Max>(mask, value, "__reduce_max_sync", file, line);
}
inline int __reduce_min_sync(unsigned mask, int value, CUDAEMU_LOC) {
  return cudaemu::reduce<cudaemu::Min>(mask, value, "__reduce_min_sync", file, line);
}
inline unsigned __reduce_min_sync(unsigned mask, unsigned value, CUDAEMU_LOC) {
  return cudaemu::reduce<cudaemu::Min>(mask, value, "__reduce_min_sync", file, line);
}
inline unsigned __reduce_or_sync(unsigned mask, unsigned value, CUDAEMU_LOC) {
  return cudaemu::reduce<cudaemu::Or>(mask, value, "__reduce_or_sync", file, line);
}

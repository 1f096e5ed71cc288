// Atomics: relaxed, as on the device, and real ones, so that ThreadSanitizer knows them.
#pragma once

#include <cstdint>
#include <cstring>
#include <type_traits>

#include "cuda_emulator.h"

namespace cudaemu {

// *p = change(*p); returns what was there.
template <class T, class Function>
T read_modify_write(T* p, Function change) {
  static_assert(sizeof(T) == 8 || sizeof(T) == 4 || sizeof(T) == 2);
  yield_sometimes();
  using Word = std::conditional_t<sizeof(T) == 8, std::uint64_t,
                                  std::conditional_t<sizeof(T) == 4, std::uint32_t, std::uint16_t>>;
  auto* word = reinterpret_cast<Word*>(p);
  Word old_word = __atomic_load_n(word, __ATOMIC_RELAXED);
  for (;;) {
    T old_value;
    std::memcpy(static_cast<void*>(&old_value), &old_word, sizeof old_word);
    const T new_value = change(old_value);
    Word new_word;
    std::memcpy(&new_word, static_cast<const void*>(&new_value), sizeof new_word);
    if (__atomic_compare_exchange_n(word, &old_word, new_word, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
      return old_value;
    }
  }
}

}  // namespace cudaemu

template <class T, class V>
T atomicAdd(T* p, V value) {
  return cudaemu::read_modify_write(p, [value](T old) {
    if constexpr (std::is_integral_v<T>) {
      using Unsigned = std::make_unsigned_t<T>;
      return static_cast<T>(static_cast<Unsigned>(old) + static_cast<Unsigned>(static_cast<T>(value)));
    } else {
      return static_cast<T>(old + static_cast<T>(value));
    }
  });
}
template <class T, class V>
T atomicMax(T* p, V value) {
  return cudaemu::read_modify_write(
      p, [value](T old) { return old > static_cast<T>(value) ? old : static_cast<T>(value); });
}
template <class T, class V>
T atomicMin(T* p, V value) {
  return cudaemu::read_modify_write(
      p, [value](T old) { return old < static_cast<T>(value) ? old : static_cast<T>(value); });
}
template <class T, class V>
T atomicExch(T* p, V value) {
  return cudaemu::read_modify_write(p, [value](T) { return static_cast<T>(value); });
}
template <class T, class V>
T atomicOr(T* p, V value) {
  return cudaemu::read_modify_write(p, [value](T old) { return static_cast<T>(old | static_cast<T>(value)); });
}
template <class T, class V>
T atomicCAS(T* p, V expected, V value) {
  return cudaemu::read_modify_write(
      p, [expected, value](T old) { return old == static_cast<T>(expected) ? static_cast<T>(value) : old; });
}
// As the kernels' compare: the last one to count up gets limit and starts again at 0.
template <class T>
T atomicInc(T* p, T limit) {
  return cudaemu::read_modify_write(p, [limit](T old) { return old >= limit ? T{0} : static_cast<T>(old + 1); });
}

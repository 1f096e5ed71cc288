// Arithmetic and bit intrinsics. What is fast and inexact on the device (__expf) is exact to the last bit or so here:
// tests need a tolerance. What is rounded (_rn) is the same bits.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "cuda_emulator.h"

// --- loads and stores with a hint for the caches

template <class T>
T __ldg(const T* p) {
  return *p;
}
template <class T>
T __ldcs(const T* p) {
  return *p;
}
template <class T>
T __ldcg(const T* p) {
  return *p;
}
template <class T>
T __ldca(const T* p) {
  return *p;
}
template <class T>
T __ldlu(const T* p) {
  return *p;
}
template <class T>
void __stcs(T* p, T value) {
  *p = value;
}
template <class T>
void __stcg(T* p, T value) {
  *p = value;
}

// --- dot products: bytes, and bytes with halves, of any mix of signs

namespace cudaemu {

// Element i, of so many bits, of a word; T says whether it is signed.
template <class T>
int element_of(T word, int i, int bits) {
  const auto shifted = static_cast<std::uint32_t>(word) >> (i * bits);
  if (bits == 8) {
    return std::is_signed_v<T> ? static_cast<int>(static_cast<std::int8_t>(shifted)) : static_cast<int>(shifted & 0xff);
  }
  return std::is_signed_v<T> ? static_cast<int>(static_cast<std::int16_t>(shifted))
                             : static_cast<int>(shifted & 0xffff);
}

template <class A, class B, class C>
C dp4a(A a, B b, C c) {
  auto sum = static_cast<std::uint32_t>(c);
  for (int i = 0; i < 4; ++i) sum += static_cast<std::uint32_t>(element_of(a, i, 8) * element_of(b, i, 8));
  return static_cast<C>(sum);
}

// The two halves of a with bytes 0 and 1 (first = 0) or 2 and 3 of b.
template <class A, class B, class C>
C dp2a(A a, B b, C c, int first) {
  auto sum = static_cast<std::uint32_t>(c);
  for (int i = 0; i < 2; ++i) {
    sum += static_cast<std::uint32_t>(element_of(a, i, 16)) * static_cast<std::uint32_t>(element_of(b, first + i, 8));
  }
  return static_cast<C>(sum);
}

template <class To, class From>
To bits_as(From value) {
  static_assert(sizeof(To) == sizeof(From));
  To result;
  std::memcpy(static_cast<void*>(&result), static_cast<const void*>(&value), sizeof result);
  return result;
}

}  // namespace cudaemu

inline int __dp4a(int a, int b, int c) {
  return cudaemu::dp4a(a, b, c);
}
inline unsigned __dp4a(unsigned a, unsigned b, unsigned c) {
  return cudaemu::dp4a(a, b, c);
}
inline int __dp2a_lo(int a, int b, int c) {
  return cudaemu::dp2a(a, b, c, 0);
}
inline unsigned __dp2a_lo(unsigned a, unsigned b, unsigned c) {
  return cudaemu::dp2a(a, b, c, 0);
}
inline int __dp2a_hi(int a, int b, int c) {
  return cudaemu::dp2a(a, b, c, 2);
}
inline unsigned __dp2a_hi(unsigned a, unsigned b, unsigned c) {
  return cudaemu::dp2a(a, b, c, 2);
}

// --- bits

inline int __popc(unsigned v) {
  return __builtin_popcount(v);
}
inline int __clz(int v) {
  return v != 0 ? __builtin_clz(static_cast<unsigned>(v)) : 32;
}
inline int __ffs(int v) {
  return __builtin_ffs(v);
}
inline unsigned __brev(unsigned v) {
  unsigned result = 0;
  for (int i = 0; i < 32; ++i) result |= (v >> i & 1) << (31 - i);
  return result;
}
inline unsigned __byte_perm(unsigned low, unsigned high, unsigned selector) {
  const std::uint64_t bytes = static_cast<std::uint64_t>(high) << 32 | low;
  unsigned result = 0;
  // Three bits of each nibble: the fourth, which is the sign's in PTX (permute_bytes), is ignored here.
  for (int i = 0; i < 4; ++i)
    result |= (static_cast<unsigned>(bytes >> (8 * (selector >> (4 * i) & 7))) & 255) << (8 * i);
  return result;
}
inline unsigned __funnelshift_r(unsigned low, unsigned high, unsigned shift) {
  return static_cast<unsigned>((static_cast<std::uint64_t>(high) << 32 | low) >> (shift & 31));
}
inline unsigned __funnelshift_l(unsigned low, unsigned high, unsigned shift) {
  return static_cast<unsigned>((static_cast<std::uint64_t>(high) << 32 | low) << (shift & 31) >> 32);
}
inline unsigned __vadd4(unsigned a, unsigned b) {
  unsigned result = 0;
  for (int i = 0; i < 32; i += 8) result |= (((a >> i) + (b >> i)) & 255u) << i;
  return result;
}
inline unsigned __vsub4(unsigned a, unsigned b) {
  unsigned result = 0;
  for (int i = 0; i < 32; i += 8) result |= (((a >> i) - (b >> i)) & 255u) << i;
  return result;
}
inline unsigned __vsubss4(unsigned a, unsigned b) {  // signed, saturating
  unsigned result = 0;
  for (int i = 0; i < 4; ++i) {
    const int full = cudaemu::element_of(static_cast<int>(a), i, 8) - cudaemu::element_of(static_cast<int>(b), i, 8);
    const int kept = full < -128 ? -128 : full > 127 ? 127 : full;
    result |= (static_cast<unsigned>(kept) & 255u) << (8 * i);
  }
  return result;
}
inline int __float_as_int(float v) {
  return cudaemu::bits_as<int>(v);
}
inline unsigned __float_as_uint(float v) {
  return cudaemu::bits_as<unsigned>(v);
}
inline float __int_as_float(int v) {
  return cudaemu::bits_as<float>(v);
}
inline float __uint_as_float(unsigned v) {
  return cudaemu::bits_as<float>(v);
}

// --- floats

inline float __fadd_rn(float a, float b) {
  return a + b;
}
inline float __fsub_rn(float a, float b) {
  return a - b;
}
inline float __fmul_rn(float a, float b) {
  return a * b;
}
inline float __fdiv_rn(float a, float b) {
  return a / b;
}
inline float __fmaf_rn(float a, float b, float c) {
  return std::fma(a, b, c);
}
inline float __frcp_rn(float a) {
  return 1.0f / a;
}
inline float __fsqrt_rn(float a) {
  return std::sqrt(a);
}
inline float __frsqrt_rn(float a) {
  return static_cast<float>(1.0 / std::sqrt(static_cast<double>(a)));
}
inline float __fdividef(float a, float b) {
  return a / b;
}
inline float __expf(float a) {
  return std::exp(a);
}
inline float __exp2f(float a) {
  return std::exp2(a);
}
inline float __logf(float a) {
  return std::log(a);
}
inline float __sinf(float a) {
  return std::sin(a);
}
inline float __cosf(float a) {
  return std::cos(a);
}
inline float __saturatef(float a) {
  return a > 0.0f ? (a < 1.0f ? a : 1.0f) : 0.0f;
}
inline float rsqrtf(float a) {
  return 1.0f / std::sqrt(a);
}

inline float __int2float_rn(int v) {
  return static_cast<float>(v);
}
inline float __uint2float_rn(unsigned v) {
  return static_cast<float>(v);
}
// Saturating, and 0 for NaN, as on the device.
inline int __float2int_rn(float v) {
  if (std::isnan(v)) return 0;
  return v >= 2147483648.0f ? INT32_MAX : v < -2147483648.0f ? INT32_MIN : static_cast<int>(std::nearbyint(v));
}
inline int __float2int_rz(float v) {
  if (std::isnan(v)) return 0;
  return v >= 2147483648.0f ? INT32_MAX : v < -2147483648.0f ? INT32_MIN : static_cast<int>(v);
}
inline unsigned __float2uint_rn(float v) {
  return !(v > 0.0f) ? 0u : v >= 4294967296.0f ? UINT32_MAX : static_cast<unsigned>(std::nearbyint(v));
}

template <class T>
constexpr T min(T a, T b) {
  return b < a ? b : a;
}
template <class T>
constexpr T max(T a, T b) {
  return a < b ? b : a;
}

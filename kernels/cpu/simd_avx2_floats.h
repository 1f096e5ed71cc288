// The second half of simd_avx2.h, which includes it: 16 floats, and what makes them of other things.
#pragma once

#include <immintrin.h>

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "kernels/cpu/simd_avx2.h"

namespace sirocco::cpu::SIROCCO_ISA {

SIROCCO_INLINE Floats16 zero_floats() {
  return {_mm256_setzero_ps(), _mm256_setzero_ps()};
}
SIROCCO_INLINE Floats16 broadcast(float value) {
  return {_mm256_set1_ps(value), _mm256_set1_ps(value)};
}
SIROCCO_INLINE Floats16 load_floats(const float* p) {
  return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)};
}
SIROCCO_INLINE void store_floats(float* p, Floats16 x) {
  _mm256_storeu_ps(p, x.a);
  _mm256_storeu_ps(p + 8, x.b);
}
SIROCCO_INLINE Floats16 to_floats(Ints16 x) {
  return {_mm256_cvtepi32_ps(x.a), _mm256_cvtepi32_ps(x.b)};
}
SIROCCO_INLINE Ints16 round_to_ints(Floats16 x) {
  return {_mm256_cvtps_epi32(x.a), _mm256_cvtps_epi32(x.b)};
}
SIROCCO_INLINE Floats16 as_floats(Ints16 x) {
  return {_mm256_castsi256_ps(x.a), _mm256_castsi256_ps(x.b)};
}
SIROCCO_INLINE Ints16 as_ints(Floats16 x) {
  return {_mm256_castps_si256(x.a), _mm256_castps_si256(x.b)};
}
SIROCCO_INLINE Floats16 add(Floats16 x, Floats16 y) {
  return {_mm256_add_ps(x.a, y.a), _mm256_add_ps(x.b, y.b)};
}
SIROCCO_INLINE Floats16 subtract(Floats16 x, Floats16 y) {
  return {_mm256_sub_ps(x.a, y.a), _mm256_sub_ps(x.b, y.b)};
}
SIROCCO_INLINE Floats16 multiply(Floats16 x, Floats16 y) {
  return {_mm256_mul_ps(x.a, y.a), _mm256_mul_ps(x.b, y.b)};
}
SIROCCO_INLINE Floats16 divide(Floats16 x, Floats16 y) {
  return {_mm256_div_ps(x.a, y.a), _mm256_div_ps(x.b, y.b)};
}
SIROCCO_INLINE Floats16 fma(Floats16 x, Floats16 y, Floats16 z) {
  return {_mm256_fmadd_ps(x.a, y.a, z.a), _mm256_fmadd_ps(x.b, y.b, z.b)};
}
SIROCCO_INLINE Floats16 fma_subtract(Floats16 x, Floats16 y, Floats16 z) {
  return {_mm256_fmsub_ps(x.a, y.a, z.a), _mm256_fmsub_ps(x.b, y.b, z.b)};
}
SIROCCO_INLINE Floats16 maximum(Floats16 x, Floats16 y) {
  return {_mm256_max_ps(x.a, y.a), _mm256_max_ps(x.b, y.b)};
}
SIROCCO_INLINE Floats16 minimum(Floats16 x, Floats16 y) {
  return {_mm256_min_ps(x.a, y.a), _mm256_min_ps(x.b, y.b)};
}
SIROCCO_INLINE Ints16 maximum(Ints16 x, Ints16 y) {
  return {_mm256_max_epi32(x.a, y.a), _mm256_max_epi32(x.b, y.b)};
}
SIROCCO_INLINE Ints16 minimum(Ints16 x, Ints16 y) {
  return {_mm256_min_epi32(x.a, y.a), _mm256_min_epi32(x.b, y.b)};
}
SIROCCO_INLINE Ints16 bit_and(Ints16 x, Ints16 y) {
  return {_mm256_and_si256(x.a, y.a), _mm256_and_si256(x.b, y.b)};
}
SIROCCO_INLINE Floats16 select_less(Floats16 x, Floats16 y, Floats16 p, Floats16 q) {
  return {_mm256_blendv_ps(q.a, p.a, _mm256_cmp_ps(x.a, y.a, _CMP_LT_OQ)),
          _mm256_blendv_ps(q.b, p.b, _mm256_cmp_ps(x.b, y.b, _CMP_LT_OQ))};
}
SIROCCO_INLINE Floats16 load_f16(const void* p) {
  const __m256i x = detail::load(p);
  return {_mm256_cvtph_ps(_mm256_castsi256_si128(x)), _mm256_cvtph_ps(_mm256_extracti128_si256(x, 1))};
}
SIROCCO_INLINE void store_f16(void* p, Floats16 x) {
  constexpr int kNearest = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
  detail::store(p, _mm256_set_m128i(_mm256_cvtps_ph(x.b, kNearest), _mm256_cvtps_ph(x.a, kNearest)));
}
SIROCCO_INLINE Floats16 load_bf16(const void* p) {
  const auto half = [](__m128i x) { return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(x), 16)); };
  const __m256i x = detail::load(p);
  return {half(_mm256_castsi256_si128(x)), half(_mm256_extracti128_si256(x, 1))};
}
SIROCCO_INLINE void store_narrow(std::int8_t* p, Ints16 x) {
  const __m256i words = _mm256_permute4x64_epi64(_mm256_packs_epi32(x.a, x.b), 0xD8);
  const __m128i bytes = _mm_packs_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), bytes);
}
namespace detail {
template <class T>
SIROCCO_INLINE T load_as(const std::byte* p) {
  T value;
  std::memcpy(&value, p, sizeof value);
  return value;
}
}  // namespace detail
template <int Stride>
SIROCCO_INLINE Ints16 strided_bytes(const std::byte* p) {
  alignas(16) std::byte bytes[16];
  for (int i = 0; i < 16; ++i) bytes[i] = p[i * Stride];
  const __m128i x = detail::load_128(bytes);
  return {_mm256_cvtepu8_epi32(x), _mm256_cvtepu8_epi32(_mm_srli_si128(x, 8))};
}
template <int Stride>
SIROCCO_INLINE Floats16 strided_f16(const std::byte* p) {
  const auto eight = [](const std::byte* at) {
    const auto word = [&](int i) { return detail::load_as<short>(at + i * Stride); };
    return _mm256_cvtph_ps(_mm_set_epi16(word(7), word(6), word(5), word(4), word(3), word(2), word(1), word(0)));
  };
  return {eight(p), eight(p + 8 * Stride)};
}
template <int Stride>
SIROCCO_INLINE void strided_f16_pairs(const std::byte* p, Floats16& first, Floats16& second) {
  first = strided_f16<Stride>(p);
  second = strided_f16<Stride>(p + 2);
}

namespace detail {
// Dword Index of each 128 bits of a to d: {a, b, c, d}
template <int Index>
SIROCCO_INLINE __m256i take_dwords(__m256i a, __m256i b, __m256i c, __m256i d) {
  const auto pair = [](__m256i x, __m256i y) {
    return Index / 2 == 0 ? _mm256_unpacklo_epi32(x, y) : _mm256_unpackhi_epi32(x, y);
  };
  return Index % 2 == 0 ? _mm256_unpacklo_epi64(pair(a, b), pair(c, d)) : _mm256_unpackhi_epi64(pair(a, b), pair(c, d));
}
}  // namespace detail
template <int Byte>
SIROCCO_INLINE void f16_pairs(const Bytes64* x, Floats16& first, Floats16& second) {
  // Blocks 0, 4, 8, 12, 1, 5, 9, 13 in a; 2, 6, 10, 14, 3, 7, 11, 15 in b.
  const __m256i a = detail::take_dwords<Byte / 4>(x[0].a, x[1].a, x[2].a, x[3].a);
  const __m256i b = detail::take_dwords<Byte / 4>(x[0].b, x[1].b, x[2].b, x[3].b);
  const auto floats = [](__m256i p, __m256i q) {
    // Words 0, 4, 8, 12, 2, 6, 10, 14, 1, 5, 9, 13, 3, 7, 11, 15: a transpose of 4 x 4 away from their order.
    const __m256i words = _mm256_packus_epi32(p, q);
    const __m128i even = _mm256_castsi256_si128(words);
    const __m128i odd = _mm256_extracti128_si256(words, 1);
    const __m128i low = _mm_unpacklo_epi16(even, odd);   // 0, 1, 4, 5, 8, 9, 12, 13
    const __m128i high = _mm_unpackhi_epi16(even, odd);  // 2, 3, 6, 7, 10, 11, 14, 15
    return Floats16{_mm256_cvtph_ps(_mm_unpacklo_epi32(low, high)), _mm256_cvtph_ps(_mm_unpackhi_epi32(low, high))};
  };
  const __m256i mask = _mm256_set1_epi32(0xFFFF);
  first = floats(_mm256_and_si256(a, mask), _mm256_and_si256(b, mask));
  second = floats(_mm256_srli_epi32(a, 16), _mm256_srli_epi32(b, 16));
}

namespace detail {
SIROCCO_INLINE void transpose_8x8(__m256* x) {
  for (int i = 0; i < 8; i += 4) {
    const __m256d ab0 = _mm256_castps_pd(_mm256_unpacklo_ps(x[i], x[i + 1]));
    const __m256d ab1 = _mm256_castps_pd(_mm256_unpackhi_ps(x[i], x[i + 1]));
    const __m256d cd0 = _mm256_castps_pd(_mm256_unpacklo_ps(x[i + 2], x[i + 3]));
    const __m256d cd1 = _mm256_castps_pd(_mm256_unpackhi_ps(x[i + 2], x[i + 3]));
    x[i] = _mm256_castpd_ps(_mm256_unpacklo_pd(ab0, cd0));
    x[i + 1] = _mm256_castpd_ps(_mm256_unpackhi_pd(ab0, cd0));
    x[i + 2] = _mm256_castpd_ps(_mm256_unpacklo_pd(ab1, cd1));
    x[i + 3] = _mm256_castpd_ps(_mm256_unpackhi_pd(ab1, cd1));
  }
  for (int i = 0; i < 4; ++i) {
    const __m256 low = _mm256_permute2f128_ps(x[i], x[i + 4], 0x20);
    x[i + 4] = _mm256_permute2f128_ps(x[i], x[i + 4], 0x31);
    x[i] = low;
  }
}
}  // namespace detail
SIROCCO_INLINE void transpose(Floats16* x) {
  // Four quarters of 8 x 8, of which two change places.
  __m256 quarter[8];
  __m256 other[8];
  for (int i = 0; i < 8; ++i) quarter[i] = x[i].a;
  detail::transpose_8x8(quarter);
  for (int i = 0; i < 8; ++i) x[i].a = quarter[i];
  for (int i = 0; i < 8; ++i) quarter[i] = x[i].b;
  detail::transpose_8x8(quarter);
  for (int i = 0; i < 8; ++i) other[i] = x[i + 8].a;
  detail::transpose_8x8(other);
  for (int i = 0; i < 8; ++i) {
    x[i].b = other[i];
    x[i + 8].a = quarter[i];
  }
  for (int i = 0; i < 8; ++i) quarter[i] = x[i + 8].b;
  detail::transpose_8x8(quarter);
  for (int i = 0; i < 8; ++i) x[i + 8].b = quarter[i];
}
SIROCCO_INLINE float sum_lanes(Floats16 x) {
  const __m256 eight = _mm256_add_ps(x.a, x.b);
  const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

SIROCCO_INLINE float as_largest(Ints16 x) {
  const __m256i eight = _mm256_max_epi32(x.a, x.b);
  const __m128i four = _mm_max_epi32(_mm256_castsi256_si128(eight), _mm256_extracti128_si256(eight, 1));
  const __m128i two = _mm_max_epi32(four, _mm_shuffle_epi32(four, 0x4E));
  return std::bit_cast<float>(_mm_cvtsi128_si32(_mm_max_epi32(two, _mm_shuffle_epi32(two, 0xB1))));
}
SIROCCO_INLINE int sum_bytes_16(const std::int8_t* p) {
  // As unsigned bytes, 128 more each.
  const __m128i x = _mm_xor_si128(detail::load_128(p), _mm_set1_epi8(-128));
  const __m128i two = _mm_sad_epu8(x, _mm_setzero_si128());
  return _mm_cvtsi128_si32(two) + _mm_extract_epi16(two, 4) - 16 * 128;
}

}  // namespace sirocco::cpu::SIROCCO_ISA

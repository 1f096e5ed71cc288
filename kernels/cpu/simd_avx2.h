// simd.h on AVX2 with FMA and F16C, and on AVX-VNNI: a vector is two registers.
#pragma once

#include <immintrin.h>

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace sirocco::cpu::SIROCCO_ISA {

struct Bytes64 {
  __m256i a;
  __m256i b;
};
struct Bytes16 {
  __m128i v;
};
struct Ints16 {
  __m256i a;
  __m256i b;
};
struct Floats16 {
  __m256 a;
  __m256 b;
};

#if defined(__AVXVNNI__)
inline constexpr int kSignedOffset = 128;
inline constexpr int kNarrowOffset = 128;
#else
// vpmaddubsw saturates above 127 * 127 * 2: signed weights keep their sign, which moves to the activations.
inline constexpr int kSignedOffset = 0;
inline constexpr int kNarrowOffset = 32;
#endif
inline constexpr std::size_t kTileRows = 4;

SIROCCO_INLINE void prefetch(const void* address) {
  _mm_prefetch(static_cast<const char*>(address), _MM_HINT_T0);
}

namespace detail {
SIROCCO_INLINE __m256i load(const void* p) {
  return _mm256_loadu_si256(static_cast<const __m256i*>(p));
}
SIROCCO_INLINE void store(void* p, __m256i x) {
  _mm256_storeu_si256(static_cast<__m256i*>(p), x);
}
SIROCCO_INLINE __m128i load_128(const void* p) {
  return _mm_loadu_si128(static_cast<const __m128i*>(p));
}
// acc + w . a by fours; w: 0 to 127, or any unsigned byte on AVX-VNNI
SIROCCO_INLINE __m256i dot(__m256i acc, __m256i w, __m256i a) {
#if defined(__AVXVNNI__)
  return _mm256_dpbusd_avx_epi32(acc, w, a);
#else
  return _mm256_add_epi32(acc, _mm256_madd_epi16(_mm256_maddubs_epi16(w, a), _mm256_set1_epi16(1)));
#endif
}
SIROCCO_INLINE __m256i dot_offset(__m256i acc, __m256i w, __m256i a) {
#if defined(__AVXVNNI__)
  return _mm256_dpbusd_avx_epi32(acc, w, a);
#else
  return dot(acc, _mm256_abs_epi8(w), _mm256_sign_epi8(a, w));
#endif
}
}  // namespace detail

// --- bytes

SIROCCO_INLINE Bytes64 load_bytes(const void* p) {
  return {detail::load(p), detail::load(static_cast<const std::byte*>(p) + 32)};
}
SIROCCO_INLINE void store_bytes(void* p, Bytes64 x) {
  detail::store(p, x.a);
  detail::store(static_cast<std::byte*>(p) + 32, x.b);
}
SIROCCO_INLINE Bytes64 broadcast_byte(std::uint8_t value) {
  const __m256i x = _mm256_set1_epi8(static_cast<char>(value));
  return {x, x};
}
SIROCCO_INLINE Bytes64 add_bytes(Bytes64 x, Bytes64 y) {
  return {_mm256_add_epi8(x.a, y.a), _mm256_add_epi8(x.b, y.b)};
}
template <int Count>
SIROCCO_INLINE Bytes64 shift_left(Bytes64 x) {
  return {_mm256_slli_epi16(x.a, Count), _mm256_slli_epi16(x.b, Count)};
}
SIROCCO_INLINE Bytes64 low_nibbles(Bytes64 x) {
  const __m256i mask = _mm256_set1_epi8(15);
  return {_mm256_and_si256(x.a, mask), _mm256_and_si256(x.b, mask)};
}
SIROCCO_INLINE Bytes64 high_nibbles(Bytes64 x) {
  const __m256i mask = _mm256_set1_epi8(15);
  return {_mm256_and_si256(_mm256_srli_epi16(x.a, 4), mask), _mm256_and_si256(_mm256_srli_epi16(x.b, 4), mask)};
}
SIROCCO_INLINE Bytes64 bit_or(Bytes64 x, Bytes64 y) {
  return {_mm256_or_si256(x.a, y.a), _mm256_or_si256(x.b, y.b)};
}
SIROCCO_INLINE Bytes64 twice_32(const void* p) {
  const __m256i x = detail::load(p);
  return {x, x};
}
SIROCCO_INLINE Bytes64 nibbles_of_32(const void* p) {
  const __m256i x = detail::load(p);
  const __m256i mask = _mm256_set1_epi8(15);
  return {_mm256_and_si256(x, mask), _mm256_and_si256(_mm256_srli_epi16(x, 4), mask)};
}
SIROCCO_INLINE Bytes64 nibbles_of_2x16(const void* p, const void* q) {
  const __m256i shifts = _mm256_set_epi32(4, 4, 4, 4, 0, 0, 0, 0);
  const __m256i mask = _mm256_set1_epi8(15);
  const __m256i x = _mm256_broadcastsi128_si256(detail::load_128(p));
  const __m256i y = _mm256_broadcastsi128_si256(detail::load_128(q));
  return {_mm256_and_si256(_mm256_srlv_epi32(x, shifts), mask), _mm256_and_si256(_mm256_srlv_epi32(y, shifts), mask)};
}
SIROCCO_INLINE Bytes64 join_32(const void* p, const void* q) {
  return {detail::load(p), detail::load(q)};
}
template <int Shift>
SIROCCO_INLINE Bytes64 pairs_of(Bytes64 x) {
  const __m256i mask = _mm256_set1_epi8(3);
  return {_mm256_and_si256(_mm256_srli_epi16(x.a, Shift), mask),
          _mm256_and_si256(_mm256_srli_epi16(x.b, Shift + 2), mask)};
}
namespace detail {
SIROCCO_INLINE __m256i or_where_bit(__m256i v, __m256i x, int bit, std::uint8_t value) {
  const __m256i mask = _mm256_set1_epi8(static_cast<char>(1 << bit));
  const __m256i set = _mm256_cmpeq_epi8(_mm256_and_si256(x, mask), mask);
  return _mm256_or_si256(v, _mm256_and_si256(set, _mm256_set1_epi8(static_cast<char>(value))));
}
SIROCCO_INLINE __m256i or_where(__m256i v, std::uint32_t bits, std::uint8_t value) {
  const __m256i bytes = _mm256_shuffle_epi8(
      _mm256_set1_epi32(static_cast<int>(bits)),
      _mm256_set_epi64x(0x0303030303030303, 0x0202020202020202, 0x0101010101010101, 0x0000000000000000));
  const __m256i mask = _mm256_set1_epi64x(static_cast<long long>(0x8040201008040201));
  const __m256i set = _mm256_cmpeq_epi8(_mm256_and_si256(bytes, mask), mask);
  return _mm256_or_si256(v, _mm256_and_si256(set, _mm256_set1_epi8(static_cast<char>(value))));
}
}  // namespace detail
template <int Bit>
SIROCCO_INLINE Bytes64 or_where_bit(Bytes64 v, Bytes64 x, std::uint8_t value) {
  return {detail::or_where_bit(v.a, x.a, Bit, value), detail::or_where_bit(v.b, x.b, Bit + 1, value)};
}
SIROCCO_INLINE Bytes64 or_where(Bytes64 v, std::uint64_t bits, std::uint8_t value) {
  return {detail::or_where(v.a, static_cast<std::uint32_t>(bits), value),
          detail::or_where(v.b, static_cast<std::uint32_t>(bits >> 32), value)};
}
SIROCCO_INLINE Bytes64 look_up(const std::int8_t* table, Bytes64 x) {
  const __m256i t = _mm256_broadcastsi128_si256(detail::load_128(table));
  return {_mm256_shuffle_epi8(t, x.a), _mm256_shuffle_epi8(t, x.b)};
}

SIROCCO_INLINE Bytes16 load_16(const void* p) {
  return {detail::load_128(p)};
}
SIROCCO_INLINE Bytes16 make_16(std::uint64_t low, std::uint64_t high) {
  return {_mm_set_epi64x(static_cast<long long>(high), static_cast<long long>(low))};
}
SIROCCO_INLINE void store_16(void* p, Bytes16 x) {
  _mm_storeu_si128(static_cast<__m128i*>(p), x.v);
}
SIROCCO_INLINE Bytes16 low_nibbles(Bytes16 x) {
  return {_mm_and_si128(x.v, _mm_set1_epi8(15))};
}
SIROCCO_INLINE Bytes16 high_nibbles(Bytes16 x) {
  return {_mm_and_si128(_mm_srli_epi16(x.v, 4), _mm_set1_epi8(15))};
}

// --- 16 int32

SIROCCO_INLINE Ints16 zero_ints() {
  return {_mm256_setzero_si256(), _mm256_setzero_si256()};
}
SIROCCO_INLINE Ints16 broadcast_int(std::int32_t value) {
  return {_mm256_set1_epi32(value), _mm256_set1_epi32(value)};
}
SIROCCO_INLINE Ints16 load_ints(const std::int32_t* p) {
  return {detail::load(p), detail::load(p + 8)};
}
SIROCCO_INLINE void store_ints(std::int32_t* p, Ints16 x) {
  detail::store(p, x.a);
  detail::store(p + 8, x.b);
}
SIROCCO_INLINE Ints16 widen_bytes(const std::int8_t* p) {
  const __m128i x = detail::load_128(p);
  return {_mm256_cvtepi8_epi32(x), _mm256_cvtepi8_epi32(_mm_srli_si128(x, 8))};
}
SIROCCO_INLINE Ints16 add(Ints16 x, Ints16 y) {
  return {_mm256_add_epi32(x.a, y.a), _mm256_add_epi32(x.b, y.b)};
}
SIROCCO_INLINE Ints16 subtract(Ints16 x, Ints16 y) {
  return {_mm256_sub_epi32(x.a, y.a), _mm256_sub_epi32(x.b, y.b)};
}
SIROCCO_INLINE Ints16 multiply(Ints16 x, Ints16 y) {
  return {_mm256_mullo_epi32(x.a, y.a), _mm256_mullo_epi32(x.b, y.b)};
}
template <int Count>
SIROCCO_INLINE Ints16 shift_left_ints(Ints16 x) {
  return {_mm256_slli_epi32(x.a, Count), _mm256_slli_epi32(x.b, Count)};
}
SIROCCO_INLINE Ints16 dot(Ints16 acc, Bytes64 w, Bytes64 a) {
  return {detail::dot(acc.a, w.a, a.a), detail::dot(acc.b, w.b, a.b)};
}
SIROCCO_INLINE Bytes64 offset_signed(Bytes64 w) {
  return kSignedOffset == 0 ? w : add_bytes(w, broadcast_byte(128));
}
SIROCCO_INLINE Ints16 dot_offset(Ints16 acc, Bytes64 w, Bytes64 a) {
  return {detail::dot_offset(acc.a, w.a, a.a), detail::dot_offset(acc.b, w.b, a.b)};
}
SIROCCO_INLINE Ints16 dot_group(Ints16 acc, Bytes64 w, const std::int8_t* a) {
  std::int32_t four;
  std::memcpy(&four, a, sizeof four);
  const __m256i x = _mm256_set1_epi32(four);
  return {detail::dot(acc.a, w.a, x), detail::dot(acc.b, w.b, x)};
}
SIROCCO_INLINE Ints16 dot_group_offset(Ints16 acc, Bytes64 w, const std::int8_t* a) {
  std::int32_t four;
  std::memcpy(&four, a, sizeof four);
  const __m256i x = _mm256_set1_epi32(four);
  return {detail::dot_offset(acc.a, w.a, x), detail::dot_offset(acc.b, w.b, x)};
}
SIROCCO_INLINE Ints16 dot_pair(Ints16 acc, const std::int16_t* w, const std::int16_t* a) {
  std::int32_t two;
  std::memcpy(&two, a, sizeof two);
  const __m256i x = _mm256_set1_epi32(two);
  return {_mm256_add_epi32(acc.a, _mm256_madd_epi16(detail::load(w), x)),
          _mm256_add_epi32(acc.b, _mm256_madd_epi16(detail::load(w + 16), x))};
}

template <int SubBlock>
struct SubScales {
  __m256i scales;  // int16: 8, twice, of sub-blocks of 32; 16 of sub-blocks of 16
};
SIROCCO_INLINE SubScales<32> sub_scales(std::uint64_t eight) {
  return {_mm256_broadcastsi128_si256(_mm_cvtepi8_epi16(_mm_cvtsi64_si128(static_cast<long long>(eight))))};
}
SIROCCO_INLINE SubScales<16> sub_scales(Bytes16 sixteen) {
  return {_mm256_cvtepi8_epi16(sixteen.v)};
}
namespace detail {
// int16 scale Index in the lower 128 bits and scale Index + Step in the upper ones.
template <int Index, int Step>
SIROCCO_INLINE __m256i scale_pair(__m256i eight_twice) {
  constexpr auto bytes = [](int index) { return static_cast<short>((2 * index + 1) << 8 | 2 * index); };
  const __m256i shuffle = _mm256_set_m128i(_mm_set1_epi16(bytes(Index + Step)), _mm_set1_epi16(bytes(Index)));
  return _mm256_shuffle_epi8(eight_twice, shuffle);
}
SIROCCO_INLINE __m256i add_scaled(__m256i acc, __m256i w, __m256i a, __m256i scales) {
  return _mm256_add_epi32(acc, _mm256_madd_epi16(_mm256_maddubs_epi16(w, a), scales));
}
}  // namespace detail
template <int Part, int SubBlock>
SIROCCO_INLINE Ints16 dot_scaled(Ints16 acc, Bytes64 w, Bytes64 a, const SubScales<SubBlock>& s) {
  if constexpr (SubBlock == 32) {
    return {detail::add_scaled(acc.a, w.a, a.a, detail::scale_pair<2 * Part, 0>(s.scales)),
            detail::add_scaled(acc.b, w.b, a.b, detail::scale_pair<2 * Part + 1, 0>(s.scales))};
  } else {
    const __m256i eight = _mm256_permute2x128_si256(s.scales, s.scales, Part < 2 ? 0x00 : 0x11);
    return {detail::add_scaled(acc.a, w.a, a.a, detail::scale_pair<4 * (Part % 2), 1>(eight)),
            detail::add_scaled(acc.b, w.b, a.b, detail::scale_pair<4 * (Part % 2) + 2, 1>(eight))};
  }
}
template <int Part>
SIROCCO_INLINE Ints16 dot_scaled_offset(Ints16 acc, Bytes64 w, Bytes64 a, const SubScales<32>& s) {
#if defined(__AVXVNNI__)
  const __m256i all = _mm256_cvtepi16_epi32(_mm256_castsi256_si128(s.scales));
  const auto scaled = [&](__m256i wx, __m256i ax, int index) {
    const __m256i scale = _mm256_permutevar8x32_epi32(all, _mm256_set1_epi32(index));
    return _mm256_mullo_epi32(detail::dot(_mm256_setzero_si256(), wx, ax), scale);
  };
  return {_mm256_add_epi32(acc.a, scaled(w.a, a.a, 2 * Part)), _mm256_add_epi32(acc.b, scaled(w.b, a.b, 2 * Part + 1))};
#else
  // 127 * 127 * 2 still fits: the levels of IQ4_XS are at most 127.
  return dot_scaled<Part>(acc, Bytes64{_mm256_abs_epi8(w.a), _mm256_abs_epi8(w.b)},
                          Bytes64{_mm256_sign_epi8(a.a, w.a), _mm256_sign_epi8(a.b, w.b)}, s);
#endif
}
template <int Shift>
SIROCCO_INLINE Ints16 subtract_dot_16(Ints16 acc, const SubScales<16>& s, const std::int16_t* a) {
  return {_mm256_sub_epi32(acc.a, _mm256_slli_epi32(_mm256_madd_epi16(s.scales, detail::load(a)), Shift)), acc.b};
}
template <int Shift>
SIROCCO_INLINE Ints16 subtract_dot_8(Ints16 acc, const SubScales<32>& s, const std::int16_t* a) {
  const __m128i product = _mm_madd_epi16(_mm256_castsi256_si128(s.scales), detail::load_128(a));
  return {_mm256_sub_epi32(acc.a, _mm256_zextsi128_si256(_mm_slli_epi32(product, Shift))), acc.b};
}

namespace detail {
SIROCCO_INLINE __m256i sum_4(__m256i v0, __m256i v1, __m256i v2, __m256i v3) {
  const __m256i a = _mm256_add_epi32(_mm256_unpacklo_epi32(v0, v1), _mm256_unpackhi_epi32(v0, v1));
  const __m256i b = _mm256_add_epi32(_mm256_unpacklo_epi32(v2, v3), _mm256_unpackhi_epi32(v2, v3));
  return _mm256_add_epi32(_mm256_unpacklo_epi64(a, b), _mm256_unpackhi_epi64(a, b));
}
// {sum of a's 128-bit halves, sum of b's}
SIROCCO_INLINE __m256i sum_halves(__m256i a, __m256i b) {
  return _mm256_add_epi32(_mm256_permute2x128_si256(a, b, 0x20), _mm256_permute2x128_si256(a, b, 0x31));
}
}  // namespace detail

struct Sum4 {
  __m256i a;
  __m256i b;
};
SIROCCO_INLINE Sum4 sum_4(Ints16 x, Ints16 y, Ints16 z, Ints16 w) {
  return {detail::sum_4(x.a, y.a, z.a, w.a), detail::sum_4(x.b, y.b, z.b, w.b)};
}
SIROCCO_INLINE Ints16 sum_each(Sum4 s0, Sum4 s1, Sum4 s2, Sum4 s3) {
  const auto both = [](Sum4 s) { return _mm256_add_epi32(s.a, s.b); };
  return {detail::sum_halves(both(s0), both(s1)), detail::sum_halves(both(s2), both(s3))};
}
SIROCCO_INLINE Ints16 sum_each_half(Sum4 s0, Sum4 s1) {
  const auto interleaved = [](Sum4 s) {
    // {half 0 of vectors 0 to 3, half 1 of them} to {vector 0: halves 0 and 1, vector 1, …}
    return _mm256_permutevar8x32_epi32(detail::sum_halves(s.a, s.b), _mm256_set_epi32(7, 3, 6, 2, 5, 1, 4, 0));
  };
  return {interleaved(s0), interleaved(s1)};
}

struct Ints4 {
  __m128i v;
};
SIROCCO_INLINE Ints4 dot_16(std::uint64_t a, const std::int16_t* b) {
  return {_mm_madd_epi16(_mm_cvtepi8_epi16(_mm_cvtsi64_si128(static_cast<long long>(a))), detail::load_128(b))};
}
SIROCCO_INLINE Ints4 dot_16(Bytes16 a, const std::int16_t* b) {
  const __m256i products = _mm256_madd_epi16(_mm256_cvtepi8_epi16(a.v), detail::load(b));
  return {_mm_add_epi32(_mm256_castsi256_si128(products), _mm256_extracti128_si256(products, 1))};
}
SIROCCO_INLINE Ints16 join(Ints4 a, Ints4 b, Ints4 c, Ints4 d) {
  return {_mm256_set_m128i(b.v, a.v), _mm256_set_m128i(d.v, c.v)};
}
SIROCCO_INLINE Ints16 sum_fours(Ints16 x0, Ints16 x1, Ints16 x2, Ints16 x3) {
  // {x_i's fours 0 and 1} and {2 and 3}: lane j of 128 bits l is four l of x_j.
  const __m256i a = detail::sum_4(x0.a, x1.a, x2.a, x3.a);
  const __m256i b = detail::sum_4(x0.b, x1.b, x2.b, x3.b);
  const __m256i ab0 = _mm256_unpacklo_epi32(a, b);  // 128 bits l: {x0[l], x0[l + 2], x1[l], x1[l + 2]}
  const __m256i ab1 = _mm256_unpackhi_epi32(a, b);
  const __m256i order = _mm256_set_epi32(7, 3, 6, 2, 5, 1, 4, 0);
  const auto ordered = [&](__m256i x) {
    // {x0[0], x0[1], x0[2], x0[3], x1…}
    return _mm256_permutevar8x32_epi32(x, order);
  };
  return {ordered(ab0), ordered(ab1)};
}

// --- 16 floats

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
template <int Stride>
SIROCCO_INLINE Ints16 strided_bytes(const std::byte* p) {
  alignas(16) std::uint8_t bytes[16];
  for (int i = 0; i < 16; ++i) std::memcpy(&bytes[i], p + i * Stride, 1);
  const __m128i x = detail::load_128(bytes);
  return {_mm256_cvtepu8_epi32(x), _mm256_cvtepu8_epi32(_mm_srli_si128(x, 8))};
}
template <int Stride, int Offset>
SIROCCO_INLINE Floats16 strided_f16(const std::byte* p) {
  const auto half = [](const std::byte* at) {
    std::uint16_t bits;
    std::memcpy(&bits, at, sizeof bits);
    return static_cast<short>(bits);
  };
  const auto eight = [&](const std::byte* at) {
    return _mm256_cvtph_ps(_mm_set_epi16(half(at + 7 * Stride), half(at + 6 * Stride), half(at + 5 * Stride),
                                         half(at + 4 * Stride), half(at + 3 * Stride), half(at + 2 * Stride),
                                         half(at + Stride), half(at)));
  };
  return {eight(p + Offset), eight(p + Offset + 8 * Stride)};
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
SIROCCO_INLINE Floats16 as_floats(Bytes64 x) {
  return {_mm256_castsi256_ps(x.a), _mm256_castsi256_ps(x.b)};
}
SIROCCO_INLINE Bytes64 as_bytes(Floats16 x) {
  return {_mm256_castps_si256(x.a), _mm256_castps_si256(x.b)};
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

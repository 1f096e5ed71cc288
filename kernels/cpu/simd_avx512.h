// simd.h on AVX-512 with VNNI (Ice Lake, Zen 4 and newer): a vector is one register.
#pragma once

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"  // gcc 12: what intrinsics call undefined on purpose
#pragma GCC diagnostic ignored "-Wuninitialized"
#include <immintrin.h>
#pragma GCC diagnostic pop

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace sirocco::cpu::SIROCCO_ISA {

struct Bytes64 {
  __m512i v;
};
struct Bytes16 {
  __m128i v;
};
struct Ints16 {
  __m512i v;
};
struct Floats16 {
  __m512 v;
};

// dot() takes weights of 0 to 255: a signed weight is stored with 128 added, which the sum of the activations undoes.
inline constexpr int kSignedOffset = 128;
inline constexpr int kNarrowOffset = 128;     // added to signed weights of -32 to 31 in panels: any below 256 will do
inline constexpr std::size_t kTileRows = 12;  // rows of activations in a tile of dot_group: accumulators in registers

SIROCCO_INLINE void prefetch(const void* address) {
  _mm_prefetch(static_cast<const char*>(address), _MM_HINT_T0);
}

// --- bytes

SIROCCO_INLINE Bytes64 load_bytes(const void* p) {
  return {_mm512_loadu_si512(p)};
}
SIROCCO_INLINE void store_bytes(void* p, Bytes64 x) {
  _mm512_storeu_si512(p, x.v);
}
SIROCCO_INLINE Bytes64 broadcast_byte(std::uint8_t value) {
  return {_mm512_set1_epi8(static_cast<char>(value))};
}
SIROCCO_INLINE Bytes64 add_bytes(Bytes64 a, Bytes64 b) {
  return {_mm512_add_epi8(a.v, b.v)};
}
// Of elements below 16.
template <int Count>
SIROCCO_INLINE Bytes64 shift_left(Bytes64 x) {
  return {_mm512_slli_epi16(x.v, Count)};
}
SIROCCO_INLINE Bytes64 low_nibbles(Bytes64 x) {
  return {_mm512_and_si512(x.v, _mm512_set1_epi8(15))};
}
SIROCCO_INLINE Bytes64 high_nibbles(Bytes64 x) {
  return {_mm512_and_si512(_mm512_srli_epi16(x.v, 4), _mm512_set1_epi8(15))};
}
SIROCCO_INLINE Bytes64 bit_or(Bytes64 a, Bytes64 b) {
  return {_mm512_or_si512(a.v, b.v)};
}
// 32 bytes twice.
SIROCCO_INLINE Bytes64 twice_32(const void* p) {
  return {_mm512_broadcast_i64x4(_mm256_loadu_si256(static_cast<const __m256i*>(p)))};
}
// {p[i] & 15} for i < 32, then {p[i] >> 4}
SIROCCO_INLINE Bytes64 nibbles_of_32(const void* p) {
  const __m512i shifts = _mm512_inserti64x4(_mm512_setzero_si512(), _mm256_set1_epi32(4), 1);
  return {_mm512_and_si512(_mm512_srlv_epi32(twice_32(p).v, shifts), _mm512_set1_epi8(15))};
}
// {p[i] & 15} for i < 16, {p[i] >> 4}, and the same of q.
SIROCCO_INLINE Bytes64 nibbles_of_2x16(const void* p, const void* q) {
  const __m256i a = _mm256_broadcastsi128_si256(_mm_loadu_si128(static_cast<const __m128i*>(p)));
  const __m256i b = _mm256_broadcastsi128_si256(_mm_loadu_si128(static_cast<const __m128i*>(q)));
  const __m512i both = _mm512_inserti64x4(_mm512_castsi256_si512(a), b, 1);
  const __m512i shifts = _mm512_broadcast_i64x4(_mm256_set_epi32(4, 4, 4, 4, 0, 0, 0, 0));
  return {_mm512_and_si512(_mm512_srlv_epi32(both, shifts), _mm512_set1_epi8(15))};
}
SIROCCO_INLINE Bytes64 join_32(const void* p, const void* q) {
  const __m512i low = _mm512_castsi256_si512(_mm256_loadu_si256(static_cast<const __m256i*>(p)));
  return {_mm512_inserti64x4(low, _mm256_loadu_si256(static_cast<const __m256i*>(q)), 1)};
}
// {x[i] >> Shift & 3} for i < 32, then {x[i] >> (Shift + 2) & 3}; x: 32 bytes twice
template <int Shift>
SIROCCO_INLINE Bytes64 pairs_of(Bytes64 x) {
  const __m512i shifts = _mm512_inserti64x4(_mm512_set1_epi32(Shift), _mm256_set1_epi32(Shift + 2), 1);
  return {_mm512_and_si512(_mm512_srlv_epi32(x.v, shifts), _mm512_set1_epi8(3))};
}
// v with `value` or-ed in where bit Bit (first 32 bytes) or Bit + 1 (others) of x is set; x: 32 bytes twice
template <int Bit>
SIROCCO_INLINE Bytes64 or_where_bit(Bytes64 v, Bytes64 x, std::uint8_t value) {
  const __m512i mask = _mm512_inserti64x4(_mm512_set1_epi8(static_cast<char>(1 << Bit)),
                                          _mm256_set1_epi8(static_cast<char>(2 << Bit)), 1);
  const __mmask64 where = _mm512_test_epi8_mask(x.v, mask);
  return {_mm512_mask_add_epi8(v.v, where, v.v, _mm512_set1_epi8(static_cast<char>(value)))};
}
// v with `value` or-ed in at element i where bit i is set
SIROCCO_INLINE Bytes64 or_where(Bytes64 v, std::uint64_t bits, std::uint8_t value) {
  return {_mm512_mask_add_epi8(v.v, bits, v.v, _mm512_set1_epi8(static_cast<char>(value)))};
}
// table[x[i]], x below 16
SIROCCO_INLINE Bytes64 look_up(const std::int8_t* table, Bytes64 x) {
  const __m512i t = _mm512_broadcast_i32x4(_mm_loadu_si128(reinterpret_cast<const __m128i*>(table)));
  return {_mm512_shuffle_epi8(t, x.v)};
}

SIROCCO_INLINE Bytes16 load_16(const void* p) {
  return {_mm_loadu_si128(static_cast<const __m128i*>(p))};
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
  return {_mm512_setzero_si512()};
}
SIROCCO_INLINE Ints16 broadcast_int(std::int32_t value) {
  return {_mm512_set1_epi32(value)};
}
SIROCCO_INLINE Ints16 load_ints(const std::int32_t* p) {
  return {_mm512_loadu_si512(p)};
}
SIROCCO_INLINE void store_ints(std::int32_t* p, Ints16 x) {
  _mm512_storeu_si512(p, x.v);
}
// From 16 int8.
SIROCCO_INLINE Ints16 widen_bytes(const std::int8_t* p) {
  return {_mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)))};
}
SIROCCO_INLINE Ints16 add(Ints16 a, Ints16 b) {
  return {_mm512_add_epi32(a.v, b.v)};
}
SIROCCO_INLINE Ints16 subtract(Ints16 a, Ints16 b) {
  return {_mm512_sub_epi32(a.v, b.v)};
}
SIROCCO_INLINE Ints16 multiply(Ints16 a, Ints16 b) {
  return {_mm512_mullo_epi32(a.v, b.v)};
}
template <int Count>
SIROCCO_INLINE Ints16 shift_left_ints(Ints16 a) {
  return {_mm512_slli_epi32(a.v, Count)};
}

// acc[i] + sum over j < 4 of w[4i + j] a[4i + j]; w: 0 to 127
SIROCCO_INLINE Ints16 dot(Ints16 acc, Bytes64 w, Bytes64 a) {
  return {_mm512_dpbusd_epi32(acc.v, w.v, a.v)};
}
// The same with w + kSignedOffset in place of signed weights w.
SIROCCO_INLINE Bytes64 offset_signed(Bytes64 w) {
  return {_mm512_xor_si512(w.v, _mm512_set1_epi8(-128))};
}
SIROCCO_INLINE Ints16 dot_offset(Ints16 acc, Bytes64 w, Bytes64 a) {
  return {_mm512_dpbusd_epi32(acc.v, w.v, a.v)};
}
// acc[i] + sum over j < 4 of w[4i + j] a[j]: 16 rows of weights against one row of activations; a: 4 bytes
SIROCCO_INLINE Ints16 dot_group(Ints16 acc, Bytes64 w, const std::int8_t* a) {
  std::int32_t four;
  std::memcpy(&four, a, sizeof four);
  return {_mm512_dpbusd_epi32(acc.v, w.v, _mm512_set1_epi32(four))};
}
SIROCCO_INLINE Ints16 dot_group_offset(Ints16 acc, Bytes64 w, const std::int8_t* a) {
  return dot_group(acc, w, a);
}
// acc[i] + w[2i] a[0] + w[2i + 1] a[1]; w: 32 int16, a: 2 int16
SIROCCO_INLINE Ints16 dot_pair(Ints16 acc, const std::int16_t* w, const std::int16_t* a) {
  std::int32_t two;
  std::memcpy(&two, a, sizeof two);
  return {_mm512_dpwssd_epi32(acc.v, _mm512_loadu_si512(w), _mm512_set1_epi32(two))};
}

// The integer scales of a block of 256: 16 of sub-blocks of 16, or 8 of sub-blocks of 32.
template <int SubBlock>
struct SubScales {
  __m512i scales;  // int16, repeated in every 128 bits for 8, in every 256 bits for 16
};
SIROCCO_INLINE SubScales<32> sub_scales(std::uint64_t eight) {  // int8
  return {_mm512_broadcast_i32x4(_mm_cvtepi8_epi16(_mm_cvtsi64_si128(static_cast<long long>(eight))))};
}
SIROCCO_INLINE SubScales<16> sub_scales(Bytes16 sixteen) {
  return {_mm512_broadcast_i64x4(_mm256_cvtepi8_epi16(sixteen.v))};
}
// acc + scale * (w . a) over elements 64 Part to 64 Part + 63 of the block; sums of 4 elements or of others, in lanes
// that add up to the whole. w: 0 to 127.
template <int Part, int SubBlock>
SIROCCO_INLINE Ints16 dot_scaled(Ints16 acc, Bytes64 w, Bytes64 a, const SubScales<SubBlock>& s) {
  constexpr int kSubBlocks = 64 / SubBlock;
  constexpr auto index = [](int lane) { return static_cast<std::int16_t>(Part * kSubBlocks + lane * 2 / SubBlock); };
  alignas(64) static constexpr std::int16_t kIndices[32] = {
      index(0),  index(1),  index(2),  index(3),  index(4),  index(5),  index(6),  index(7),
      index(8),  index(9),  index(10), index(11), index(12), index(13), index(14), index(15),
      index(16), index(17), index(18), index(19), index(20), index(21), index(22), index(23),
      index(24), index(25), index(26), index(27), index(28), index(29), index(30), index(31)};
  const __m512i scales = _mm512_permutexvar_epi16(_mm512_load_si512(kIndices), s.scales);
  return {_mm512_dpwssd_epi32(acc.v, _mm512_maddubs_epi16(w.v, a.v), scales)};
}
// The same for weights with kSignedOffset.
template <int Part>
SIROCCO_INLINE Ints16 dot_scaled_offset(Ints16 acc, Bytes64 w, Bytes64 a, const SubScales<32>& s) {
  const __m128i two = _mm_srli_si128(_mm512_castsi512_si128(s.scales), 4 * Part);
  const __m512i first = _mm512_broadcastd_epi32(_mm_cvtepi16_epi32(two));
  const __m512i scales = _mm512_mask_broadcastd_epi32(first, 0xFF00, _mm_srli_si128(_mm_cvtepi16_epi32(two), 4));
  return {_mm512_add_epi32(acc.v, _mm512_mullo_epi32(_mm512_dpbusd_epi32(_mm512_setzero_si512(), w.v, a.v), scales))};
}
// Four lanes that add up to sum_i scale[i] a[i] (8 or 16 of each); placed into acc by subtracting `Times` times.
template <int Shift>
SIROCCO_INLINE Ints16 subtract_dot_16(Ints16 acc, const SubScales<16>& s, const std::int16_t* a) {
  const __m256i product =
      _mm256_madd_epi16(_mm512_castsi512_si256(s.scales), _mm256_loadu_si256(reinterpret_cast<const __m256i*>(a)));
  return {_mm512_sub_epi32(acc.v, _mm512_zextsi256_si512(_mm256_slli_epi32(product, Shift)))};
}
template <int Shift>
SIROCCO_INLINE Ints16 subtract_dot_8(Ints16 acc, const SubScales<32>& s, const std::int16_t* a) {
  const __m128i product =
      _mm_madd_epi16(_mm512_castsi512_si128(s.scales), _mm_loadu_si128(reinterpret_cast<const __m128i*>(a)));
  return {_mm512_sub_epi32(acc.v, _mm512_zextsi128_si512(_mm_slli_epi32(product, Shift)))};
}

namespace detail {
// Lane j of each 128 bits: the sum of v_j's four lanes there.
SIROCCO_INLINE __m512i sum_4(__m512i v0, __m512i v1, __m512i v2, __m512i v3) {
  const __m512i a = _mm512_add_epi32(_mm512_unpacklo_epi32(v0, v1), _mm512_unpackhi_epi32(v0, v1));
  const __m512i b = _mm512_add_epi32(_mm512_unpacklo_epi32(v2, v3), _mm512_unpackhi_epi32(v2, v3));
  return _mm512_add_epi32(_mm512_unpacklo_epi64(a, b), _mm512_unpackhi_epi64(a, b));
}
SIROCCO_INLINE __m512i sum_halves(__m512i a, __m512i b) {
  return _mm512_add_epi32(_mm512_shuffle_i32x4(a, b, 0x88), _mm512_shuffle_i32x4(a, b, 0xDD));
}
}  // namespace detail

// Four vectors of partial sums, each of one block: what sum_each puts together.
struct Sum4 {
  __m512i v;
};
SIROCCO_INLINE Sum4 sum_4(Ints16 a, Ints16 b, Ints16 c, Ints16 d) {
  return {detail::sum_4(a.v, b.v, c.v, d.v)};
}
// Lane 4i + j: the sum of all lanes of vector j of s_i.
SIROCCO_INLINE Ints16 sum_each(Sum4 s0, Sum4 s1, Sum4 s2, Sum4 s3) {
  return {detail::sum_halves(detail::sum_halves(s0.v, s1.v), detail::sum_halves(s2.v, s3.v))};
}
// Lane 8i + 2j + h: the sum of half h (8 lanes) of vector j of s_i.
SIROCCO_INLINE Ints16 sum_each_half(Sum4 s0, Sum4 s1) {
  const __m512i order = _mm512_set_epi32(15, 11, 14, 10, 13, 9, 12, 8, 7, 3, 6, 2, 5, 1, 4, 0);
  return {_mm512_permutexvar_epi32(order, detail::sum_halves(s0.v, s1.v))};
}

// sum_i a[i] b[i] of 8 or 16 int8 and int16: four lanes that add up to it.
struct Ints4 {
  __m128i v;
};
SIROCCO_INLINE Ints4 dot_16(std::uint64_t a, const std::int16_t* b) {
  return {_mm_madd_epi16(_mm_cvtepi8_epi16(_mm_cvtsi64_si128(static_cast<long long>(a))),
                         _mm_loadu_si128(reinterpret_cast<const __m128i*>(b)))};
}
SIROCCO_INLINE Ints4 dot_16(Bytes16 a, const std::int16_t* b) {
  const __m256i products =
      _mm256_madd_epi16(_mm256_cvtepi8_epi16(a.v), _mm256_loadu_si256(reinterpret_cast<const __m256i*>(b)));
  return {_mm_add_epi32(_mm256_castsi256_si128(products), _mm256_extracti128_si256(products, 1))};
}
SIROCCO_INLINE Ints16 join(Ints4 a, Ints4 b, Ints4 c, Ints4 d) {
  const __m256i low = _mm256_inserti128_si256(_mm256_castsi128_si256(a.v), b.v, 1);
  const __m256i high = _mm256_inserti128_si256(_mm256_castsi128_si256(c.v), d.v, 1);
  return {_mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1)};
}
// Lane 4i + j: the sum of lanes 4j to 4j + 3 of x_i.
SIROCCO_INLINE Ints16 sum_fours(Ints16 x0, Ints16 x1, Ints16 x2, Ints16 x3) {
  const __m512i order = _mm512_set_epi32(15, 11, 7, 3, 14, 10, 6, 2, 13, 9, 5, 1, 12, 8, 4, 0);
  return {_mm512_permutexvar_epi32(order, detail::sum_4(x0.v, x1.v, x2.v, x3.v))};
}

// --- 16 floats

SIROCCO_INLINE Floats16 zero_floats() {
  return {_mm512_setzero_ps()};
}
SIROCCO_INLINE Floats16 broadcast(float value) {
  return {_mm512_set1_ps(value)};
}
SIROCCO_INLINE Floats16 load_floats(const float* p) {
  return {_mm512_loadu_ps(p)};
}
SIROCCO_INLINE void store_floats(float* p, Floats16 x) {
  _mm512_storeu_ps(p, x.v);
}
SIROCCO_INLINE Floats16 to_floats(Ints16 x) {
  return {_mm512_cvtepi32_ps(x.v)};
}
// To nearest, ties to even.
SIROCCO_INLINE Ints16 round_to_ints(Floats16 x) {
  return {_mm512_cvtps_epi32(x.v)};
}
SIROCCO_INLINE Floats16 as_floats(Ints16 x) {
  return {_mm512_castsi512_ps(x.v)};
}
SIROCCO_INLINE Ints16 as_ints(Floats16 x) {
  return {_mm512_castps_si512(x.v)};
}
SIROCCO_INLINE Floats16 add(Floats16 a, Floats16 b) {
  return {_mm512_add_ps(a.v, b.v)};
}
SIROCCO_INLINE Floats16 subtract(Floats16 a, Floats16 b) {
  return {_mm512_sub_ps(a.v, b.v)};
}
SIROCCO_INLINE Floats16 multiply(Floats16 a, Floats16 b) {
  return {_mm512_mul_ps(a.v, b.v)};
}
SIROCCO_INLINE Floats16 divide(Floats16 a, Floats16 b) {
  return {_mm512_div_ps(a.v, b.v)};
}
// a b + c, a b - c and c - a b, rounded once
SIROCCO_INLINE Floats16 fma(Floats16 a, Floats16 b, Floats16 c) {
  return {_mm512_fmadd_ps(a.v, b.v, c.v)};
}
SIROCCO_INLINE Floats16 fma_subtract(Floats16 a, Floats16 b, Floats16 c) {
  return {_mm512_fmsub_ps(a.v, b.v, c.v)};
}
// a where a > b, else b
SIROCCO_INLINE Floats16 maximum(Floats16 a, Floats16 b) {
  return {_mm512_max_ps(a.v, b.v)};
}
SIROCCO_INLINE Floats16 minimum(Floats16 a, Floats16 b) {
  return {_mm512_min_ps(a.v, b.v)};
}
SIROCCO_INLINE Ints16 maximum(Ints16 a, Ints16 b) {
  return {_mm512_max_epi32(a.v, b.v)};
}
SIROCCO_INLINE Ints16 minimum(Ints16 a, Ints16 b) {
  return {_mm512_min_epi32(a.v, b.v)};
}
SIROCCO_INLINE Ints16 bit_and(Ints16 a, Ints16 b) {
  return {_mm512_and_si512(a.v, b.v)};
}
SIROCCO_INLINE Floats16 load_f16(const void* p) {
  return {_mm512_cvtph_ps(_mm256_loadu_si256(static_cast<const __m256i*>(p)))};
}
SIROCCO_INLINE void store_f16(void* p, Floats16 x) {
  _mm256_storeu_si256(static_cast<__m256i*>(p), _mm512_cvtps_ph(x.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
SIROCCO_INLINE Floats16 load_bf16(const void* p) {
  return {_mm512_castsi512_ps(
      _mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256(static_cast<const __m256i*>(p))), 16))};
}
// The low bytes of 16 int32, kept within -128 to 127.
SIROCCO_INLINE void store_narrow(std::int8_t* p, Ints16 x) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtsepi32_epi8(x.v));
}

// 16 bytes, Stride bytes apart.
template <int Stride>
SIROCCO_INLINE Ints16 strided_bytes(const std::byte* p) {
  alignas(16) std::uint8_t bytes[16];
  for (int i = 0; i < 16; ++i) std::memcpy(&bytes[i], p + i * Stride, 1);
  return {_mm512_cvtepu8_epi32(_mm_load_si128(reinterpret_cast<const __m128i*>(bytes)))};
}
// 16 f16, Stride bytes apart; all 16 blocks of Stride bytes may be read, starting Offset bytes before the first f16
template <int Stride, int Offset>
SIROCCO_INLINE Floats16 strided_f16(const std::byte* p) {
  if constexpr (Stride <= 62) {
    constexpr int kEach = (64 - 2 - Offset) / Stride + 1;
    __m512i all = _mm512_setzero_si512();
    const auto step = [&]<int First>() {
      if constexpr (First < 16) {
        // Not past the last block: the bytes after it may be no memory.
        constexpr int kBegin = First * Stride + 64 <= 16 * Stride ? First * Stride : 16 * Stride - 64;
        constexpr auto word = [](int i) {
          const int byte = i * Stride + Offset - kBegin;
          return static_cast<std::int16_t>(byte >= 0 && byte < 63 ? byte / 2 : 0);
        };
        static_assert(Stride % 2 == 0 && Offset % 2 == 0);
        alignas(64) static constexpr std::int16_t kWords[32] = {
            word(0), word(1), word(2),  word(3),  word(4),  word(5),  word(6),  word(7),
            word(8), word(9), word(10), word(11), word(12), word(13), word(14), word(15)};
        constexpr __mmask32 kMask = ((1U << kEach) - 1U) << First & 0xFFFFU;
        all = _mm512_mask_permutexvar_epi16(all, kMask, _mm512_load_si512(kWords), _mm512_loadu_si512(p + kBegin));
      }
    };
    step.template operator()<0>();
    step.template operator()<kEach>();
    step.template operator()<2 * kEach>();
    step.template operator()<3 * kEach>();
    step.template operator()<4 * kEach>();
    step.template operator()<5 * kEach>();
    step.template operator()<6 * kEach>();
    step.template operator()<7 * kEach>();
    static_assert(8 * kEach >= 16);
    return {_mm512_cvtph_ps(_mm512_castsi512_si256(all))};
  } else {
    alignas(32) std::uint16_t halves[16];
    for (int i = 0; i < 16; ++i) std::memcpy(&halves[i], p + i * Stride + Offset, 2);
    return load_f16(halves);
  }
}

namespace detail {
SIROCCO_INLINE void transpose_4x4(__m512& a, __m512& b, __m512& c, __m512& d) {
  const __m512d ab0 = _mm512_castps_pd(_mm512_unpacklo_ps(a, b));
  const __m512d ab1 = _mm512_castps_pd(_mm512_unpackhi_ps(a, b));
  const __m512d cd0 = _mm512_castps_pd(_mm512_unpacklo_ps(c, d));
  const __m512d cd1 = _mm512_castps_pd(_mm512_unpackhi_ps(c, d));
  a = _mm512_castpd_ps(_mm512_unpacklo_pd(ab0, cd0));
  b = _mm512_castpd_ps(_mm512_unpackhi_pd(ab0, cd0));
  c = _mm512_castpd_ps(_mm512_unpacklo_pd(ab1, cd1));
  d = _mm512_castpd_ps(_mm512_unpackhi_pd(ab1, cd1));
}
}  // namespace detail

// x[i] lane j becomes x[j] lane i.
SIROCCO_INLINE void transpose(Floats16* x) {
  for (int i = 0; i < 16; i += 4) detail::transpose_4x4(x[i].v, x[i + 1].v, x[i + 2].v, x[i + 3].v);
  for (int i = 0; i < 4; ++i) {
    const __m512 a = _mm512_shuffle_f32x4(x[i].v, x[i + 4].v, 0x88);
    const __m512 b = _mm512_shuffle_f32x4(x[i].v, x[i + 4].v, 0xDD);
    const __m512 c = _mm512_shuffle_f32x4(x[i + 8].v, x[i + 12].v, 0x88);
    const __m512 d = _mm512_shuffle_f32x4(x[i + 8].v, x[i + 12].v, 0xDD);
    x[i].v = _mm512_shuffle_f32x4(a, c, 0x88);
    x[i + 4].v = _mm512_shuffle_f32x4(b, d, 0x88);
    x[i + 8].v = _mm512_shuffle_f32x4(a, c, 0xDD);
    x[i + 12].v = _mm512_shuffle_f32x4(b, d, 0xDD);
  }
}
// Lanes j and j + 8 are added, then j and j + 4, j + 2, j + 1.
SIROCCO_INLINE float sum_lanes(Floats16 x) {
  const __m256 eight = _mm256_add_ps(_mm512_castps512_ps256(x.v), _mm512_extractf32x8_ps(x.v, 1));
  const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}
SIROCCO_INLINE Floats16 as_floats(Bytes64 x) {
  return {_mm512_castsi512_ps(x.v)};
}
SIROCCO_INLINE Bytes64 as_bytes(Floats16 x) {
  return {_mm512_castps_si512(x.v)};
}

SIROCCO_INLINE float as_largest(Ints16 x) {
  return std::bit_cast<float>(_mm512_reduce_max_epi32(x.v));
}
SIROCCO_INLINE int sum_bytes_16(const std::int8_t* p) {
  // As unsigned bytes, 128 more each.
  const __m128i x = _mm_xor_si128(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)), _mm_set1_epi8(-128));
  const __m128i two = _mm_sad_epu8(x, _mm_setzero_si128());
  return _mm_cvtsi128_si32(two) + _mm_extract_epi16(two, 4) - 16 * 128;
}

}  // namespace sirocco::cpu::SIROCCO_ISA

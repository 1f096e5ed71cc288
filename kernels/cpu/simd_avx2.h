// simd.h on AVX2 with FMA and F16C, and on AVX-VNNI: a vector is two registers.
#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace sirocco::cpu::SIROCCO_ISA {

struct Bytes64 {
  __m256i a;
  __m256i b;
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
// vpdpbusd takes any unsigned byte.
inline constexpr int kSignedOffset = 128;
inline constexpr int kCheapPieces = 2;
#else
// vpmaddubsw saturates above 127 * 127 * 2: signed weights keep their sign, which moves to the activations.
inline constexpr int kSignedOffset = 0;
inline constexpr int kCheapPieces = 1;
#endif
inline constexpr bool kUnsignedPanels = true;
inline constexpr std::size_t kTileRows = 4;
inline constexpr std::size_t kTilePanels = 1;
inline constexpr int kUnrolledBlocks = 1;
inline constexpr std::size_t kStreamRows = 1;

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

SIROCCO_INLINE void hide(Bytes64& x) {
  asm volatile("" : "+x"(x.a), "+x"(x.b));
}
SIROCCO_INLINE Bytes64 load_bytes(const void* p) {
  return {detail::load(p), detail::load(static_cast<const std::byte*>(p) + 32)};
}
SIROCCO_INLINE void store_bytes(void* p, Bytes64 x) {
  detail::store(p, x.a);
  detail::store(static_cast<std::byte*>(p) + 32, x.b);
}
SIROCCO_INLINE void store_transposed(const Bytes64* rows, std::int8_t (*to)[16]) {
  __m128i x[16];
  for (int i = 0; i < 4; ++i) {
    x[4 * i] = _mm256_castsi256_si128(rows[i].a);
    x[4 * i + 1] = _mm256_extracti128_si256(rows[i].a, 1);
    x[4 * i + 2] = _mm256_castsi256_si128(rows[i].b);
    x[4 * i + 3] = _mm256_extracti128_si256(rows[i].b, 1);
  }
  for (int round = 0; round < 4; ++round) {  // each brings rows half of all apart next to each other
    __m128i y[16];
    for (int i = 0; i < 8; ++i) {
      y[2 * i] = _mm_unpacklo_epi8(x[i], x[i + 8]);
      y[2 * i + 1] = _mm_unpackhi_epi8(x[i], x[i + 8]);
    }
    for (int i = 0; i < 16; ++i) x[i] = y[i];
  }
  for (int i = 0; i < 16; ++i) _mm_storeu_si128(reinterpret_cast<__m128i*>(to[i]), x[i]);
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
template <int Shift>
SIROCCO_INLINE Bytes64 pairs_of(Bytes64 x) {
  const __m256i mask = _mm256_set1_epi8(3);
  return {_mm256_and_si256(_mm256_srli_epi16(x.a, Shift), mask),
          _mm256_and_si256(_mm256_srli_epi16(x.b, Shift + 4), mask)};
}
template <int Shift>
SIROCCO_INLINE Bytes64 high_pairs_of(Bytes64 x) {
  const __m256i mask = _mm256_set1_epi8(0x30);
  return {_mm256_and_si256(_mm256_slli_epi16(x.a, 4 - Shift), mask),
          _mm256_and_si256(_mm256_srli_epi16(x.b, Shift), mask)};
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
  return {detail::or_where_bit(v.a, x.a, Bit, value), detail::or_where_bit(v.b, x.b, Bit + 2, value)};
}
SIROCCO_INLINE Bytes64 or_where(Bytes64 v, std::uint64_t bits, std::uint8_t value) {
  return {detail::or_where(v.a, static_cast<std::uint32_t>(bits), value),
          detail::or_where(v.b, static_cast<std::uint32_t>(bits >> 32), value)};
}
SIROCCO_INLINE Bytes64 look_up(const std::int8_t* table, Bytes64 x) {
  const __m256i t = _mm256_broadcastsi128_si256(detail::load_128(table));
  return {_mm256_shuffle_epi8(t, x.a), _mm256_shuffle_epi8(t, x.b)};
}

namespace detail {
// {p, q}: a broadcast and a blend, which need no shuffle.
SIROCCO_INLINE __m256i join_16(const std::byte* p, const std::byte* q) {
  return _mm256_blend_epi32(_mm256_castsi128_si256(load_128(p)), _mm256_broadcastsi128_si256(load_128(q)), 0xF0);
}
}  // namespace detail
template <int Stride, int Offset>
SIROCCO_INLINE Bytes64 gather_16(const void* p) {
  const auto run = [&](int i) { return static_cast<const std::byte*>(p) + Offset + i * Stride; };
  return {detail::join_16(run(0), run(1)), detail::join_16(run(2), run(3))};
}
SIROCCO_INLINE Bytes64 gather_rows(const std::byte* p, std::size_t stride) {
  return {detail::join_16(p, p + stride), detail::join_16(p + 2 * stride, p + 3 * stride)};
}
template <std::uint8_t... Order>
SIROCCO_INLINE Bytes64 reorder_16(Bytes64 x) {
  static_assert(sizeof...(Order) == 16);
  alignas(16) static constexpr std::uint8_t kOrder[16] = {Order...};
  const __m256i order = _mm256_broadcastsi128_si256(detail::load_128(kOrder));
  return {_mm256_shuffle_epi8(x.a, order), _mm256_shuffle_epi8(x.b, order)};
}
SIROCCO_INLINE void load_transposed(const std::byte* p, std::size_t stride, Bytes64* to) {
  for (std::size_t half = 0; half < 2; ++half) {
    const std::byte* const first = p + 8 * half * stride;
    const auto rows = [&](std::size_t r) { return detail::join_16(first + r * stride, first + (r + 4) * stride); };
    const __m256i low01 = _mm256_unpacklo_epi32(rows(0), rows(1));
    const __m256i high01 = _mm256_unpackhi_epi32(rows(0), rows(1));
    const __m256i low23 = _mm256_unpacklo_epi32(rows(2), rows(3));
    const __m256i high23 = _mm256_unpackhi_epi32(rows(2), rows(3));
    const __m256i words[4] = {_mm256_unpacklo_epi64(low01, low23), _mm256_unpackhi_epi64(low01, low23),
                              _mm256_unpacklo_epi64(high01, high23), _mm256_unpackhi_epi64(high01, high23)};
    for (int j = 0; j < 4; ++j) (half == 0 ? to[j].a : to[j].b) = words[j];
  }
}
namespace detail {
template <int Right, std::uint32_t Mask>
SIROCCO_INLINE __m256i shift_words(__m256i x) {
  constexpr int kCount = Right >= 0 ? Right : -Right;
  const __m256i shifted = Right >= 0 ? _mm256_srli_epi32(x, kCount) : _mm256_slli_epi32(x, kCount);
  return _mm256_and_si256(shifted, _mm256_set1_epi32(static_cast<int>(Mask)));
}
}  // namespace detail
template <int Right, std::uint32_t Mask>
SIROCCO_INLINE Bytes64 shift_words(Bytes64 x) {
  return {detail::shift_words<Right, Mask>(x.a), detail::shift_words<Right, Mask>(x.b)};
}
template <int S0, int S1, int S2, int S3, std::uint32_t M0, std::uint32_t M1, std::uint32_t M2, std::uint32_t M3>
SIROCCO_INLINE Bytes64 shift_and_mask(Bytes64 x) {
  const __m256i shifts = _mm256_broadcastsi128_si256(_mm_set_epi32(S3, S2, S1, S0));
  const __m256i masks = _mm256_broadcastsi128_si256(
      _mm_set_epi32(static_cast<int>(M3), static_cast<int>(M2), static_cast<int>(M1), static_cast<int>(M0)));
  return {_mm256_and_si256(_mm256_srlv_epi32(x.a, shifts), masks),
          _mm256_and_si256(_mm256_srlv_epi32(x.b, shifts), masks)};
}
SIROCCO_INLINE Bytes64 subtract_bytes(Bytes64 x, Bytes64 y) {
  return {_mm256_sub_epi8(x.a, y.a), _mm256_sub_epi8(x.b, y.b)};
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
namespace detail {
SIROCCO_INLINE __m256i multiply_add(__m256i acc, __m256i x, __m256i y) {
#if defined(__AVXVNNI__)
  return _mm256_dpwssd_avx_epi32(acc, x, y);
#else
  return _mm256_add_epi32(acc, _mm256_madd_epi16(x, y));
#endif
}
}  // namespace detail
// The upper half of each is 0, so that only the lower ones are multiplied.
SIROCCO_INLINE Ints16 narrow_factors(const std::int8_t* p) {
  const Ints16 x = widen_bytes(p);
  const __m256i lower = _mm256_set1_epi32(0xFFFF);
  return {_mm256_and_si256(x.a, lower), _mm256_and_si256(x.b, lower)};
}
SIROCCO_INLINE Ints16 multiply_add(Ints16 acc, Ints16 x, Ints16 y) {
  return {detail::multiply_add(acc.a, x.a, y.a), detail::multiply_add(acc.b, x.b, y.b)};
}
template <int Count>
SIROCCO_INLINE Ints16 shift_left_ints(Ints16 x) {
  return {_mm256_slli_epi32(x.a, Count), _mm256_slli_epi32(x.b, Count)};
}
SIROCCO_INLINE Ints16 dot(Ints16 acc, Bytes64 w, Bytes64 a) {
  return {detail::dot(acc.a, w.a, a.a), detail::dot(acc.b, w.b, a.b)};
}
namespace detail {
SIROCCO_INLINE __m256i dot_2(__m256i w, __m256i a, __m256i w2, __m256i a2) {
#if defined(__AVXVNNI__)
  return _mm256_dpbusd_avx_epi32(_mm256_dpbusd_avx_epi32(_mm256_setzero_si256(), w, a), w2, a2);
#else
  const __m256i pairs = _mm256_add_epi16(_mm256_maddubs_epi16(w, a), _mm256_maddubs_epi16(w2, a2));
  return _mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
#endif
}
}  // namespace detail
SIROCCO_INLINE Ints16 dot_2(Bytes64 w, Bytes64 a, Bytes64 w2, Bytes64 a2) {
  return {detail::dot_2(w.a, a.a, w2.a, a2.a), detail::dot_2(w.b, a.b, w2.b, a2.b)};
}
SIROCCO_INLINE Bytes64 offset_signed(Bytes64 w) {
  return kSignedOffset == 0 ? w : add_bytes(w, broadcast_byte(128));
}
SIROCCO_INLINE Ints16 dot_offset(Ints16 acc, Bytes64 w, Bytes64 a) {
  return {detail::dot_offset(acc.a, w.a, a.a), detail::dot_offset(acc.b, w.b, a.b)};
}
SIROCCO_INLINE Bytes64 broadcast_four(const std::int8_t* p) {
  std::int32_t four;
  std::memcpy(&four, p, sizeof four);
  const __m256i x = _mm256_set1_epi32(four);
  return {x, x};
}
SIROCCO_INLINE Ints16 dot_pair(Ints16 acc, const std::int16_t* w, const std::int16_t* a) {
  std::int32_t two;
  std::memcpy(&two, a, sizeof two);
  const __m256i x = _mm256_set1_epi32(two);
  return {_mm256_add_epi32(acc.a, _mm256_madd_epi16(detail::load(w), x)),
          _mm256_add_epi32(acc.b, _mm256_madd_epi16(detail::load(w + 16), x))};
}

// One register: the lanes of both halves are only ever added.
struct Partial {
  __m256i v;
};
// In memory: a broadcast from there costs no shuffle.
template <int SubBlock>
struct SubValues;
template <>
struct SubValues<32> {
  alignas(32) std::int32_t v[8];  // each twice, as int16
};
template <>
struct SubValues<16> {
  alignas(32) std::int16_t v[16];
};
namespace detail {
template <int Block>
SIROCCO_INLINE __m128i sixteen(Bytes64 x) {
  const __m256i half = Block < 2 ? x.a : x.b;
  return Block % 2 == 0 ? _mm256_castsi256_si128(half) : _mm256_extracti128_si256(half, 1);
}
SIROCCO_INLINE void put(SubValues<32>& to, __m128i x) {
  const __m128i eight = _mm_cvtepi8_epi16(x);
  store(to.v, _mm256_set_m128i(_mm_unpackhi_epi16(eight, eight), _mm_unpacklo_epi16(eight, eight)));
}
SIROCCO_INLINE void put(SubValues<16>& to, __m128i x) {
  store(to.v, _mm256_cvtepi8_epi16(x));
}
}  // namespace detail
template <int SubBlock>
SIROCCO_INLINE void store_values(Bytes64 x, SubValues<SubBlock>* to) {
  detail::put(to[0], detail::sixteen<0>(x));
  detail::put(to[1], detail::sixteen<1>(x));
  detail::put(to[2], detail::sixteen<2>(x));
  detail::put(to[3], detail::sixteen<3>(x));
}
namespace detail {
// For the products with run Run (of 32 elements).
template <int Run>
SIROCCO_INLINE __m256i values_of(const SubValues<32>& s) {
  return _mm256_set1_epi32(s.v[Run]);
}
template <int Run>
SIROCCO_INLINE __m256i values_of(const SubValues<16>& s) {
  std::int32_t two;
  std::memcpy(&two, &s.v[2 * Run], sizeof two);
  const __m256i first_then_second = _mm256_set_m128i(_mm_set1_epi16(0x0302), _mm_set1_epi16(0x0100));
  return _mm256_shuffle_epi8(_mm256_set1_epi32(two), first_then_second);
}
SIROCCO_INLINE __m256i add_scaled(__m256i acc, __m256i w, __m256i a, __m256i values) {
#if defined(__AVXVNNI__)
  return _mm256_dpwssd_avx_epi32(acc, _mm256_maddubs_epi16(w, a), values);
#else
  return _mm256_add_epi32(acc, _mm256_madd_epi16(_mm256_maddubs_epi16(w, a), values));
#endif
}
}  // namespace detail
namespace detail {
template <int Part, int SubBlock>
SIROCCO_INLINE __m256i add_part(__m256i acc, Bytes64 w, Bytes64 a, const SubValues<SubBlock>& s) {
  constexpr int kRun = 4 * (Part / 2) + Part % 2;
  const __m256i sum = add_scaled(acc, w.a, a.a, values_of<kRun>(s));
  return add_scaled(sum, w.b, a.b, values_of<kRun + 2>(s));
}
template <int Part>
SIROCCO_INLINE __m256i add_part_offset(__m256i acc, Bytes64 w, Bytes64 a, const SubValues<32>& s) {
#if defined(__AVXVNNI__)
  constexpr int kRun = 4 * (Part / 2) + Part % 2;
  const auto scaled = [&](__m256i wx, __m256i ax, std::int32_t value) {
    const __m256i products = _mm256_dpbusd_avx_epi32(_mm256_setzero_si256(), wx, ax);
    return _mm256_mullo_epi32(products, _mm256_set1_epi32(static_cast<std::int16_t>(value)));
  };
  return _mm256_add_epi32(acc, _mm256_add_epi32(scaled(w.a, a.a, s.v[kRun]), scaled(w.b, a.b, s.v[kRun + 2])));
#else
  // 127 * 127 * 2 still fits: the levels of IQ4_XS are at most 127.
  return add_part<Part>(acc, Bytes64{_mm256_abs_epi8(w.a), _mm256_abs_epi8(w.b)},
                        Bytes64{_mm256_sign_epi8(a.a, w.a), _mm256_sign_epi8(a.b, w.b)}, s);
#endif
}
}  // namespace detail
template <int Largest, int SubBlock>
SIROCCO_INLINE Partial dot_block(const Bytes64* w, const std::int8_t* a, const SubValues<SubBlock>& s) {
  __m256i sum = detail::add_part<0>(_mm256_setzero_si256(), w[0], load_bytes(a), s);
  sum = detail::add_part<1>(sum, w[1], load_bytes(a + 64), s);
  sum = detail::add_part<2>(sum, w[2], load_bytes(a + 128), s);
  return {detail::add_part<3>(sum, w[3], load_bytes(a + 192), s)};
}
SIROCCO_INLINE Partial dot_block_offset(const Bytes64* w, const std::int8_t* a, const SubValues<32>& s) {
  __m256i sum = detail::add_part_offset<0>(_mm256_setzero_si256(), w[0], load_bytes(a), s);
  sum = detail::add_part_offset<1>(sum, w[1], load_bytes(a + 64), s);
  sum = detail::add_part_offset<2>(sum, w[2], load_bytes(a + 128), s);
  return {detail::add_part_offset<3>(sum, w[3], load_bytes(a + 192), s)};
}

namespace detail {
// Sums of neighbours: of x's lanes, then of y's, in each 128 bits. Lanes of at most Largest.
template <std::int64_t Largest>
SIROCCO_INLINE __m256i add_neighbours(__m256i x, __m256i y) {
  if constexpr (Largest <= 32767) {  // as int16 that takes one shuffle instead of two
    return _mm256_madd_epi16(_mm256_packs_epi32(x, y), _mm256_set1_epi16(1));
  } else {
    const __m256 fx = _mm256_castsi256_ps(x);
    const __m256 fy = _mm256_castsi256_ps(y);
    return _mm256_add_epi32(_mm256_castps_si256(_mm256_shuffle_ps(fx, fy, 0x88)),
                            _mm256_castps_si256(_mm256_shuffle_ps(fx, fy, 0xDD)));
  }
}
// Lane j of each 128 bits: the sum of v_j's four lanes there.
template <std::int64_t Largest>
SIROCCO_INLINE __m256i sum_4(__m256i v0, __m256i v1, __m256i v2, __m256i v3) {
  return add_neighbours<2 * Largest>(add_neighbours<Largest>(v0, v1), add_neighbours<Largest>(v2, v3));
}
// {sum of a's 128-bit halves, sum of b's}
SIROCCO_INLINE __m256i sum_halves(__m256i a, __m256i b) {
  return _mm256_add_epi32(_mm256_permute2x128_si256(a, b, 0x20), _mm256_permute2x128_si256(a, b, 0x31));
}
}  // namespace detail

struct Sum4 {
  __m256i v;
};
SIROCCO_INLINE Sum4 sum_4(Partial x, Partial y, Partial z, Partial w) {
  return {detail::sum_4<INT32_MAX>(x.v, y.v, z.v, w.v)};
}
SIROCCO_INLINE Ints16 sum_each(Sum4 s0, Sum4 s1, Sum4 s2, Sum4 s3) {
  return {detail::sum_halves(s0.v, s1.v), detail::sum_halves(s2.v, s3.v)};
}
template <int SubBlock, bool Upper>
SIROCCO_INLINE Ints16 dot_sums(Bytes64 x, const std::int16_t* sums) {
  const __m128i x0 = detail::sixteen<0>(x);
  const __m128i x1 = detail::sixteen<1>(x);
  const __m128i x2 = detail::sixteen<2>(x);
  const __m128i x3 = detail::sixteen<3>(x);
  if constexpr (SubBlock == 32) {
    const auto eights = [](__m128i p, __m128i q) {
      return _mm256_cvtepi8_epi16(Upper ? _mm_unpackhi_epi64(p, q) : _mm_unpacklo_epi64(p, q));
    };
    return {_mm256_madd_epi16(eights(x0, x1), detail::load(sums)),
            _mm256_madd_epi16(eights(x2, x3), detail::load(sums + 16))};
  } else {
    const auto product = [&](__m128i p, int i) {
      return _mm256_madd_epi16(_mm256_cvtepi8_epi16(p), detail::load(sums + 16 * i));
    };
    return {detail::sum_halves(product(x0, 0), product(x1, 1)), detail::sum_halves(product(x2, 2), product(x3, 3))};
  }
}
template <std::int64_t Largest = INT32_MAX>
SIROCCO_INLINE Ints16 sum_fours(Ints16 x0, Ints16 x1, Ints16 x2, Ints16 x3) {
  // {x_i's fours 0 and 1} and {2 and 3}: lane j of 128 bits l is four l of x_j.
  const __m256i a = detail::sum_4<Largest>(x0.a, x1.a, x2.a, x3.a);
  const __m256i b = detail::sum_4<Largest>(x0.b, x1.b, x2.b, x3.b);
  const __m256i ab0 = _mm256_unpacklo_epi32(a, b);  // 128 bits l: {x0[l], x0[l + 2], x1[l], x1[l + 2]}
  const __m256i ab1 = _mm256_unpackhi_epi32(a, b);
  const __m256i order = _mm256_set_epi32(7, 3, 6, 2, 5, 1, 4, 0);
  const auto ordered = [&](__m256i x) {
    // {x0[0], x0[1], x0[2], x0[3], x1…}
    return _mm256_permutevar8x32_epi32(x, order);
  };
  return {ordered(ab0), ordered(ab1)};
}

}  // namespace sirocco::cpu::SIROCCO_ISA

#include "kernels/cpu/simd_avx2_floats.h"

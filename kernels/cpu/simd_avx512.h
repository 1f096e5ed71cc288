// simd.h on AVX-512 with VNNI (Cascade Lake, Ice Lake, Zen 4 and newer): a vector is one register.
#pragma once

#if defined(__clang__)
#include <immintrin.h>
#else
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"  // gcc 12: what intrinsics call undefined on purpose
#pragma GCC diagnostic ignored "-Wuninitialized"
#include <immintrin.h>
#pragma GCC diagnostic pop
#endif

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace sirocco::cpu::SIROCCO_ISA {

struct Bytes64 {
  __m512i v;
};
struct Ints16 {
  __m512i v;
};
struct Floats16 {
  __m512 v;
};

// dot() takes weights of 0 to 255: a signed weight is stored with 128 added, which the sum of the activations undoes.
inline constexpr int kSignedOffset = 128;
inline constexpr bool kUnsignedPanels = true;
inline constexpr int kCheapPieces = 2;
// 12 sums, and two thirds of a load for each product: with one panel and 12 rows it is more than one of two a cycle.
inline constexpr std::size_t kTileRows = 6;
inline constexpr std::size_t kTilePanels = 2;
inline constexpr int kUnrolledBlocks = 4;
inline constexpr std::size_t kStreamRows = 2;

SIROCCO_INLINE void prefetch(const void* address) {
  _mm_prefetch(static_cast<const char*>(address), _MM_HINT_T0);
}

// --- bytes

SIROCCO_INLINE void hide(Bytes64& x) {
  asm volatile("" : "+v"(x.v));
}
SIROCCO_INLINE Bytes64 load_bytes(const void* p) {
  return {_mm512_loadu_si512(p)};
}
SIROCCO_INLINE void store_bytes(void* p, Bytes64 x) {
  _mm512_storeu_si512(p, x.v);
}
SIROCCO_INLINE void store_transposed(const Bytes64* rows, std::int8_t (*to)[16]) {
  // Word j of the four rows of a vector to lane j; byte t of these words to word t; word t of all vectors together.
  const __m512i words = _mm512_set_epi32(15, 11, 7, 3, 14, 10, 6, 2, 13, 9, 5, 1, 12, 8, 4, 0);
  const __m512i bytes = _mm512_broadcast_i32x4(_mm_set_epi8(15, 11, 7, 3, 14, 10, 6, 2, 13, 9, 5, 1, 12, 8, 4, 0));
  __m512i x[4];
  for (int i = 0; i < 4; ++i) x[i] = _mm512_shuffle_epi8(_mm512_permutexvar_epi32(words, rows[i].v), bytes);
  const __m512i low[2] = {_mm512_unpacklo_epi32(x[0], x[1]), _mm512_unpacklo_epi32(x[2], x[3])};
  const __m512i high[2] = {_mm512_unpackhi_epi32(x[0], x[1]), _mm512_unpackhi_epi32(x[2], x[3])};
  const __m512i y[4] = {_mm512_unpacklo_epi64(low[0], low[1]), _mm512_unpackhi_epi64(low[0], low[1]),
                        _mm512_unpacklo_epi64(high[0], high[1]), _mm512_unpackhi_epi64(high[0], high[1])};
  for (int t = 0; t < 4; ++t) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to[t]), _mm512_extracti32x4_epi32(y[t], 0));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to[4 + t]), _mm512_extracti32x4_epi32(y[t], 1));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to[8 + t]), _mm512_extracti32x4_epi32(y[t], 2));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to[12 + t]), _mm512_extracti32x4_epi32(y[t], 3));
  }
}
SIROCCO_INLINE Bytes64 broadcast_byte(std::uint8_t value) {
  return {_mm512_set1_epi8(static_cast<char>(value))};
}
SIROCCO_INLINE Bytes64 add_bytes(Bytes64 a, Bytes64 b) {
  return {_mm512_add_epi8(a.v, b.v)};
}
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
SIROCCO_INLINE Bytes64 twice_32(const void* p) {
  return {_mm512_broadcast_i64x4(_mm256_loadu_si256(static_cast<const __m256i*>(p)))};
}
SIROCCO_INLINE Bytes64 nibbles_of_32(const void* p) {
  const __m512i shifts = _mm512_inserti64x4(_mm512_setzero_si512(), _mm256_set1_epi32(4), 1);
  return {_mm512_and_si512(_mm512_srlv_epi32(twice_32(p).v, shifts), _mm512_set1_epi8(15))};
}
SIROCCO_INLINE Bytes64 nibbles_of_2x16(const void* p, const void* q) {
  const __m256i a = _mm256_broadcastsi128_si256(_mm_loadu_si128(static_cast<const __m128i*>(p)));
  const __m256i b = _mm256_broadcastsi128_si256(_mm_loadu_si128(static_cast<const __m128i*>(q)));
  const __m512i both = _mm512_inserti64x4(_mm512_castsi256_si512(a), b, 1);
  const __m512i shifts = _mm512_broadcast_i64x4(_mm256_set_epi32(4, 4, 4, 4, 0, 0, 0, 0));
  return {_mm512_and_si512(_mm512_srlv_epi32(both, shifts), _mm512_set1_epi8(15))};
}
template <int Shift>
SIROCCO_INLINE Bytes64 pairs_of(Bytes64 x) {
  const __m512i shifts = _mm512_inserti64x4(_mm512_set1_epi32(Shift), _mm256_set1_epi32(Shift + 4), 1);
  return {_mm512_and_si512(_mm512_srlv_epi32(x.v, shifts), _mm512_set1_epi8(3))};
}
template <int Shift>
SIROCCO_INLINE Bytes64 high_pairs_of(Bytes64 x) {
  // Left by 4 - Shift and by -Shift.
  const __m512i rotations = _mm512_inserti64x4(_mm512_set1_epi32(4 - Shift), _mm256_set1_epi32((32 - Shift) % 32), 1);
  return {_mm512_and_si512(_mm512_rolv_epi32(x.v, rotations), _mm512_set1_epi8(0x30))};
}
template <int Bit>
SIROCCO_INLINE Bytes64 or_where_bit(Bytes64 v, Bytes64 x, std::uint8_t value) {
  const __m512i mask = _mm512_inserti64x4(_mm512_set1_epi8(static_cast<char>(1 << Bit)),
                                          _mm256_set1_epi8(static_cast<char>(4 << Bit)), 1);
  const __mmask64 where = _mm512_test_epi8_mask(x.v, mask);
  return {_mm512_mask_add_epi8(v.v, where, v.v, _mm512_set1_epi8(static_cast<char>(value)))};
}
SIROCCO_INLINE Bytes64 or_where(Bytes64 v, std::uint64_t bits, std::uint8_t value) {
  return {_mm512_mask_add_epi8(v.v, bits, v.v, _mm512_set1_epi8(static_cast<char>(value)))};
}
SIROCCO_INLINE Bytes64 look_up(const std::int8_t* table, Bytes64 x) {
  const __m512i t = _mm512_broadcast_i32x4(_mm_loadu_si128(reinterpret_cast<const __m128i*>(table)));
  return {_mm512_shuffle_epi8(t, x.v)};
}

template <int Stride, int Offset>
SIROCCO_INLINE Bytes64 gather_16(const void* p) {
  const auto* bytes = static_cast<const std::byte*>(p);
  constexpr int kSpan = Offset + 3 * Stride + 16;
  if constexpr (kSpan <= 96) {
    // Two loads that cover all of it: those that cross cache lines cost as much as all the rest. Words are taken out of
    // them; where runs begin at odd bytes, too, each load has those of one kind.
    constexpr bool kOdd = Stride % 2 != 0;
    constexpr int kFirst = kOdd ? Offset : 0;
    constexpr int kSecond = kOdd ? kSpan - 64 : kSpan <= 80 ? kSpan - 16 : kSpan - 32;
    static_assert(kOdd ? (kSecond - kFirst) % 2 != 0 && kSecond <= Offset + Stride : Offset % 2 == 0);
    struct Indices {
      std::uint16_t v[32];
    };
    alignas(64) static constexpr Indices kIndices = [] {
      Indices indices = {};
      for (int i = 0; i < 32; ++i) {
        const int byte = Offset + i / 8 * Stride + 2 * (i % 8);
        const bool first = kOdd ? (byte - kFirst) % 2 == 0 : byte < 64;
        indices.v[i] = static_cast<std::uint16_t>(first ? (byte - kFirst) / 2 : (byte - kSecond) / 2 + 32);
      }
      return indices;
    }();
    const __m512i first = _mm512_loadu_si512(bytes + kFirst);
    __m512i second;
    if constexpr (kOdd) {
      second = _mm512_loadu_si512(bytes + kSecond);
    } else if constexpr (kSpan <= 80) {
      second = _mm512_castsi128_si512(_mm_loadu_si128(reinterpret_cast<const __m128i*>(bytes + kSecond)));
    } else {
      second = _mm512_castsi256_si512(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(bytes + kSecond)));
    }
    return {_mm512_permutex2var_epi16(first, _mm512_load_si512(&kIndices), second)};
  } else {
    // Broadcasts from memory, blended in: no shuffles.
    const auto run = [&](int i) {
      return _mm512_broadcast_i32x4(_mm_loadu_si128(reinterpret_cast<const __m128i*>(bytes + Offset + i * Stride)));
    };
    const __m512i first = _mm512_mask_blend_epi64(0x0C, run(0), run(1));
    return {_mm512_mask_blend_epi64(0xF0, first, _mm512_mask_blend_epi64(0xC0, run(2), run(3)))};
  }
}
SIROCCO_INLINE Bytes64 gather_rows(const std::byte* p, std::size_t stride) {
  // Inserts from memory need no shuffle, of which there is one a cycle.
  const auto row = [&](std::size_t i) { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p + i * stride)); };
  const __m512i x = _mm512_inserti32x4(_mm512_castsi128_si512(row(0)), row(1), 1);
  return {_mm512_inserti32x4(_mm512_inserti32x4(x, row(2), 2), row(3), 3)};
}
template <std::uint8_t... Order>
SIROCCO_INLINE Bytes64 reorder_16(Bytes64 x) {
  static_assert(sizeof...(Order) == 16);
  alignas(16) static constexpr std::uint8_t kOrder[16] = {Order...};
  const __m128i order = _mm_load_si128(reinterpret_cast<const __m128i*>(kOrder));
  return {_mm512_shuffle_epi8(x.v, _mm512_broadcast_i32x4(order))};
}
SIROCCO_INLINE void load_transposed(const std::byte* p, std::size_t stride, Bytes64* to) {
  // Rows r, r + 4, r + 8, r + 12.
  const auto rows = [&](std::size_t r) { return gather_rows(p + r * stride, 4 * stride).v; };
  const __m512i x[4] = {rows(0), rows(1), rows(2), rows(3)};
  const __m512i low01 = _mm512_unpacklo_epi32(x[0], x[1]);
  const __m512i high01 = _mm512_unpackhi_epi32(x[0], x[1]);
  const __m512i low23 = _mm512_unpacklo_epi32(x[2], x[3]);
  const __m512i high23 = _mm512_unpackhi_epi32(x[2], x[3]);
  to[0] = {_mm512_unpacklo_epi64(low01, low23)};
  to[1] = {_mm512_unpackhi_epi64(low01, low23)};
  to[2] = {_mm512_unpacklo_epi64(high01, high23)};
  to[3] = {_mm512_unpackhi_epi64(high01, high23)};
}
template <int Right, std::uint32_t Mask>
SIROCCO_INLINE Bytes64 shift_words(Bytes64 x) {
  constexpr auto kCount = static_cast<unsigned>(Right >= 0 ? Right : -Right);
  const __m512i shifted = Right >= 0 ? _mm512_srli_epi32(x.v, kCount) : _mm512_slli_epi32(x.v, kCount);
  return {_mm512_and_si512(shifted, _mm512_set1_epi32(static_cast<int>(Mask)))};
}
template <int S0, int S1, int S2, int S3, std::uint32_t M0, std::uint32_t M1, std::uint32_t M2, std::uint32_t M3>
SIROCCO_INLINE Bytes64 shift_and_mask(Bytes64 x) {
  const __m512i shifts = _mm512_broadcast_i32x4(_mm_set_epi32(S3, S2, S1, S0));
  const __m512i masks = _mm512_broadcast_i32x4(
      _mm_set_epi32(static_cast<int>(M3), static_cast<int>(M2), static_cast<int>(M1), static_cast<int>(M0)));
  return {_mm512_and_si512(_mm512_srlv_epi32(x.v, shifts), masks)};
}
SIROCCO_INLINE Bytes64 subtract_bytes(Bytes64 a, Bytes64 b) {
  return {_mm512_sub_epi8(a.v, b.v)};
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
SIROCCO_INLINE Ints16 narrow_factors(const std::int8_t* p) {
  return {_mm512_and_si512(widen_bytes(p).v, _mm512_set1_epi32(0xFFFF))};  // only lower halves are multiplied
}
SIROCCO_INLINE Ints16 multiply_add(Ints16 acc, Ints16 x, Ints16 y) {
  return {_mm512_dpwssd_epi32(acc.v, x.v, y.v)};
}
template <int Count>
SIROCCO_INLINE Ints16 shift_left_ints(Ints16 a) {
  return {_mm512_slli_epi32(a.v, Count)};
}

SIROCCO_INLINE Ints16 dot(Ints16 acc, Bytes64 w, Bytes64 a) {
  return {_mm512_dpbusd_epi32(acc.v, w.v, a.v)};
}
SIROCCO_INLINE Ints16 dot_2(Bytes64 w, Bytes64 a, Bytes64 w2, Bytes64 a2) {
  return {_mm512_dpbusd_epi32(_mm512_dpbusd_epi32(_mm512_setzero_si512(), w.v, a.v), w2.v, a2.v)};
}
SIROCCO_INLINE Bytes64 offset_signed(Bytes64 w) {
  return {_mm512_xor_si512(w.v, _mm512_set1_epi8(-128))};
}
SIROCCO_INLINE Ints16 dot_offset(Ints16 acc, Bytes64 w, Bytes64 a) {
  return {_mm512_dpbusd_epi32(acc.v, w.v, a.v)};
}
SIROCCO_INLINE Bytes64 broadcast_four(const std::int8_t* p) {
  std::int32_t four;
  std::memcpy(&four, p, sizeof four);
  return {_mm512_set1_epi32(four)};
}
SIROCCO_INLINE Ints16 dot_pair(Ints16 acc, const std::int16_t* w, const std::int16_t* a) {
  std::int32_t two;
  std::memcpy(&two, a, sizeof two);
  return {_mm512_dpwssd_epi32(acc.v, _mm512_loadu_si512(w), _mm512_set1_epi32(two))};
}

using Partial = Ints16;
template <int SubBlock>
struct SubValues {
  alignas(32) std::int16_t v[16];  // 8 or 16
};
template <int SubBlock>
SIROCCO_INLINE void store_values(Bytes64 x, SubValues<SubBlock>* to) {
  _mm512_storeu_si512(to, _mm512_cvtepi8_epi16(_mm512_castsi512_si256(x.v)));
  _mm512_storeu_si512(to + 2, _mm512_cvtepi8_epi16(_mm512_extracti64x4_epi64(x.v, 1)));
}
namespace detail {
// Sums of neighbours: of x's lanes, then of y's, in each 128 bits. Lanes of at most Largest.
template <std::int64_t Largest>
SIROCCO_INLINE __m512i add_neighbours(__m512i x, __m512i y) {
  if constexpr (Largest <= 32767) {  // as int16 that takes one shuffle instead of two
    return _mm512_madd_epi16(_mm512_packs_epi32(x, y), _mm512_set1_epi16(1));
  } else {
    const __m512 fx = _mm512_castsi512_ps(x);
    const __m512 fy = _mm512_castsi512_ps(y);
    return _mm512_add_epi32(_mm512_castps_si512(_mm512_shuffle_ps(fx, fy, 0x88)),
                            _mm512_castps_si512(_mm512_shuffle_ps(fx, fy, 0xDD)));
  }
}
template <std::int64_t Largest>
SIROCCO_INLINE __m512i sum_4(__m512i v0, __m512i v1, __m512i v2, __m512i v3) {
  return add_neighbours<2 * Largest>(add_neighbours<Largest>(v0, v1), add_neighbours<Largest>(v2, v3));
}
SIROCCO_INLINE __m512i sum_halves(__m512i a, __m512i b) {
  return _mm512_add_epi32(_mm512_shuffle_i32x4(a, b, 0x88), _mm512_shuffle_i32x4(a, b, 0xDD));
}

// The int16 that dot_block multiplies lanes with, after Packed levels of packing parts together: of each 128 bits, 8 or
// 4 of the first part in it, then of the next.
template <int SubBlock, int Packed, int First>
struct ValueIndices {
  std::int16_t v[32];
  constexpr ValueIndices() : v() {
    for (int word = 0; word < 32; ++word) {
      const int part = First + (Packed == 2 ? word % 8 / 2 : word % 8 / 4);
      const int run = 4 * (part / 2) + part % 2 + 2 * (word / 16);
      v[word] = static_cast<std::int16_t>(SubBlock == 32 ? run : 2 * run + word % 16 / 8);
    }
  }
};
template <int SubBlock, int Packed, int First>
SIROCCO_INLINE __m512i values_of(const SubValues<SubBlock>& s) {
  alignas(64) static constexpr ValueIndices<SubBlock, Packed, First> kIndices;
  const __m256i all = _mm256_load_si256(reinterpret_cast<const __m256i*>(s.v));
  return _mm512_permutexvar_epi16(_mm512_load_si512(kIndices.v), _mm512_broadcast_i64x4(all));
}
}  // namespace detail
// The parts' products are packed to int16 as far as they fit, so that one multiplication meets all sub-blocks.
template <int Largest, int SubBlock>
SIROCCO_INLINE Partial dot_block(const Bytes64* w, const std::int8_t* a, const SubValues<SubBlock>& s) {
  const auto products = [&](int part) {
    return _mm512_dpbusd_epi32(_mm512_setzero_si512(), w[part].v, _mm512_loadu_si512(a + 64 * part));
  };
  static_assert(4 * Largest * 127 <= 32767);
  const __m512i first = _mm512_packs_epi32(products(0), products(1));
  const __m512i second = _mm512_packs_epi32(products(2), products(3));
  if constexpr (8 * Largest * 127 <= 32767) {
    const __m512i ones = _mm512_set1_epi16(1);
    const __m512i all = _mm512_packs_epi32(_mm512_madd_epi16(first, ones), _mm512_madd_epi16(second, ones));
    return {_mm512_madd_epi16(all, detail::values_of<SubBlock, 2, 0>(s))};
  } else {
    const __m512i sum = _mm512_madd_epi16(first, detail::values_of<SubBlock, 1, 0>(s));
    return {_mm512_dpwssd_epi32(sum, second, detail::values_of<SubBlock, 1, 2>(s))};
  }
}
SIROCCO_INLINE Partial dot_block_offset(const Bytes64* w, const std::int8_t* a, const SubValues<32>& s) {
  __m512i sum = _mm512_setzero_si512();
  for (int part = 0; part < 4; ++part) {
    const __m512i products = _mm512_dpbusd_epi32(_mm512_setzero_si512(), w[part].v, _mm512_loadu_si512(a + 64 * part));
    const int run = 4 * (part / 2) + part % 2;
    const __m512i values = _mm512_mask_set1_epi32(_mm512_set1_epi32(s.v[run]), 0xFF00, s.v[run + 2]);
    sum = _mm512_add_epi32(sum, _mm512_mullo_epi32(products, values));
  }
  return {sum};
}
struct Sum4 {
  __m512i v;
};
SIROCCO_INLINE Sum4 sum_4(Partial a, Partial b, Partial c, Partial d) {
  return {detail::sum_4<INT32_MAX>(a.v, b.v, c.v, d.v)};
}
SIROCCO_INLINE Ints16 sum_each(Sum4 s0, Sum4 s1, Sum4 s2, Sum4 s3) {
  return {detail::sum_halves(detail::sum_halves(s0.v, s1.v), detail::sum_halves(s2.v, s3.v))};
}
template <int SubBlock, bool Upper>
SIROCCO_INLINE Ints16 dot_sums(Bytes64 x, const std::int16_t* sums) {
  if constexpr (SubBlock == 32) {
    const __m512i order = Upper ? _mm512_set_epi64(0, 0, 0, 0, 7, 5, 3, 1) : _mm512_set_epi64(0, 0, 0, 0, 6, 4, 2, 0);
    const __m512i eights = _mm512_cvtepi8_epi16(_mm512_castsi512_si256(_mm512_permutexvar_epi64(order, x.v)));
    return {_mm512_madd_epi16(eights, _mm512_loadu_si512(sums))};
  } else {
    const auto product = [&](__m256i sixteens, int i) {
      return _mm512_madd_epi16(_mm512_cvtepi8_epi16(sixteens), _mm512_loadu_si512(sums + 32 * i));
    };
    return {detail::sum_halves(product(_mm512_castsi512_si256(x.v), 0), product(_mm512_extracti64x4_epi64(x.v, 1), 1))};
  }
}
template <std::int64_t Largest = INT32_MAX>
SIROCCO_INLINE Ints16 sum_fours(Ints16 x0, Ints16 x1, Ints16 x2, Ints16 x3) {
  const __m512i order = _mm512_set_epi32(15, 11, 7, 3, 14, 10, 6, 2, 13, 9, 5, 1, 12, 8, 4, 0);
  return {_mm512_permutexvar_epi32(order, detail::sum_4<Largest>(x0.v, x1.v, x2.v, x3.v))};
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
SIROCCO_INLINE Floats16 fma(Floats16 a, Floats16 b, Floats16 c) {
  return {_mm512_fmadd_ps(a.v, b.v, c.v)};
}
SIROCCO_INLINE Floats16 fma_subtract(Floats16 a, Floats16 b, Floats16 c) {
  return {_mm512_fmsub_ps(a.v, b.v, c.v)};
}
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
SIROCCO_INLINE Floats16 select_less(Floats16 x, Floats16 y, Floats16 a, Floats16 b) {
  return {_mm512_mask_blend_ps(_mm512_cmp_ps_mask(x.v, y.v, _CMP_LT_OQ), b.v, a.v)};
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
SIROCCO_INLINE void store_narrow(std::int8_t* p, Ints16 x) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtsepi32_epi8(x.v));
}

namespace detail {
// Of 16 values of Bytes bytes, Stride bytes apart: where in the 64 bytes from Begin on values First to First + Each - 1
// begin, in units of Bytes.
template <class Index, int Bytes, int Stride, int First, int Each, int Begin>
struct StridedIndices {
  Index v[64 / sizeof(Index)];
  constexpr StridedIndices() : v() {
    for (int i = First; i < 16 && i < First + Each; ++i) v[i] = static_cast<Index>((i * Stride - Begin) / Bytes);
  }
};
// Takes several values out of each 64 bytes.
template <int Bytes, int Stride, int First>
SIROCCO_INLINE __m512i take_strided(__m512i all, const std::byte* p) {
  if constexpr (First < 16) {
    constexpr int kEach = (64 - Bytes) / Stride + 1;
    // Not past the last value: what follows it may be no memory.
    constexpr int kEnd = 15 * Stride + Bytes;
    constexpr int kBegin = First * Stride + 64 <= kEnd ? First * Stride : (kEnd - 64) / Bytes * Bytes;
    constexpr unsigned kMask = ((1U << kEach) - 1U) << First & 0xFFFFU;
    const __m512i bytes = _mm512_loadu_si512(p + kBegin);
    if constexpr (Bytes == 2) {
      alignas(64) static constexpr StridedIndices<std::int16_t, 2, Stride, First, kEach, kBegin> kIndices;
      all = _mm512_mask_permutexvar_epi16(all, kMask, _mm512_load_si512(kIndices.v), bytes);
    } else {
      alignas(64) static constexpr StridedIndices<std::int32_t, 4, Stride, First, kEach, kBegin> kIndices;
      all = _mm512_mask_permutexvar_epi32(all, kMask, _mm512_load_si512(kIndices.v), bytes);
    }
    return take_strided<Bytes, Stride, First + kEach>(all, p);
  }
  return all;
}
template <class T>
SIROCCO_INLINE T load_as(const std::byte* p) {
  T value;
  std::memcpy(&value, p, sizeof value);
  return value;
}
}  // namespace detail
template <int Stride>
SIROCCO_INLINE Ints16 strided_bytes(const std::byte* p) {
  static_assert(Stride % 2 != 0);  // of the words with the bytes in them, every second has its byte above
  const __m512i words =
      _mm512_cvtepu16_epi32(_mm512_castsi512_si256(detail::take_strided<2, Stride, 0>(_mm512_setzero_si512(), p)));
  return {_mm512_and_si512(_mm512_srlv_epi32(words, _mm512_set1_epi64(std::int64_t{8} << 32)), _mm512_set1_epi32(255))};
}
template <int Stride>
SIROCCO_INLINE Floats16 strided_f16(const std::byte* p) {
  if constexpr (Stride <= 34) {
    return {_mm512_cvtph_ps(_mm512_castsi512_si256(detail::take_strided<2, Stride, 0>(_mm512_setzero_si512(), p)))};
  } else {
    const auto eight = [](const std::byte* at) {
      const auto word = [&](int i) { return detail::load_as<short>(at + i * Stride); };
      return _mm_set_epi16(word(7), word(6), word(5), word(4), word(3), word(2), word(1), word(0));
    };
    return {_mm512_cvtph_ps(_mm256_set_m128i(eight(p + 8 * Stride), eight(p)))};
  }
}
template <int Stride>
SIROCCO_INLINE void strided_f16_pairs(const std::byte* p, Floats16& first, Floats16& second) {
  __m512i pairs;
  if constexpr (Stride <= 34) {
    pairs = detail::take_strided<4, Stride, 0>(_mm512_setzero_si512(), p);
  } else {
    const auto eight = [](const std::byte* at) {
      const auto pair = [&](int i) { return detail::load_as<int>(at + i * Stride); };
      return _mm256_set_epi32(pair(7), pair(6), pair(5), pair(4), pair(3), pair(2), pair(1), pair(0));
    };
    pairs = _mm512_inserti64x4(_mm512_castsi256_si512(eight(p)), eight(p + 8 * Stride), 1);
  }
  first = {_mm512_cvtph_ps(_mm512_cvtepi32_epi16(pairs))};
  second = {_mm512_cvtph_ps(_mm512_cvtepi32_epi16(_mm512_srli_epi32(pairs, 16)))};
}

namespace detail {
// Dword Index of each 128 bits of a to d: {a, b, c, d}
template <int Index>
SIROCCO_INLINE __m512i take_dwords(__m512i a, __m512i b, __m512i c, __m512i d) {
  const auto pair = [](__m512i x, __m512i y) {
    return Index / 2 == 0 ? _mm512_unpacklo_epi32(x, y) : _mm512_unpackhi_epi32(x, y);
  };
  return Index % 2 == 0 ? _mm512_unpacklo_epi64(pair(a, b), pair(c, d)) : _mm512_unpackhi_epi64(pair(a, b), pair(c, d));
}
}  // namespace detail
template <int Byte>
SIROCCO_INLINE void f16_pairs(const Bytes64* x, Floats16& first, Floats16& second) {
  const __m512i order = _mm512_set_epi32(15, 11, 7, 3, 14, 10, 6, 2, 13, 9, 5, 1, 12, 8, 4, 0);
  const __m512i pairs = _mm512_permutexvar_epi32(order, detail::take_dwords<Byte / 4>(x[0].v, x[1].v, x[2].v, x[3].v));
  first = {_mm512_cvtph_ps(_mm512_cvtepi32_epi16(pairs))};
  second = {_mm512_cvtph_ps(_mm512_cvtepi32_epi16(_mm512_srli_epi32(pairs, 16)))};
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
SIROCCO_INLINE float sum_lanes(Floats16 x) {
  const __m256 eight = _mm256_add_ps(_mm512_castps512_ps256(x.v), _mm512_extractf32x8_ps(x.v, 1));
  const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
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

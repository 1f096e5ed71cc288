// simd.h in plain C++: what every function means. Slow; the tests compare the instruction sets with it.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <iterator>
#include <type_traits>

#include "kernels/half.h"

namespace sirocco::cpu::SIROCCO_ISA {

struct Bytes64 {
  std::uint8_t v[64];
};
struct Ints16 {
  std::int32_t v[16];
};
struct Floats16 {
  float v[16];
};

// Added to signed weights before dot_offset (-128 to 127) or dot (narrow: -32 to 31), where products want unsigned
// ones.
inline constexpr int kSignedOffset = 0;
inline constexpr bool kUnsignedPanels = false;  // panels keep weights as unpacked, with their zero points
inline constexpr int kCheapPieces = 0;          // so many multiply_add take less than one multiply and one add
inline constexpr std::size_t kTileRows = 4;     // rows of activations in a tile that meet kTilePanels panels at once:
inline constexpr std::size_t kTilePanels = 1;   // as many as have their sums in registers
inline constexpr int kUnrolledBlocks = 1;       // of 256, where registers and instruction cache allow it
inline constexpr std::size_t kStreamRows = 2;   // up to so many rows meet two streams of weights at once

SIROCCO_INLINE void prefetch(const void*) {}

namespace detail {
template <class Vector, class Function>
SIROCCO_INLINE Vector each(Function f) {
  Vector result;
  for (std::size_t i = 0; i < std::size(result.v); ++i)
    result.v[i] = static_cast<std::remove_reference_t<decltype(result.v[0])>>(f(i));
  return result;
}
template <class Vector>
SIROCCO_INLINE Vector load(const void* p) {
  Vector result;
  std::memcpy(&result, p, sizeof result);
  return result;
}
SIROCCO_INLINE int signed_byte(std::uint8_t x) {
  return static_cast<std::int8_t>(x);
}
}  // namespace detail

// --- bytes

// The compiler takes x for changed.
SIROCCO_INLINE void hide(Bytes64& x) {
  asm volatile("" : "+m"(x));
}
SIROCCO_INLINE Bytes64 load_bytes(const void* p) {
  return detail::load<Bytes64>(p);
}
SIROCCO_INLINE void store_bytes(void* p, Bytes64 x) {
  std::memcpy(p, &x, sizeof x);
}
// Of 16 rows of 16 bytes, four a vector: byte i of each row to to[i].
SIROCCO_INLINE void store_transposed(const Bytes64* rows, std::int8_t (*to)[16]) {
  for (std::size_t row = 0; row < 16; ++row)
    for (std::size_t i = 0; i < 16; ++i) to[i][row] = static_cast<std::int8_t>(rows[row / 4].v[16 * (row % 4) + i]);
}
SIROCCO_INLINE Bytes64 broadcast_byte(std::uint8_t value) {
  return detail::each<Bytes64>([&](std::size_t) { return value; });
}
SIROCCO_INLINE Bytes64 add_bytes(Bytes64 a, Bytes64 b) {
  return detail::each<Bytes64>([&](std::size_t i) { return a.v[i] + b.v[i]; });
}
// Of elements below 16.
template <int Count>
SIROCCO_INLINE Bytes64 shift_left(Bytes64 x) {
  return detail::each<Bytes64>([&](std::size_t i) { return x.v[i] << Count; });
}
SIROCCO_INLINE Bytes64 low_nibbles(Bytes64 x) {
  return detail::each<Bytes64>([&](std::size_t i) { return x.v[i] & 15; });
}
SIROCCO_INLINE Bytes64 high_nibbles(Bytes64 x) {
  return detail::each<Bytes64>([&](std::size_t i) { return x.v[i] >> 4; });
}
SIROCCO_INLINE Bytes64 bit_or(Bytes64 a, Bytes64 b) {
  return detail::each<Bytes64>([&](std::size_t i) { return a.v[i] | b.v[i]; });
}
// 32 bytes twice.
SIROCCO_INLINE Bytes64 twice_32(const void* p) {
  const auto* bytes = static_cast<const std::uint8_t*>(p);
  return detail::each<Bytes64>([&](std::size_t i) { return bytes[i % 32]; });
}
// {p[i] & 15} for i < 32, then {p[i] >> 4}
SIROCCO_INLINE Bytes64 nibbles_of_32(const void* p) {
  const auto* bytes = static_cast<const std::uint8_t*>(p);
  return detail::each<Bytes64>([&](std::size_t i) { return i < 32 ? bytes[i] & 15 : bytes[i - 32] >> 4; });
}
// {p[i] & 15} for i < 16, {p[i] >> 4}, and the same of q.
SIROCCO_INLINE Bytes64 nibbles_of_2x16(const void* p, const void* q) {
  return detail::each<Bytes64>([&](std::size_t i) {
    const int byte = static_cast<const std::uint8_t*>(i < 32 ? p : q)[i % 16];
    return i % 32 < 16 ? byte & 15 : byte >> 4;
  });
}
// {x[i] >> Shift & 3} for i < 32, then {x[i] >> (Shift + 4) & 3}; x: 32 bytes twice
template <int Shift>
SIROCCO_INLINE Bytes64 pairs_of(Bytes64 x) {
  return detail::each<Bytes64>([&](std::size_t i) { return x.v[i] >> (i < 32 ? Shift : Shift + 4) & 3; });
}
// The same times 16.
template <int Shift>
SIROCCO_INLINE Bytes64 high_pairs_of(Bytes64 x) {
  return detail::each<Bytes64>([&](std::size_t i) { return (x.v[i] >> (i < 32 ? Shift : Shift + 4) & 3) << 4; });
}
// v plus `value`, whose bits v has not, where bit Bit (first 32 bytes) or Bit + 2 (others) of x is set
template <int Bit>
SIROCCO_INLINE Bytes64 or_where_bit(Bytes64 v, Bytes64 x, std::uint8_t value) {
  return detail::each<Bytes64>(
      [&](std::size_t i) { return v.v[i] | ((x.v[i] >> (i < 32 ? Bit : Bit + 2) & 1) != 0 ? value : 0); });
}
// v plus `value`, whose bits v has not, in element i where bit i is set
SIROCCO_INLINE Bytes64 or_where(Bytes64 v, std::uint64_t bits, std::uint8_t value) {
  return detail::each<Bytes64>([&](std::size_t i) { return v.v[i] | ((bits >> i & 1) != 0 ? value : 0); });
}
// table[x[i]], x below 16
SIROCCO_INLINE Bytes64 look_up(const std::int8_t* table, Bytes64 x) {
  return detail::each<Bytes64>([&](std::size_t i) { return table[x.v[i]]; });
}
// Four runs of 16 bytes, Stride bytes apart from p + Offset; four blocks of Stride bytes at p may be read.
template <int Stride, int Offset>
SIROCCO_INLINE Bytes64 gather_16(const void* p) {
  const auto* bytes = static_cast<const std::uint8_t*>(p) + Offset;
  return detail::each<Bytes64>([&](std::size_t i) { return bytes[i / 16 * Stride + i % 16]; });
}
// 16 bytes at p + r * stride of each of four rows.
SIROCCO_INLINE Bytes64 gather_rows(const std::byte* p, std::size_t stride) {
  Bytes64 x;
  for (std::size_t r = 0; r < 4; ++r) std::memcpy(x.v + 16 * r, p + r * stride, 16);
  return x;
}
// Byte i of each 16: byte Order[i] of them.
template <std::uint8_t... Order>
SIROCCO_INLINE Bytes64 reorder_16(Bytes64 x) {
  static_assert(sizeof...(Order) == 16);
  constexpr std::uint8_t kOrder[16] = {Order...};
  return detail::each<Bytes64>([&](std::size_t i) { return x.v[i / 16 * 16 + kOrder[i % 16]]; });
}
// 16 bytes at p + r * stride of each of 16 rows: bytes 4 j to 4 j + 3 of row r become group r of four bytes of to[j].
SIROCCO_INLINE void load_transposed(const std::byte* p, std::size_t stride, Bytes64* to) {
  for (std::size_t r = 0; r < 16; ++r)
    for (std::size_t j = 0; j < 4; ++j) std::memcpy(to[j].v + 4 * r, p + r * stride + 4 * j, 4);
}
// Of each uint32: shifted right by Right, or left by -Right, then and-ed with Mask.
template <int Right, std::uint32_t Mask>
SIROCCO_INLINE Bytes64 shift_words(Bytes64 x) {
  for (std::size_t i = 0; i < 16; ++i) {
    std::uint32_t word;
    std::memcpy(&word, x.v + 4 * i, sizeof word);
    word = (Right >= 0 ? word >> (Right & 31) : word << (-Right & 31)) & Mask;
    std::memcpy(x.v + 4 * i, &word, sizeof word);
  }
  return x;
}
// Of the four uint32 in each 16 bytes: shifted right by S, then and-ed with M.
template <int S0, int S1, int S2, int S3, std::uint32_t M0, std::uint32_t M1, std::uint32_t M2, std::uint32_t M3>
SIROCCO_INLINE Bytes64 shift_and_mask(Bytes64 x) {
  constexpr int kShifts[4] = {S0, S1, S2, S3};
  constexpr std::uint32_t kMasks[4] = {M0, M1, M2, M3};
  for (std::size_t i = 0; i < 16; ++i) {
    std::uint32_t word;
    std::memcpy(&word, x.v + 4 * i, sizeof word);
    word = word >> kShifts[i % 4] & kMasks[i % 4];
    std::memcpy(x.v + 4 * i, &word, sizeof word);
  }
  return x;
}
SIROCCO_INLINE Bytes64 subtract_bytes(Bytes64 a, Bytes64 b) {
  return detail::each<Bytes64>([&](std::size_t i) { return a.v[i] - b.v[i]; });
}

// --- 16 int32

SIROCCO_INLINE Ints16 zero_ints() {
  return {};
}
SIROCCO_INLINE Ints16 broadcast_int(std::int32_t value) {
  return detail::each<Ints16>([&](std::size_t) { return value; });
}
SIROCCO_INLINE Ints16 load_ints(const std::int32_t* p) {
  return detail::load<Ints16>(p);
}
SIROCCO_INLINE void store_ints(std::int32_t* p, Ints16 x) {
  std::memcpy(p, &x, sizeof x);
}
SIROCCO_INLINE Ints16 widen_bytes(const std::int8_t* p) {
  return detail::each<Ints16>([&](std::size_t i) { return p[i]; });
}
SIROCCO_INLINE Ints16 add(Ints16 a, Ints16 b) {
  return detail::each<Ints16>([&](std::size_t i) { return a.v[i] + b.v[i]; });
}
SIROCCO_INLINE Ints16 subtract(Ints16 a, Ints16 b) {
  return detail::each<Ints16>([&](std::size_t i) { return a.v[i] - b.v[i]; });
}
SIROCCO_INLINE Ints16 multiply(Ints16 a, Ints16 b) {
  return detail::each<Ints16>([&](std::size_t i) { return a.v[i] * b.v[i]; });
}
// acc + x * y, where x fits in int16 and y is of narrow_factors.
SIROCCO_INLINE Ints16 narrow_factors(const std::int8_t* p) {
  return widen_bytes(p);
}
SIROCCO_INLINE Ints16 multiply_add(Ints16 acc, Ints16 x, Ints16 y) {
  return add(acc, multiply(x, y));
}
template <int Count>
SIROCCO_INLINE Ints16 shift_left_ints(Ints16 a) {
  return detail::each<Ints16>(
      [&](std::size_t i) { return static_cast<std::int32_t>(static_cast<std::uint32_t>(a.v[i]) << Count); });
}
SIROCCO_INLINE Ints16 maximum(Ints16 a, Ints16 b) {
  return detail::each<Ints16>([&](std::size_t i) { return std::max(a.v[i], b.v[i]); });
}
SIROCCO_INLINE Ints16 minimum(Ints16 a, Ints16 b) {
  return detail::each<Ints16>([&](std::size_t i) { return std::min(a.v[i], b.v[i]); });
}
SIROCCO_INLINE Ints16 bit_and(Ints16 a, Ints16 b) {
  return detail::each<Ints16>([&](std::size_t i) { return a.v[i] & b.v[i]; });
}

// acc[i] + sum over j < 4 of w[4i + j] a[4i + j]; w: 0 to 127, a: signed
SIROCCO_INLINE Ints16 dot(Ints16 acc, Bytes64 w, Bytes64 a) {
  return detail::each<Ints16>([&](std::size_t i) {
    int sum = acc.v[i];
    for (std::size_t j = 4 * i; j < 4 * i + 4; ++j) sum += detail::signed_byte(w.v[j]) * detail::signed_byte(a.v[j]);
    return sum;
  });
}
// sum over j < 4 of w[4i + j] a[4i + j] + w2[4i + j] a2[4i + j]; w, w2: 0 to 63
SIROCCO_INLINE Ints16 dot_2(Bytes64 w, Bytes64 a, Bytes64 w2, Bytes64 a2) {
  return dot(dot(zero_ints(), w, a), w2, a2);
}
// Signed weights as dot_offset wants them: kSignedOffset added.
SIROCCO_INLINE Bytes64 offset_signed(Bytes64 w) {
  return w;
}
SIROCCO_INLINE Ints16 dot_offset(Ints16 acc, Bytes64 w, Bytes64 a) {
  return dot(acc, w, a);
}
// Four bytes 16 times: one row of activations for 16 rows of weights.
SIROCCO_INLINE Bytes64 broadcast_four(const std::int8_t* p) {
  return detail::each<Bytes64>([&](std::size_t i) { return p[i % 4]; });
}
// acc[i] + w[2i] a[0] + w[2i + 1] a[1]; w: 32 int16
SIROCCO_INLINE Ints16 dot_pair(Ints16 acc, const std::int16_t* w, const std::int16_t* a) {
  return detail::each<Ints16>([&](std::size_t i) { return acc.v[i] + w[2 * i] * a[0] + w[2 * i + 1] * a[1]; });
}

// Lanes that add up to a sum, of however many registers the instruction set likes.
using Partial = Ints16;
// The integers of the sub-blocks of a block of 256: 8 of sub-blocks of 32, or 16 of sub-blocks of 16.
template <int SubBlock>
struct SubValues {
  std::int8_t v[256 / SubBlock];
};
// Of four blocks, from the first 8, or all, of each 16 int8.
template <int SubBlock>
SIROCCO_INLINE void store_values(Bytes64 x, SubValues<SubBlock>* to) {
  for (std::size_t block = 0; block < 4; ++block) std::memcpy(&to[block], x.v + 16 * block, sizeof to[block]);
}
// Of a block of 256: the sum over sub-blocks of value times w . a, in lanes that add up to it. w: its four parts, of
// which part i is runs (of 32 elements) 4 (i / 2) + i % 2 and the next but one; 0 to Largest <= 63. a: likewise.
template <int Largest, int SubBlock>
SIROCCO_INLINE Partial dot_block(const Bytes64* w, const std::int8_t* a, const SubValues<SubBlock>& s) {
  Partial sum = {};
  for (std::size_t part = 0; part < 4; ++part) {
    const Ints16 products = dot(zero_ints(), w[part], load_bytes(a + 64 * part));
    for (std::size_t lane = 0; lane < 16; ++lane) {
      const std::size_t run = 4 * (part / 2) + part % 2 + 2 * (lane / 8);
      sum.v[lane] += products.v[lane] * s.v[SubBlock == 32 ? run : 2 * run + lane % 8 / 4];
    }
  }
  return sum;
}
// The same for weights from offset_signed.
SIROCCO_INLINE Partial dot_block_offset(const Bytes64* w, const std::int8_t* a, const SubValues<32>& s) {
  return dot_block<127>(w, a, s);
}
// Of four blocks the sum of sub-blocks' values times sums, one for each: four lanes that add up to it. x: 16 int8 of
// each block, of which 8 (the first, or the upper ones) or all are used.
template <int SubBlock, bool Upper>
SIROCCO_INLINE Ints16 dot_sums(Bytes64 x, const std::int16_t* sums) {
  constexpr std::size_t kCount = 256 / SubBlock;
  Ints16 result = {};
  for (std::size_t block = 0; block < 4; ++block) {
    for (std::size_t i = 0; i < kCount; ++i) {
      const int value = detail::signed_byte(x.v[16 * block + (Upper ? 8 : 0) + i]);
      result.v[4 * block + i % 4] += value * sums[kCount * block + i];
    }
  }
  return result;
}

// Four vectors of partial sums, on the way to sum_each.
struct Sum4 {
  Ints16 v[4];
};
SIROCCO_INLINE Sum4 sum_4(Partial a, Partial b, Partial c, Partial d) {
  return {{a, b, c, d}};
}
// Lane 4i + j: the sum of all lanes of vector j of s_i.
SIROCCO_INLINE Ints16 sum_each(Sum4 s0, Sum4 s1, Sum4 s2, Sum4 s3) {
  const Sum4 all[4] = {s0, s1, s2, s3};
  return detail::each<Ints16>([&](std::size_t lane) {
    int sum = 0;
    for (const std::int32_t x : all[lane / 4].v[lane % 4].v) sum += x;
    return sum;
  });
}
// Lane 4i + j: the sum of lanes 4j to 4j + 3 of x_i, each of at most Largest.
template <std::int64_t Largest = INT32_MAX>
SIROCCO_INLINE Ints16 sum_fours(Ints16 x0, Ints16 x1, Ints16 x2, Ints16 x3) {
  const Ints16 all[4] = {x0, x1, x2, x3};
  return detail::each<Ints16>([&](std::size_t lane) {
    const std::int32_t* four = all[lane / 4].v + 4 * (lane % 4);
    return four[0] + four[1] + four[2] + four[3];
  });
}

// --- 16 floats

SIROCCO_INLINE Floats16 zero_floats() {
  return {};
}
SIROCCO_INLINE Floats16 broadcast(float value) {
  return detail::each<Floats16>([&](std::size_t) { return value; });
}
SIROCCO_INLINE Floats16 load_floats(const float* p) {
  return detail::load<Floats16>(p);
}
SIROCCO_INLINE void store_floats(float* p, Floats16 x) {
  std::memcpy(p, &x, sizeof x);
}
SIROCCO_INLINE Floats16 to_floats(Ints16 x) {
  return detail::each<Floats16>([&](std::size_t i) { return x.v[i]; });
}
// To nearest, ties to even; what is out of range or no number becomes the smallest int.
SIROCCO_INLINE Ints16 round_to_ints(Floats16 x) {
  return detail::each<Ints16>([&](std::size_t i) {
    const float rounded = std::nearbyint(x.v[i]);
    return rounded >= -0x1p31F && rounded < 0x1p31F ? static_cast<std::int32_t>(rounded) : INT32_MIN;
  });
}
SIROCCO_INLINE Floats16 as_floats(Ints16 x) {
  return std::bit_cast<Floats16>(x);
}
SIROCCO_INLINE Ints16 as_ints(Floats16 x) {
  return std::bit_cast<Ints16>(x);
}
SIROCCO_INLINE Floats16 add(Floats16 a, Floats16 b) {
  return detail::each<Floats16>([&](std::size_t i) { return a.v[i] + b.v[i]; });
}
SIROCCO_INLINE Floats16 subtract(Floats16 a, Floats16 b) {
  return detail::each<Floats16>([&](std::size_t i) { return a.v[i] - b.v[i]; });
}
SIROCCO_INLINE Floats16 multiply(Floats16 a, Floats16 b) {
  return detail::each<Floats16>([&](std::size_t i) { return a.v[i] * b.v[i]; });
}
SIROCCO_INLINE Floats16 divide(Floats16 a, Floats16 b) {
  return detail::each<Floats16>([&](std::size_t i) { return a.v[i] / b.v[i]; });
}
// a b + c and a b - c, rounded once
SIROCCO_INLINE Floats16 fma(Floats16 a, Floats16 b, Floats16 c) {
  return detail::each<Floats16>([&](std::size_t i) { return std::fma(a.v[i], b.v[i], c.v[i]); });
}
SIROCCO_INLINE Floats16 fma_subtract(Floats16 a, Floats16 b, Floats16 c) {
  return detail::each<Floats16>([&](std::size_t i) { return std::fma(a.v[i], b.v[i], -c.v[i]); });
}
// a where a > b, else b
SIROCCO_INLINE Floats16 maximum(Floats16 a, Floats16 b) {
  return detail::each<Floats16>([&](std::size_t i) { return a.v[i] > b.v[i] ? a.v[i] : b.v[i]; });
}
SIROCCO_INLINE Floats16 minimum(Floats16 a, Floats16 b) {
  return detail::each<Floats16>([&](std::size_t i) { return a.v[i] < b.v[i] ? a.v[i] : b.v[i]; });
}
// a where x < y, else b
SIROCCO_INLINE Floats16 select_less(Floats16 x, Floats16 y, Floats16 a, Floats16 b) {
  return detail::each<Floats16>([&](std::size_t i) { return x.v[i] < y.v[i] ? a.v[i] : b.v[i]; });
}
SIROCCO_INLINE Floats16 load_f16(const void* p) {
  return detail::each<Floats16>([&](std::size_t i) {
    std::uint16_t half;
    std::memcpy(&half, static_cast<const std::byte*>(p) + 2 * i, sizeof half);
    return f16_to_f32(half);
  });
}
SIROCCO_INLINE void store_f16(void* p, Floats16 x) {
  for (std::size_t i = 0; i < 16; ++i) {
    const std::uint16_t half = f32_to_f16(x.v[i]);
    std::memcpy(static_cast<std::byte*>(p) + 2 * i, &half, sizeof half);
  }
}
SIROCCO_INLINE Floats16 load_bf16(const void* p) {
  return detail::each<Floats16>([&](std::size_t i) {
    std::uint16_t half;
    std::memcpy(&half, static_cast<const std::byte*>(p) + 2 * i, sizeof half);
    return bf16_to_f32(half);
  });
}
// The low bytes of 16 int32, kept within -128 to 127.
SIROCCO_INLINE void store_narrow(std::int8_t* p, Ints16 x) {
  for (std::size_t i = 0; i < 16; ++i) p[i] = static_cast<std::int8_t>(std::clamp(x.v[i], -128, 127));
}
// Of 16 blocks, Stride bytes apart: the unsigned bytes, the f16 or the pairs of f16 at their beginning.
template <int Stride>
SIROCCO_INLINE Ints16 strided_bytes(const std::byte* p) {
  return detail::each<Ints16>([&](std::size_t i) { return static_cast<int>(p[i * Stride]); });
}
template <int Stride>
SIROCCO_INLINE Floats16 strided_f16(const std::byte* p) {
  return detail::each<Floats16>([&](std::size_t i) {
    std::uint16_t half;
    std::memcpy(&half, p + i * Stride, sizeof half);
    return f16_to_f32(half);
  });
}
template <int Stride>
SIROCCO_INLINE void strided_f16_pairs(const std::byte* p, Floats16& first, Floats16& second) {
  first = strided_f16<Stride>(p);
  second = strided_f16<Stride>(p + 2);
}
// The pair of f16 at byte Byte (a multiple of 4) of each 16 bytes of four vectors.
template <int Byte>
SIROCCO_INLINE void f16_pairs(const Bytes64* x, Floats16& first, Floats16& second) {
  for (std::size_t i = 0; i < 16; ++i) {
    std::uint16_t halves[2];
    std::memcpy(halves, x[i / 4].v + 16 * (i % 4) + Byte, sizeof halves);
    first.v[i] = f16_to_f32(halves[0]);
    second.v[i] = f16_to_f32(halves[1]);
  }
}
// x[i] lane j becomes x[j] lane i.
SIROCCO_INLINE void transpose(Floats16* x) {
  for (std::size_t i = 0; i < 16; ++i)
    for (std::size_t j = 0; j < i; ++j) std::swap(x[i].v[j], x[j].v[i]);
}
// Lanes j and j + 8 are added, then j and j + 4, j + 2, j + 1.
SIROCCO_INLINE float sum_lanes(Floats16 x) {
  for (std::size_t half = 8; half > 0; half /= 2)
    for (std::size_t j = 0; j < half; ++j) x.v[j] += x.v[j + half];
  return x.v[0];
}

// The largest of 16 ints, as the float of these bits.
SIROCCO_INLINE float as_largest(Ints16 x) {
  return std::bit_cast<float>(*std::max_element(x.v, x.v + 16));
}
SIROCCO_INLINE int sum_bytes_16(const std::int8_t* p) {
  int sum = 0;
  for (std::size_t i = 0; i < 16; ++i) sum += p[i];
  return sum;
}

}  // namespace sirocco::cpu::SIROCCO_ISA

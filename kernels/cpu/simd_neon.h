// simd.h on NEON with the dot product instructions (Arm v8.2 and newer: Jetson Orin, Raspberry Pi 5): a vector is four
// registers. sdot takes signed weights as they are.
#pragma once

#include <arm_neon.h>

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>

namespace sirocco::cpu::SIROCCO_ISA {

struct Bytes64 {
  uint8x16_t v[4];
};
struct Ints16 {
  int32x4_t v[4];
};
struct Floats16 {
  float32x4_t v[4];
};

inline constexpr int kSignedOffset = 0;
inline constexpr bool kUnsignedPanels = false;
inline constexpr int kCheapPieces = 0;
inline constexpr std::size_t kTileRows = 4;  // 16 of the 32 registers
inline constexpr std::size_t kTilePanels = 1;
inline constexpr int kUnrolledBlocks = 1;
inline constexpr std::size_t kStreamRows = 1;

SIROCCO_INLINE void prefetch(const void* address) {
  __builtin_prefetch(address);
}

namespace detail {
// {f(0), f(1), f(2), f(3)}
template <class Vector, class Function>
SIROCCO_INLINE Vector each(Function f) {
  return Vector{{f(0), f(1), f(2), f(3)}};
}
SIROCCO_INLINE const std::uint8_t* bytes(const void* p) {
  return static_cast<const std::uint8_t*>(p);
}
// x >> Count, Count from 0 on.
template <int Count>
SIROCCO_INLINE uint8x16_t shift_right(uint8x16_t x) {
  return vshlq_u8(x, vdupq_n_s8(-Count));
}
SIROCCO_INLINE int8x16_t as_signed(uint8x16_t x) {
  return vreinterpretq_s8_u8(x);
}
}  // namespace detail

// --- bytes

SIROCCO_INLINE void hide(Bytes64& x) {
  asm volatile("" : "+w"(x.v[0]), "+w"(x.v[1]), "+w"(x.v[2]), "+w"(x.v[3]));
}
SIROCCO_INLINE Bytes64 load_bytes(const void* p) {
  return detail::each<Bytes64>([&](int r) { return vld1q_u8(detail::bytes(p) + 16 * r); });
}
SIROCCO_INLINE void store_bytes(void* p, Bytes64 x) {
  for (int r = 0; r < 4; ++r) vst1q_u8(static_cast<std::uint8_t*>(p) + 16 * r, x.v[r]);
}
SIROCCO_INLINE void store_transposed(const Bytes64* rows, std::int8_t (*to)[16]) {
  uint8x16_t x[16];
  for (int i = 0; i < 16; ++i) x[i] = rows[i / 4].v[i % 4];
  for (int round = 0; round < 4; ++round) {  // each brings rows half of all apart next to each other
    uint8x16_t y[16];
    for (int i = 0; i < 8; ++i) {
      y[2 * i] = vzip1q_u8(x[i], x[i + 8]);
      y[2 * i + 1] = vzip2q_u8(x[i], x[i + 8]);
    }
    for (int i = 0; i < 16; ++i) x[i] = y[i];
  }
  for (int i = 0; i < 16; ++i) vst1q_u8(reinterpret_cast<std::uint8_t*>(to[i]), x[i]);
}
SIROCCO_INLINE Bytes64 broadcast_byte(std::uint8_t value) {
  return detail::each<Bytes64>([&](int) { return vdupq_n_u8(value); });
}
SIROCCO_INLINE Bytes64 add_bytes(Bytes64 a, Bytes64 b) {
  return detail::each<Bytes64>([&](int r) { return vaddq_u8(a.v[r], b.v[r]); });
}
SIROCCO_INLINE Bytes64 subtract_bytes(Bytes64 a, Bytes64 b) {
  return detail::each<Bytes64>([&](int r) { return vsubq_u8(a.v[r], b.v[r]); });
}
template <int Count>
SIROCCO_INLINE Bytes64 shift_left(Bytes64 x) {
  return detail::each<Bytes64>([&](int r) { return vshlq_n_u8(x.v[r], Count); });
}
SIROCCO_INLINE Bytes64 low_nibbles(Bytes64 x) {
  return detail::each<Bytes64>([&](int r) { return vandq_u8(x.v[r], vdupq_n_u8(15)); });
}
SIROCCO_INLINE Bytes64 high_nibbles(Bytes64 x) {
  return detail::each<Bytes64>([&](int r) { return vshrq_n_u8(x.v[r], 4); });
}
SIROCCO_INLINE Bytes64 bit_or(Bytes64 a, Bytes64 b) {
  return detail::each<Bytes64>([&](int r) { return vorrq_u8(a.v[r], b.v[r]); });
}
SIROCCO_INLINE Bytes64 twice_32(const void* p) {
  const uint8x16_t a = vld1q_u8(detail::bytes(p));
  const uint8x16_t b = vld1q_u8(detail::bytes(p) + 16);
  return {{a, b, a, b}};
}
SIROCCO_INLINE Bytes64 nibbles_of_32(const void* p) {
  const uint8x16_t a = vld1q_u8(detail::bytes(p));
  const uint8x16_t b = vld1q_u8(detail::bytes(p) + 16);
  const uint8x16_t mask = vdupq_n_u8(15);
  return {{vandq_u8(a, mask), vandq_u8(b, mask), vshrq_n_u8(a, 4), vshrq_n_u8(b, 4)}};
}
SIROCCO_INLINE Bytes64 nibbles_of_2x16(const void* p, const void* q) {
  const uint8x16_t a = vld1q_u8(detail::bytes(p));
  const uint8x16_t b = vld1q_u8(detail::bytes(q));
  const uint8x16_t mask = vdupq_n_u8(15);
  return {{vandq_u8(a, mask), vshrq_n_u8(a, 4), vandq_u8(b, mask), vshrq_n_u8(b, 4)}};
}
template <int Shift>
SIROCCO_INLINE Bytes64 pairs_of(Bytes64 x) {
  const uint8x16_t mask = vdupq_n_u8(3);
  return {{vandq_u8(detail::shift_right<Shift>(x.v[0]), mask), vandq_u8(detail::shift_right<Shift>(x.v[1]), mask),
           vandq_u8(detail::shift_right<Shift + 4>(x.v[2]), mask),
           vandq_u8(detail::shift_right<Shift + 4>(x.v[3]), mask)}};
}
template <int Shift>
SIROCCO_INLINE Bytes64 high_pairs_of(Bytes64 x) {
  return shift_left<4>(pairs_of<Shift>(x));
}
template <int Bit>
SIROCCO_INLINE Bytes64 or_where_bit(Bytes64 v, Bytes64 x, std::uint8_t value) {
  return detail::each<Bytes64>([&](int r) {
    const uint8x16_t bit = vdupq_n_u8(static_cast<std::uint8_t>(1 << (r < 2 ? Bit : Bit + 2)));
    return vorrq_u8(v.v[r], vandq_u8(vtstq_u8(x.v[r], bit), vdupq_n_u8(value)));
  });
}
SIROCCO_INLINE Bytes64 or_where(Bytes64 v, std::uint64_t bits, std::uint8_t value) {
  const uint8x8_t bit = vcreate_u8(0x8040201008040201);
  return detail::each<Bytes64>([&](int r) {
    const auto byte = [&](int i) { return vdup_n_u8(static_cast<std::uint8_t>(bits >> (16 * r + 8 * i))); };
    const uint8x16_t where = vcombine_u8(vtst_u8(byte(0), bit), vtst_u8(byte(1), bit));
    return vorrq_u8(v.v[r], vandq_u8(where, vdupq_n_u8(value)));
  });
}
SIROCCO_INLINE Bytes64 look_up(const std::int8_t* table, Bytes64 x) {
  const uint8x16_t t = vreinterpretq_u8_s8(vld1q_s8(table));
  return detail::each<Bytes64>([&](int r) { return vqtbl1q_u8(t, x.v[r]); });
}
template <int Stride, int Offset>
SIROCCO_INLINE Bytes64 gather_16(const void* p) {
  return detail::each<Bytes64>([&](int r) { return vld1q_u8(detail::bytes(p) + Offset + r * Stride); });
}
SIROCCO_INLINE Bytes64 gather_rows(const std::byte* p, std::size_t stride) {
  return detail::each<Bytes64>(
      [&](int r) { return vld1q_u8(detail::bytes(p + static_cast<std::size_t>(r) * stride)); });
}
template <std::uint8_t... Order>
SIROCCO_INLINE Bytes64 reorder_16(Bytes64 x) {
  static_assert(sizeof...(Order) == 16);
  static constexpr std::uint8_t kOrder[16] = {Order...};
  const uint8x16_t order = vld1q_u8(kOrder);
  return detail::each<Bytes64>([&](int r) { return vqtbl1q_u8(x.v[r], order); });
}
SIROCCO_INLINE void load_transposed(const std::byte* p, std::size_t stride, Bytes64* to) {
  for (std::size_t four = 0; four < 4; ++four) {
    const std::byte* const rows = p + 4 * four * stride;
    const auto row = [&](std::size_t r) { return vreinterpretq_u32_u8(vld1q_u8(detail::bytes(rows + r * stride))); };
    const auto wide = [](uint32x4_t a) { return vreinterpretq_u64_u32(a); };
    const uint64x2_t even01 = wide(vtrn1q_u32(row(0), row(1)));
    const uint64x2_t odd01 = wide(vtrn2q_u32(row(0), row(1)));
    const uint64x2_t even23 = wide(vtrn1q_u32(row(2), row(3)));
    const uint64x2_t odd23 = wide(vtrn2q_u32(row(2), row(3)));
    to[0].v[four] = vreinterpretq_u8_u64(vzip1q_u64(even01, even23));
    to[1].v[four] = vreinterpretq_u8_u64(vzip1q_u64(odd01, odd23));
    to[2].v[four] = vreinterpretq_u8_u64(vzip2q_u64(even01, even23));
    to[3].v[four] = vreinterpretq_u8_u64(vzip2q_u64(odd01, odd23));
  }
}
template <int Right, std::uint32_t Mask>
SIROCCO_INLINE Bytes64 shift_words(Bytes64 x) {
  return detail::each<Bytes64>([&](int r) {
    const uint32x4_t word = vreinterpretq_u32_u8(x.v[r]);
    return vreinterpretq_u8_u32(vandq_u32(vshlq_u32(word, vdupq_n_s32(-Right)), vdupq_n_u32(Mask)));
  });
}
template <int S0, int S1, int S2, int S3, std::uint32_t M0, std::uint32_t M1, std::uint32_t M2, std::uint32_t M3>
SIROCCO_INLINE Bytes64 shift_and_mask(Bytes64 x) {
  static constexpr std::int32_t kShifts[4] = {-S0, -S1, -S2, -S3};
  static constexpr std::uint32_t kMasks[4] = {M0, M1, M2, M3};
  const int32x4_t shifts = vld1q_s32(kShifts);
  const uint32x4_t masks = vld1q_u32(kMasks);
  return detail::each<Bytes64>(
      [&](int r) { return vreinterpretq_u8_u32(vandq_u32(vshlq_u32(vreinterpretq_u32_u8(x.v[r]), shifts), masks)); });
}

// --- 16 int32

SIROCCO_INLINE Ints16 broadcast_int(std::int32_t value) {
  return detail::each<Ints16>([&](int) { return vdupq_n_s32(value); });
}
SIROCCO_INLINE Ints16 zero_ints() {
  return broadcast_int(0);
}
SIROCCO_INLINE Ints16 load_ints(const std::int32_t* p) {
  return detail::each<Ints16>([&](int r) { return vld1q_s32(p + 4 * r); });
}
SIROCCO_INLINE void store_ints(std::int32_t* p, Ints16 x) {
  for (int r = 0; r < 4; ++r) vst1q_s32(p + 4 * r, x.v[r]);
}
SIROCCO_INLINE Ints16 widen_bytes(const std::int8_t* p) {
  const int8x16_t x = vld1q_s8(p);
  const int16x8_t low = vmovl_s8(vget_low_s8(x));
  const int16x8_t high = vmovl_high_s8(x);
  return {{vmovl_s16(vget_low_s16(low)), vmovl_high_s16(low), vmovl_s16(vget_low_s16(high)), vmovl_high_s16(high)}};
}
SIROCCO_INLINE Ints16 add(Ints16 a, Ints16 b) {
  return detail::each<Ints16>([&](int r) { return vaddq_s32(a.v[r], b.v[r]); });
}
SIROCCO_INLINE Ints16 subtract(Ints16 a, Ints16 b) {
  return detail::each<Ints16>([&](int r) { return vsubq_s32(a.v[r], b.v[r]); });
}
SIROCCO_INLINE Ints16 multiply(Ints16 a, Ints16 b) {
  return detail::each<Ints16>([&](int r) { return vmulq_s32(a.v[r], b.v[r]); });
}
SIROCCO_INLINE Ints16 narrow_factors(const std::int8_t* p) {
  return widen_bytes(p);
}
SIROCCO_INLINE Ints16 multiply_add(Ints16 acc, Ints16 x, Ints16 y) {
  return detail::each<Ints16>([&](int r) { return vmlaq_s32(acc.v[r], x.v[r], y.v[r]); });
}
template <int Count>
SIROCCO_INLINE Ints16 shift_left_ints(Ints16 a) {
  return detail::each<Ints16>([&](int r) { return vshlq_n_s32(a.v[r], Count); });
}
SIROCCO_INLINE Ints16 maximum(Ints16 a, Ints16 b) {
  return detail::each<Ints16>([&](int r) { return vmaxq_s32(a.v[r], b.v[r]); });
}
SIROCCO_INLINE Ints16 minimum(Ints16 a, Ints16 b) {
  return detail::each<Ints16>([&](int r) { return vminq_s32(a.v[r], b.v[r]); });
}
SIROCCO_INLINE Ints16 bit_and(Ints16 a, Ints16 b) {
  return detail::each<Ints16>([&](int r) { return vandq_s32(a.v[r], b.v[r]); });
}

SIROCCO_INLINE Ints16 dot(Ints16 acc, Bytes64 w, Bytes64 a) {
  return detail::each<Ints16>(
      [&](int r) { return vdotq_s32(acc.v[r], detail::as_signed(w.v[r]), detail::as_signed(a.v[r])); });
}
SIROCCO_INLINE Ints16 dot_2(Bytes64 w, Bytes64 a, Bytes64 w2, Bytes64 a2) {
  return dot(dot(zero_ints(), w, a), w2, a2);
}
SIROCCO_INLINE Bytes64 offset_signed(Bytes64 w) {
  return w;
}
SIROCCO_INLINE Ints16 dot_offset(Ints16 acc, Bytes64 w, Bytes64 a) {
  return dot(acc, w, a);
}
SIROCCO_INLINE Bytes64 broadcast_four(const std::int8_t* p) {
  std::int32_t four;
  std::memcpy(&four, p, sizeof four);
  return detail::each<Bytes64>([&](int) { return vreinterpretq_u8_s32(vdupq_n_s32(four)); });
}
SIROCCO_INLINE Ints16 dot_pair(Ints16 acc, const std::int16_t* w, const std::int16_t* a) {
  return detail::each<Ints16>([&](int r) {
    const int16x4x2_t pair = vld2_s16(w + 8 * r);
    return vmlal_n_s16(vmlal_n_s16(acc.v[r], pair.val[0], a[0]), pair.val[1], a[1]);
  });
}

// One register: lanes are only ever added.
struct Partial {
  int32x4_t v;
};
template <int SubBlock>
struct SubValues {
  std::int8_t v[256 / SubBlock];
};
template <int SubBlock>
SIROCCO_INLINE void store_values(Bytes64 x, SubValues<SubBlock>* to) {
  for (int block = 0; block < 4; ++block) {
    if constexpr (SubBlock == 16) {
      vst1q_s8(to[block].v, detail::as_signed(x.v[block]));
    } else {
      vst1_s8(to[block].v, vget_low_s8(detail::as_signed(x.v[block])));
    }
  }
}
template <int Largest, int SubBlock>
SIROCCO_INLINE Partial dot_block(const Bytes64* w, const std::int8_t* a, const SubValues<SubBlock>& s) {
  int32x4_t sum = vdupq_n_s32(0);
  for (int part = 0; part < 4; ++part) {
    const int run = 4 * (part / 2) + part % 2;
    const auto product = [&](int32x4_t acc, int r) {
      return vdotq_s32(acc, detail::as_signed(w[part].v[r]), vld1q_s8(a + 64 * part + 16 * r));
    };
    const int32x4_t zero = vdupq_n_s32(0);
    if constexpr (SubBlock == 32) {
      sum = vmlaq_n_s32(sum, product(product(zero, 0), 1), s.v[run]);
      sum = vmlaq_n_s32(sum, product(product(zero, 2), 3), s.v[run + 2]);
    } else {
      for (int r = 0; r < 4; ++r) sum = vmlaq_n_s32(sum, product(zero, r), s.v[2 * (run + r / 2 * 2) + r % 2]);
    }
  }
  return {sum};
}
SIROCCO_INLINE Partial dot_block_offset(const Bytes64* w, const std::int8_t* a, const SubValues<32>& s) {
  return dot_block<127>(w, a, s);
}
template <int SubBlock, bool Upper>
SIROCCO_INLINE Ints16 dot_sums(Bytes64 x, const std::int16_t* sums) {
  return detail::each<Ints16>([&](int block) {
    const int8x16_t values = detail::as_signed(x.v[block]);
    const auto product = [](int32x4_t acc, int16x8_t p, int16x8_t q) {
      return vmlal_high_s16(vmlal_s16(acc, vget_low_s16(p), vget_low_s16(q)), p, q);
    };
    const int16x8_t lower = vmovl_s8(Upper ? vget_high_s8(values) : vget_low_s8(values));
    const int32x4_t sum = product(vdupq_n_s32(0), lower, vld1q_s16(sums + 256 / SubBlock * block));
    if constexpr (SubBlock == 32) return sum;
    return product(sum, vmovl_high_s8(values), vld1q_s16(sums + 256 / SubBlock * block + 8));
  });
}

struct Sum4 {
  int32x4_t v;
};
namespace detail {
// Lane j: the sum of v_j's lanes.
SIROCCO_INLINE int32x4_t sum_4(int32x4_t v0, int32x4_t v1, int32x4_t v2, int32x4_t v3) {
  return vpaddq_s32(vpaddq_s32(v0, v1), vpaddq_s32(v2, v3));
}
}  // namespace detail
SIROCCO_INLINE Sum4 sum_4(Partial a, Partial b, Partial c, Partial d) {
  return {detail::sum_4(a.v, b.v, c.v, d.v)};
}
SIROCCO_INLINE Ints16 sum_each(Sum4 s0, Sum4 s1, Sum4 s2, Sum4 s3) {
  return {{s0.v, s1.v, s2.v, s3.v}};
}
template <std::int64_t Largest = INT32_MAX>
SIROCCO_INLINE Ints16 sum_fours(Ints16 x0, Ints16 x1, Ints16 x2, Ints16 x3) {
  const auto of = [](Ints16 x) { return detail::sum_4(x.v[0], x.v[1], x.v[2], x.v[3]); };
  return {{of(x0), of(x1), of(x2), of(x3)}};
}

// --- 16 floats

SIROCCO_INLINE Floats16 broadcast(float value) {
  return detail::each<Floats16>([&](int) { return vdupq_n_f32(value); });
}
SIROCCO_INLINE Floats16 zero_floats() {
  return broadcast(0);
}
SIROCCO_INLINE Floats16 load_floats(const float* p) {
  return detail::each<Floats16>([&](int r) { return vld1q_f32(p + 4 * r); });
}
SIROCCO_INLINE void store_floats(float* p, Floats16 x) {
  for (int r = 0; r < 4; ++r) vst1q_f32(p + 4 * r, x.v[r]);
}
SIROCCO_INLINE Floats16 to_floats(Ints16 x) {
  return detail::each<Floats16>([&](int r) { return vcvtq_f32_s32(x.v[r]); });
}
SIROCCO_INLINE Ints16 round_to_ints(Floats16 x) {
  return detail::each<Ints16>([&](int r) {
    const uint32x4_t fits =
        vandq_u32(vcgeq_f32(x.v[r], vdupq_n_f32(-0x1p31F)), vcltq_f32(x.v[r], vdupq_n_f32(0x1p31F)));
    return vbslq_s32(fits, vcvtnq_s32_f32(x.v[r]), vdupq_n_s32(std::numeric_limits<std::int32_t>::min()));
  });
}
SIROCCO_INLINE Floats16 as_floats(Ints16 x) {
  return detail::each<Floats16>([&](int r) { return vreinterpretq_f32_s32(x.v[r]); });
}
SIROCCO_INLINE Ints16 as_ints(Floats16 x) {
  return detail::each<Ints16>([&](int r) { return vreinterpretq_s32_f32(x.v[r]); });
}
SIROCCO_INLINE Floats16 add(Floats16 a, Floats16 b) {
  return detail::each<Floats16>([&](int r) { return vaddq_f32(a.v[r], b.v[r]); });
}
SIROCCO_INLINE Floats16 subtract(Floats16 a, Floats16 b) {
  return detail::each<Floats16>([&](int r) { return vsubq_f32(a.v[r], b.v[r]); });
}
SIROCCO_INLINE Floats16 multiply(Floats16 a, Floats16 b) {
  return detail::each<Floats16>([&](int r) { return vmulq_f32(a.v[r], b.v[r]); });
}
SIROCCO_INLINE Floats16 divide(Floats16 a, Floats16 b) {
  return detail::each<Floats16>([&](int r) { return vdivq_f32(a.v[r], b.v[r]); });
}
SIROCCO_INLINE Floats16 fma(Floats16 a, Floats16 b, Floats16 c) {
  return detail::each<Floats16>([&](int r) { return vfmaq_f32(c.v[r], a.v[r], b.v[r]); });
}
SIROCCO_INLINE Floats16 fma_subtract(Floats16 a, Floats16 b, Floats16 c) {
  return detail::each<Floats16>([&](int r) { return vfmaq_f32(vnegq_f32(c.v[r]), a.v[r], b.v[r]); });
}
SIROCCO_INLINE Floats16 maximum(Floats16 a, Floats16 b) {
  return detail::each<Floats16>([&](int r) { return vbslq_f32(vcgtq_f32(a.v[r], b.v[r]), a.v[r], b.v[r]); });
}
SIROCCO_INLINE Floats16 minimum(Floats16 a, Floats16 b) {
  return detail::each<Floats16>([&](int r) { return vbslq_f32(vcltq_f32(a.v[r], b.v[r]), a.v[r], b.v[r]); });
}
SIROCCO_INLINE Floats16 select_less(Floats16 x, Floats16 y, Floats16 a, Floats16 b) {
  return detail::each<Floats16>([&](int r) { return vbslq_f32(vcltq_f32(x.v[r], y.v[r]), a.v[r], b.v[r]); });
}
SIROCCO_INLINE Floats16 load_f16(const void* p) {
  return detail::each<Floats16>(
      [&](int r) { return vcvt_f32_f16(vreinterpret_f16_u8(vld1_u8(detail::bytes(p) + 8 * r))); });
}
SIROCCO_INLINE void store_f16(void* p, Floats16 x) {
  for (int r = 0; r < 4; ++r) vst1_u8(static_cast<std::uint8_t*>(p) + 8 * r, vreinterpret_u8_f16(vcvt_f16_f32(x.v[r])));
}
SIROCCO_INLINE Floats16 load_bf16(const void* p) {
  return detail::each<Floats16>([&](int r) {
    return vreinterpretq_f32_u32(vshll_n_u16(vreinterpret_u16_u8(vld1_u8(detail::bytes(p) + 8 * r)), 16));
  });
}
SIROCCO_INLINE void store_narrow(std::int8_t* p, Ints16 x) {
  const auto words = [&](int r) { return vcombine_s16(vqmovn_s32(x.v[r]), vqmovn_s32(x.v[r + 1])); };
  vst1q_s8(p, vcombine_s8(vqmovn_s16(words(0)), vqmovn_s16(words(2))));
}
template <int Stride>
SIROCCO_INLINE Ints16 strided_bytes(const std::byte* p) {
  std::int32_t all[16];
  for (int i = 0; i < 16; ++i) all[i] = static_cast<std::int32_t>(p[i * Stride]);
  return load_ints(all);
}
template <int Stride>
SIROCCO_INLINE Floats16 strided_f16(const std::byte* p) {
  std::byte halves[32];
  for (int i = 0; i < 16; ++i) std::memcpy(halves + 2 * i, p + i * Stride, 2);
  return load_f16(halves);
}
template <int Stride>
SIROCCO_INLINE void strided_f16_pairs(const std::byte* p, Floats16& first, Floats16& second) {
  first = strided_f16<Stride>(p);
  second = strided_f16<Stride>(p + 2);
}
template <int Byte>
SIROCCO_INLINE void f16_pairs(const Bytes64* x, Floats16& first, Floats16& second) {
  for (int r = 0; r < 4; ++r) {
    const auto word = [&](int i) { return vgetq_lane_u32(vreinterpretq_u32_u8(x[r].v[i]), Byte / 4); };
    const uint32x4_t pairs = {word(0), word(1), word(2), word(3)};
    first.v[r] = vcvt_f32_f16(vreinterpret_f16_u16(vmovn_u32(pairs)));
    second.v[r] = vcvt_f32_f16(vreinterpret_f16_u16(vshrn_n_u32(pairs, 16)));
  }
}
SIROCCO_INLINE void transpose(Floats16* x) {
  // 4 x 4 squares: each is transposed, and those off the diagonal change places.
  Floats16 y[16];
  for (int i = 0; i < 4; ++i) {
    for (int j = 0; j < 4; ++j) {
      const auto row = [&](int k) { return x[4 * i + k].v[j]; };
      const auto wide = [](float32x4_t a) { return vreinterpretq_f64_f32(a); };
      const auto narrow = [](float64x2_t a) { return vreinterpretq_f32_f64(a); };
      const float64x2_t a = wide(vtrn1q_f32(row(0), row(1)));
      const float64x2_t b = wide(vtrn2q_f32(row(0), row(1)));
      const float64x2_t c = wide(vtrn1q_f32(row(2), row(3)));
      const float64x2_t d = wide(vtrn2q_f32(row(2), row(3)));
      y[4 * j].v[i] = narrow(vtrn1q_f64(a, c));
      y[4 * j + 1].v[i] = narrow(vtrn1q_f64(b, d));
      y[4 * j + 2].v[i] = narrow(vtrn2q_f64(a, c));
      y[4 * j + 3].v[i] = narrow(vtrn2q_f64(b, d));
    }
  }
  for (int i = 0; i < 16; ++i) x[i] = y[i];
}
SIROCCO_INLINE float sum_lanes(Floats16 x) {
  const float32x4_t four = vaddq_f32(vaddq_f32(x.v[0], x.v[2]), vaddq_f32(x.v[1], x.v[3]));
  const float32x2_t two = vadd_f32(vget_low_f32(four), vget_high_f32(four));
  return vget_lane_f32(two, 0) + vget_lane_f32(two, 1);
}

SIROCCO_INLINE float as_largest(Ints16 x) {
  const int32x4_t four = vmaxq_s32(vmaxq_s32(x.v[0], x.v[1]), vmaxq_s32(x.v[2], x.v[3]));
  return std::bit_cast<float>(vmaxvq_s32(four));
}
SIROCCO_INLINE int sum_bytes_16(const std::int8_t* p) {
  return vaddlvq_s8(vld1q_s8(p));
}

}  // namespace sirocco::cpu::SIROCCO_ISA

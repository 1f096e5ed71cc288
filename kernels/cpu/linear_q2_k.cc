// Q2_K and Q3_K: two or three bits, 16 sub-blocks of 16.
#include "kernels/cpu/linear_256.h"
#include "kernels/cpu/linear_types.h"

namespace sirocco::cpu::SIROCCO_ISA {
namespace {

// Elements 128 h + 32 s + l: bits 2s and 2s + 1 of byte 32 h + l. Part is half a half: two values of s.
template <int Part>
SIROCCO_INLINE Bytes64 pairs(const ByteArray<64>& packed) {
  return pairs_of<4 * (Part % 2)>(twice_32(packed.data() + 32 * (Part / 2)));
}

struct Q2_K {
  using Block = BlockQ2_K;
  static constexpr int kSubBlock = 16;
  static constexpr int kZero = 0;
  static constexpr bool kWide = false;
  static constexpr bool kMinima = true;
  template <int Part>
  SIROCCO_INLINE static Bytes64 unpack(const Block& b) {
    return pairs<Part>(b.pairs);
  }
  SIROCCO_INLINE static Bytes16 sub_scales_of(const Block& b) { return low_nibbles(load_16(b.sub_scales.data())); }
  SIROCCO_INLINE static Bytes16 sub_minima_of(const Block& b) { return high_nibbles(load_16(b.sub_scales.data())); }
  SIROCCO_INLINE static Floats16 scales(const std::byte* p) {
    return strided_f16<sizeof(Block), offsetof(Block, scale)>(p);
  }
  SIROCCO_INLINE static Floats16 minima(const std::byte* p) {
    return strided_f16<sizeof(Block), offsetof(Block, minimum)>(p);
  }
  SIROCCO_INLINE static float scale(const Block& b) { return f16_to_f32(b.scale); }
  SIROCCO_INLINE static float minimum(const Block& b) { return f16_to_f32(b.minimum); }
};

// The third bit of element 32 g + l is bit g of byte l. Sub-scales: lower four bits of sub-block i in nibble i of bytes
// 0-7 (0 to 7 low, 8 to 15 high), the upper two in byte 8 + i mod 4 at bit 2 (i / 4); 32 is subtracted.
struct Q3_K {
  using Block = BlockQ3_K;
  static constexpr int kSubBlock = 16;
  static constexpr int kZero = 4;
  static constexpr bool kWide = false;
  static constexpr bool kMinima = false;
  template <int Part>
  SIROCCO_INLINE static Bytes64 unpack(const Block& b) {
    return or_where_bit<2 * Part>(pairs<Part>(b.pairs), twice_32(b.third_bits.data()), 4);
  }
  SIROCCO_INLINE static Bytes16 sub_scales_of(const Block& b) {
    std::uint64_t nibbles;
    std::uint32_t twos;
    std::memcpy(&nibbles, b.sub_scales.data(), sizeof nibbles);
    std::memcpy(&twos, b.sub_scales.data() + 8, sizeof twos);
    const std::uint64_t high_0 =
        (std::uint64_t{twos} << 4 & 0x30303030U) | (std::uint64_t{twos} << 34 & 0x3030303000000000U);
    const std::uint64_t high_1 = (twos & 0x30303030U) | (std::uint64_t{twos} << 30 & 0x3030303000000000U);
    // 32 less, in each byte: adding 0xE0 without carries, as bits 6 and 7 are clear.
    const auto less_32 = [](std::uint64_t x) { return ((x ^ 0x2020202020202020U) | ((~x & 0x2020202020202020U) * 6)); };
    return make_16(less_32((nibbles & 0x0F0F0F0F0F0F0F0FU) | high_0),
                   less_32((nibbles >> 4 & 0x0F0F0F0F0F0F0F0FU) | high_1));
  }
  SIROCCO_INLINE static Floats16 scales(const std::byte* p) {
    return strided_f16<sizeof(Block), offsetof(Block, scale)>(p);
  }
  SIROCCO_INLINE static float scale(const Block& b) { return f16_to_f32(b.scale); }
};

}  // namespace

extern const LinearFunctions linear_q2_k = Linear256<Q2_K>::kFunctions;
extern const LinearFunctions linear_q3_k = Linear256<Q3_K>::kFunctions;

}  // namespace sirocco::cpu::SIROCCO_ISA

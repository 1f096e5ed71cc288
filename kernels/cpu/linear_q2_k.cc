// Q2_K and Q3_K: two or three bits, 16 sub-blocks of 16.
#include "kernels/cpu/linear_256.h"
#include "kernels/cpu/linear_types.h"

namespace sirocco::cpu::SIROCCO_ISA {
namespace {

// Elements 128 h + 32 s + l: bits 2s and 2s + 1 of byte 32 h + l. A part is s = 0 and 2, or 1 and 3, of half h.
template <int Part>
SIROCCO_INLINE Bytes64 pairs(const ByteArray<64>& packed) {
  return pairs_of<2 * (Part % 2)>(twice_32(packed.data() + 32 * (Part / 2)));
}

// Group G of 16 rows, from their 64 bytes, transposed.
template <std::size_t Group>
SIROCCO_INLINE Bytes64 group_of_pairs(const Bytes64* t) {
  return shift_words<2 * (Group / 8 % 4), 0x03030303>(t[Group / 32 * 8 + Group % 8]);
}

struct Q2_K {
  using Block = BlockQ2_K;
  static constexpr int kLargest = 3;
  static constexpr int kSubBlock = 16;
  static constexpr int kZero = 0;
  static constexpr bool kWide = false;
  static constexpr bool kMinima = true;
  static constexpr int kHeader = offsetof(Block, sub_scales);
  static constexpr int kScales = sizeof(Block) - 16;
  template <int Part>
  SIROCCO_INLINE static Bytes64 unpack(const Block& b) {
    return pairs<Part>(b.pairs);
  }
  static constexpr std::size_t kChunks = 4;
  static constexpr std::size_t chunk(std::size_t i) { return offsetof(Block, pairs) + 16 * i; }
  template <std::size_t Group>
  SIROCCO_INLINE static Bytes64 group(const Bytes64* t) {
    return group_of_pairs<Group>(t);
  }
  SIROCCO_INLINE static Bytes64 sub_scales(Bytes64 header) { return low_nibbles(header); }
  SIROCCO_INLINE static Bytes64 sub_minima(Bytes64 header) { return high_nibbles(header); }
  SIROCCO_INLINE static void scales(const Bytes64* x, Floats16& scale, Floats16& minimum) {
    f16_pairs<offsetof(Block, scale) - kScales>(x, scale, minimum);
  }
};

// The third bit of element 32 g + l is bit g of byte l. Sub-scales: lower four bits of sub-block i in nibble i of bytes
// 0-7 (0 to 7 low, 8 to 15 high), the upper two in byte 8 + i mod 4 at bit 2 (i / 4); 32 is subtracted.
struct Q3_K {
  using Block = BlockQ3_K;
  static constexpr int kLargest = 7;
  static constexpr int kSubBlock = 16;
  static constexpr int kZero = 4;
  static constexpr bool kWide = false;
  static constexpr bool kMinima = false;
  // The last bytes of a block: two that are no part of it, the sub-scales' 12, the scale.
  static constexpr int kHeader = sizeof(Block) - 16;
  static constexpr int kScales = kHeader;
  template <int Part>
  SIROCCO_INLINE static Bytes64 unpack(const Block& b) {
    return or_where_bit<4 * (Part / 2) + Part % 2>(pairs<Part>(b.pairs), twice_32(b.third_bits.data()), 4);
  }
  static constexpr std::size_t kChunks = 6;
  static constexpr std::size_t chunk(std::size_t i) { return offsetof(Block, third_bits) + 16 * i; }
  template <std::size_t Group>
  SIROCCO_INLINE static Bytes64 group(const Bytes64* t) {
    constexpr int kRun = Group / 8;
    return bit_or(group_of_pairs<Group>(t + 8), shift_words<kRun - 2, 0x04040404>(t[Group % 8]));
  }
  SIROCCO_INLINE static void scales(const Bytes64* x, Floats16& scale, Floats16& minimum) {
    f16_pairs<12>(x, minimum, scale);
    minimum = zero_floats();
  }
  SIROCCO_INLINE static Bytes64 sub_scales(Bytes64 packed) {
    constexpr std::uint32_t kFour = 0x0F0F0F0F;
    constexpr std::uint32_t kTwo = 0x03030303;
    const Bytes64 nibbles = reorder_16<2, 3, 4, 5, 6, 7, 8, 9, 2, 3, 4, 5, 6, 7, 8, 9>(packed);
    const Bytes64 low = shift_and_mask<0, 0, 4, 4, kFour, kFour, kFour, kFour>(nibbles);
    const Bytes64 pairs_of_bits = reorder_16<10, 11, 12, 13, 10, 11, 12, 13, 10, 11, 12, 13, 10, 11, 12, 13>(packed);
    const Bytes64 high = shift_left<4>(shift_and_mask<0, 2, 4, 6, kTwo, kTwo, kTwo, kTwo>(pairs_of_bits));
    return subtract_bytes(bit_or(low, high), broadcast_byte(32));
  }
};

}  // namespace

extern const LinearFunctions linear_q2_k = Linear256<Q2_K>::kFunctions;
extern const LinearFunctions linear_q3_k = Linear256<Q3_K>::kFunctions;

}  // namespace sirocco::cpu::SIROCCO_ISA

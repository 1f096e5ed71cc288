// Q4_K and Q5_K: four or five bits, eight sub-blocks of 32 with six-bit scales and minima.
#include "kernels/cpu/linear_256.h"
#include "kernels/cpu/linear_types.h"

namespace sirocco::cpu::SIROCCO_ISA {
namespace {

// Sub-blocks 0 to 3: the lower six bits of bytes 0-3 (scales) and 4-7 (minima). Sub-blocks 4 to 7: the low nibbles of
// bytes 8-11 (scales) and the high ones (minima), with their upper two bits at the top of bytes 0-3 and 4-7.
//
// Of four blocks: 8 scales, 8 minima of each. Before the 12 bytes stand the scale and the minimum.
SIROCCO_INLINE Bytes64 unpack_sub_values(Bytes64 header) {
  const Bytes64 low = reorder_16<4, 5, 6, 7, 12, 13, 14, 15, 8, 9, 10, 11, 12, 13, 14, 15>(header);
  const Bytes64 high = reorder_16<4, 5, 6, 7, 4, 5, 6, 7, 8, 9, 10, 11, 8, 9, 10, 11>(header);
  constexpr std::uint32_t kSix = 0x3F3F3F3F;
  constexpr std::uint32_t kFour = 0x0F0F0F0F;
  constexpr std::uint32_t kTop = 0x30303030;
  return bit_or(shift_and_mask<0, 0, 0, 4, kSix, kFour, kSix, kFour>(low),
                shift_and_mask<0, 2, 0, 2, 0, kTop, 0, kTop>(high));
}

template <class B>
struct WithSubMinima {
  using Block = B;
  static constexpr int kSubBlock = 32;
  static constexpr int kZero = 0;
  static constexpr bool kWide = false;
  static constexpr bool kMinima = true;
  static constexpr int kHeader = 0;
  static constexpr int kScales = 0;
  SIROCCO_INLINE static Bytes64 sub_scales(Bytes64 header) { return unpack_sub_values(header); }
  SIROCCO_INLINE static Bytes64 sub_minima(Bytes64 header) { return unpack_sub_values(header); }
  SIROCCO_INLINE static void scales(const Bytes64* x, Floats16& scale, Floats16& minimum) {
    f16_pairs<0>(x, scale, minimum);
  }
};

// Runs 2g and 2g + 1 of 32 elements are the low and the high nibbles of bytes 32 g to 32 g + 31: a part is one or the
// other of 64 bytes.
template <int Part, class Block>
SIROCCO_INLINE Bytes64 nibbles(const Block& b) {
  const Bytes64 bytes = load_bytes(b.nibbles.data() + 64 * (Part / 2));
  return Part % 2 == 0 ? low_nibbles(bytes) : high_nibbles(bytes);
}

// From their 128 bytes, transposed.
template <std::size_t Group>
SIROCCO_INLINE Bytes64 group_of_nibbles(const Bytes64* t) {
  return shift_words<4 * (Group / 8 % 2), 0x0F0F0F0F>(t[Group / 16 * 8 + Group % 8]);
}

struct Q4_K : WithSubMinima<BlockQ4_K> {
  static constexpr int kLargest = 15;
  template <int Part>
  SIROCCO_INLINE static Bytes64 unpack(const Block& b) {
    return nibbles<Part>(b);
  }
  static constexpr std::size_t kChunks = 8;
  static constexpr std::size_t chunk(std::size_t i) { return offsetof(Block, nibbles) + 16 * i; }
  template <std::size_t Group>
  SIROCCO_INLINE static Bytes64 group(const Bytes64* t) {
    return group_of_nibbles<Group>(t);
  }
};

// The fifth bit of element 32 r + l is bit r of byte l.
struct Q5_K : WithSubMinima<BlockQ5_K> {
  static constexpr int kLargest = 31;
  template <int Part>
  SIROCCO_INLINE static Bytes64 unpack(const Block& b) {
    return or_where_bit<4 * (Part / 2) + Part % 2>(nibbles<Part>(b), twice_32(b.fifth_bits.data()), 16);
  }
  static constexpr std::size_t kChunks = 10;
  static constexpr std::size_t chunk(std::size_t i) { return offsetof(Block, fifth_bits) + 16 * i; }
  template <std::size_t Group>
  SIROCCO_INLINE static Bytes64 group(const Bytes64* t) {
    constexpr int kRun = Group / 8;
    return bit_or(group_of_nibbles<Group>(t + 8), shift_words<kRun - 4, 0x10101010>(t[Group % 8]));
  }
};

}  // namespace

extern const LinearFunctions linear_q4_k = Linear256<Q4_K>::kFunctions;
extern const LinearFunctions linear_q5_k = Linear256<Q5_K>::kFunctions;

}  // namespace sirocco::cpu::SIROCCO_ISA

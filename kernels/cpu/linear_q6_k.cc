// Q6_K: six bits, 16 sub-blocks of 16 with signed scales.
#include "kernels/cpu/linear_256.h"
#include "kernels/cpu/linear_types.h"

namespace sirocco::cpu::SIROCCO_ISA {
namespace {

// Of each half of 128 elements, with its 64 bytes of nibbles and 32 of pairs: elements 0-63 are the low nibbles,
// 64-127 the high ones; the upper bits of elements 32 s + l are bits 2s and 2s + 1 of pair byte l.
struct Q6_K {
  using Block = BlockQ6_K;
  static constexpr int kLargest = 63;
  static constexpr int kSubBlock = 16;
  static constexpr int kZero = 32;
  static constexpr bool kWide = false;
  static constexpr bool kMinima = false;
  static constexpr int kHeader = offsetof(Block, sub_scales);
  static constexpr int kScales = sizeof(Block) - 16;
  template <int Part>
  SIROCCO_INLINE static Bytes64 unpack(const Block& b) {
    // Runs s = 0 and 2 of a half are the low and high nibbles of its first 32 bytes, 1 and 3 of the others.
    const Bytes64 nibbles = nibbles_of_32(b.nibbles.data() + 64 * (Part / 2) + 32 * (Part % 2));
    return bit_or(nibbles, high_pairs_of<2 * (Part % 2)>(twice_32(b.pairs.data() + 32 * (Part / 2))));
  }
  static constexpr std::size_t kChunks = 12;
  static constexpr std::size_t chunk(std::size_t i) { return offsetof(Block, nibbles) + 16 * i; }
  template <std::size_t Group>
  SIROCCO_INLINE static Bytes64 group(const Bytes64* t) {
    constexpr std::size_t kHalf = Group / 32;
    constexpr int kRun = Group / 8 % 4;
    const Bytes64 low = shift_words<4 * (kRun / 2), 0x0F0F0F0F>(t[16 * kHalf + Group % 16]);
    return bit_or(low, shift_words<2 * kRun - 4, 0x30303030>(t[32 + 8 * kHalf + Group % 8]));
  }
  SIROCCO_INLINE static Bytes64 sub_scales(Bytes64 header) { return header; }
  SIROCCO_INLINE static void scales(const Bytes64* x, Floats16& scale, Floats16& minimum) {
    f16_pairs<12>(x, minimum, scale);
    minimum = zero_floats();
  }
};

}  // namespace

extern const LinearFunctions linear_q6_k = Linear256<Q6_K>::kFunctions;

}  // namespace sirocco::cpu::SIROCCO_ISA

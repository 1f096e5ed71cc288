// IQ4_XS: four bits that choose one of 16 levels, eight sub-blocks of 32 with six-bit scales.
#include "kernels/cpu/linear_256.h"
#include "kernels/cpu/linear_types.h"
#include "kernels/levels.h"

namespace sirocco::cpu::SIROCCO_ISA {
namespace {

struct Iq4Xs {
  using Block = BlockIQ4_XS;
  static constexpr int kSubBlock = 32;
  static constexpr int kZero = 0;
  static constexpr bool kWide = true;
  static constexpr bool kMinima = false;
  static constexpr int kHeader = 0;
  static constexpr int kScales = 0;
  template <int Part>
  SIROCCO_INLINE static Bytes64 unpack(const Block& b) {
    const std::uint8_t* nibbles = b.nibbles.data() + 64 * (Part / 2) + 16 * (Part % 2);
    return look_up(kIq4Levels, nibbles_of_2x16(nibbles, nibbles + 32));
  }
  static constexpr std::size_t kChunks = 8;
  static constexpr std::size_t chunk(std::size_t i) { return offsetof(Block, nibbles) + 16 * i; }
  template <std::size_t Group>
  SIROCCO_INLINE static Bytes64 group(const Bytes64* t) {
    return look_up(kIq4Levels, shift_words<4 * (Group / 4 % 2), 0x0F0F0F0F>(t[Group / 8 * 4 + Group % 4]));
  }
  SIROCCO_INLINE static void scales(const Bytes64* x, Floats16& scale, Floats16& minimum) {
    f16_pairs<0>(x, scale, minimum);
    minimum = zero_floats();
  }
  SIROCCO_INLINE static Bytes64 sub_scales(Bytes64 packed) {
    // Sub-scale s: nibble s of scale_nibbles below bits 2s and 2s + 1 of scale_pairs, less 32.
    // Behind the scale two bytes of pairs, four of nibbles. Even sub-scales in the first word, odd in the second.
    const Bytes64 nibbles = reorder_16<4, 5, 6, 7, 4, 5, 6, 7, 0, 0, 0, 0, 0, 0, 0, 0>(packed);
    const Bytes64 pairs = reorder_16<2, 2, 3, 3, 2, 2, 3, 3, 0, 0, 0, 0, 0, 0, 0, 0>(packed);
    const Bytes64 low = shift_and_mask<0, 4, 0, 0, 0x0F0F0F0F, 0x0F0F0F0F, 0, 0>(nibbles);
    const Bytes64 high = bit_or(shift_and_mask<0, 2, 0, 0, 0x00030003, 0x00030003, 0, 0>(pairs),
                                shift_and_mask<4, 6, 0, 0, 0x03000300, 0x03000300, 0, 0>(pairs));
    const Bytes64 mixed = subtract_bytes(bit_or(low, shift_left<4>(high)), broadcast_byte(32));
    return reorder_16<0, 4, 1, 5, 2, 6, 3, 7, 0, 0, 0, 0, 0, 0, 0, 0>(mixed);
  }
};

}  // namespace

extern const LinearFunctions linear_iq4_xs = Linear256<Iq4Xs>::kFunctions;

}  // namespace sirocco::cpu::SIROCCO_ISA

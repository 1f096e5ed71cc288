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
  template <int Part>
  SIROCCO_INLINE static Bytes64 unpack(const Block& b) {
    const std::uint8_t* nibbles = b.nibbles.data() + 32 * Part;
    return look_up(kIq4Levels, nibbles_of_2x16(nibbles, nibbles + 16));
  }
  // Sub-scale s: nibble s of scale_nibbles below bits 2s and 2s + 1 of scale_pairs, less 32.
  SIROCCO_INLINE static std::uint64_t sub_scales_of(const Block& b) {
    std::uint64_t eight = 0;
    const unsigned pairs = b.scale_pairs;
    for (unsigned s = 0; s < 8; ++s) {
      const unsigned low = b.scale_nibbles[s / 2] >> (4 * (s % 2)) & 15U;
      const unsigned value = (low | (pairs >> (2 * s) & 3U) << 4) - 32U;
      eight |= std::uint64_t{value & 0xFFU} << (8 * s);
    }
    return eight;
  }
  SIROCCO_INLINE static Floats16 scales(const std::byte* p) {
    return strided_f16<sizeof(Block), offsetof(Block, scale)>(p);
  }
  SIROCCO_INLINE static float scale(const Block& b) { return f16_to_f32(b.scale); }
};

}  // namespace

extern const LinearFunctions linear_iq4_xs = Linear256<Iq4Xs>::kFunctions;

}  // namespace sirocco::cpu::SIROCCO_ISA

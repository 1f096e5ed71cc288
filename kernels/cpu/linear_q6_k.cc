// Q6_K: six bits, 16 sub-blocks of 16 with signed scales.
#include "kernels/cpu/linear_256.h"
#include "kernels/cpu/linear_types.h"

namespace sirocco::cpu::SIROCCO_ISA {
namespace {

// Of each half of 128 elements, with its 64 bytes of nibbles and 32 of pairs: elements 0-63 are the low nibbles,
// 64-127 the high ones; the upper bits of elements 32 s + l are bits 2s and 2s + 1 of pair byte l.
struct Q6_K {
  using Block = BlockQ6_K;
  static constexpr int kSubBlock = 16;
  static constexpr int kZero = 32;
  static constexpr bool kWide = false;
  static constexpr bool kMinima = false;
  template <int Part>
  SIROCCO_INLINE static Bytes64 unpack(const Block& b) {
    const Bytes64 bytes = load_bytes(b.nibbles.data() + 64 * (Part / 2));
    const Bytes64 nibbles = Part % 2 == 0 ? low_nibbles(bytes) : high_nibbles(bytes);
    return bit_or(nibbles, shift_left<4>(pairs_of<4 * (Part % 2)>(twice_32(b.pairs.data() + 32 * (Part / 2)))));
  }
  SIROCCO_INLINE static Bytes16 sub_scales_of(const Block& b) { return load_16(b.sub_scales.data()); }
  SIROCCO_INLINE static Floats16 scales(const std::byte* p) {
    return strided_f16<sizeof(Block), offsetof(Block, scale)>(p);
  }
  SIROCCO_INLINE static float scale(const Block& b) { return f16_to_f32(b.scale); }
};

}  // namespace

extern const LinearFunctions linear_q6_k = Linear256<Q6_K>::kFunctions;

}  // namespace sirocco::cpu::SIROCCO_ISA

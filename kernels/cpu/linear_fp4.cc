// IQ4_NL and MXFP4: four bits that choose one of 16 levels, 32 to a block.
#include "kernels/cpu/linear_32.h"
#include "kernels/cpu/linear_types.h"
#include "kernels/levels.h"

namespace sirocco::cpu::SIROCCO_ISA {
namespace {

struct Iq4Nl {
  using Block = BlockIQ4_NL;
  static constexpr int kZero = 0;
  static constexpr bool kWide = true;
  static constexpr bool kMinima = false;
  SIROCCO_INLINE static Bytes64 unpack(const Block& a, const Block& b) {
    return look_up(kIq4Levels, nibbles_of_2x16(a.nibbles.data(), b.nibbles.data()));
  }
  SIROCCO_INLINE static Floats16 scales(const std::byte* p) { return strided_f16<sizeof(Block), 0>(p); }
};

struct Mxfp4 {
  using Block = BlockMXFP4;
  static constexpr int kZero = 12;  // the doubled values are -12 to 12
  static constexpr bool kWide = false;
  static constexpr bool kMinima = false;
  SIROCCO_INLINE static Bytes64 unpack(const Block& a, const Block& b) {
    alignas(16) static constexpr std::int8_t kRaised[16] = {12, 13, 14, 15, 16, 18, 20, 24, 12, 11, 10, 9, 8, 6, 4, 0};
    return look_up(kRaised, nibbles_of_2x16(a.nibbles.data(), b.nibbles.data()));
  }
  // 2^(exponent - 128): bits (exponent - 1) << 23, and below exponent 2 the subnormals 2^-128 and 2^-127, which as ints
  // are above what the first expression gives there.
  SIROCCO_INLINE static Floats16 scales(const std::byte* p) {
    const Ints16 exponent = strided_bytes<sizeof(Block)>(p);
    const Ints16 normal = shift_left_ints<23>(subtract(exponent, broadcast_int(1)));
    const Ints16 subnormal = shift_left_ints<21>(add(minimum(exponent, broadcast_int(1)), broadcast_int(1)));
    return as_floats(maximum(normal, subnormal));
  }
};

}  // namespace

extern const LinearFunctions linear_iq4_nl = Linear32<Iq4Nl>::kFunctions;
extern const LinearFunctions linear_mxfp4 = Linear32<Mxfp4>::kFunctions;

}  // namespace sirocco::cpu::SIROCCO_ISA

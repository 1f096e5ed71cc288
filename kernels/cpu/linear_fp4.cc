// IQ4_NL and MXFP4: four bits that choose one of 16 levels, 32 to a block.
#include "kernels/cpu/linear_32.h"
#include "kernels/cpu/linear_types.h"
#include "kernels/levels.h"

namespace sirocco::cpu::SIROCCO_ISA {
namespace {

struct Iq4Nl {
  using Block = BlockIQ4_NL;
  static constexpr int kLargest = 255;
  static constexpr int kZero = 0;
  static constexpr bool kWide = true;
  static constexpr bool kMinima = false;
  SIROCCO_INLINE static void unpack(const Block* w, Bytes64& low, Bytes64& high) {
    const Bytes64 nibbles = gather_16<sizeof(Block), offsetof(Block, nibbles)>(w);
    low = look_up(kIq4Levels, low_nibbles(nibbles));
    high = look_up(kIq4Levels, high_nibbles(nibbles));
  }
  static constexpr std::size_t kChunks = 1;
  static constexpr std::size_t chunk(std::size_t i) { return offsetof(Block, nibbles) + 16 * i; }
  template <std::size_t Group>
  SIROCCO_INLINE static Bytes64 group(const Bytes64* t) {
    return look_up(kIq4Levels, nibble_group<Group>(t));
  }
  SIROCCO_INLINE static void scales(const std::byte* p, Floats16& scale, Floats16& minimum) {
    scale = strided_f16<sizeof(Block)>(p);
    minimum = zero_floats();
  }
};

struct Mxfp4 {
  using Block = BlockMXFP4;
  static constexpr int kLargest = 24;
  static constexpr int kZero = 12;  // the doubled values are -12 to 12
  static constexpr bool kWide = false;
  static constexpr bool kMinima = false;
  alignas(16) static constexpr std::int8_t kRaised[16] = {12, 13, 14, 15, 16, 18, 20, 24, 12, 11, 10, 9, 8, 6, 4, 0};
  SIROCCO_INLINE static void unpack(const Block* w, Bytes64& low, Bytes64& high) {
    const Bytes64 nibbles = gather_16<sizeof(Block), offsetof(Block, nibbles)>(w);
    low = look_up(kRaised, low_nibbles(nibbles));
    high = look_up(kRaised, high_nibbles(nibbles));
  }
  static constexpr std::size_t kChunks = 1;
  static constexpr std::size_t chunk(std::size_t i) { return offsetof(Block, nibbles) + 16 * i; }
  template <std::size_t Group>
  SIROCCO_INLINE static Bytes64 group(const Bytes64* t) {
    return look_up(kRaised, nibble_group<Group>(t));
  }
  // 2^(exponent - 128): bits (exponent - 1) << 23, and below exponent 2 the subnormals 2^-128 and 2^-127, which as ints
  // are above what the first expression gives there.
  SIROCCO_INLINE static void scales(const std::byte* p, Floats16& scale, Floats16& minimum_) {
    const Ints16 exponent = strided_bytes<sizeof(Block)>(p);
    const Ints16 normal = shift_left_ints<23>(subtract(exponent, broadcast_int(1)));
    const Ints16 subnormal = shift_left_ints<21>(add(minimum(exponent, broadcast_int(1)), broadcast_int(1)));
    scale = as_floats(maximum(normal, subnormal));
    minimum_ = zero_floats();
  }
};

}  // namespace

extern const LinearFunctions linear_iq4_nl = Linear32<Iq4Nl>::kFunctions;
extern const LinearFunctions linear_mxfp4 = Linear32<Mxfp4>::kFunctions;

}  // namespace sirocco::cpu::SIROCCO_ISA

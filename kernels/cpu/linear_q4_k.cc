// Q4_K and Q5_K: four or five bits, eight sub-blocks of 32 with six-bit scales and minima.
#include "kernels/cpu/linear_256.h"
#include "kernels/cpu/linear_types.h"

namespace sirocco::cpu::SIROCCO_ISA {
namespace {

// Sub-blocks 0 to 3: the lower six bits of bytes 0-3 (scales) and 4-7 (minima). Sub-blocks 4 to 7: the low nibbles of
// bytes 8-11 (scales) and the high ones (minima), with their upper two bits at the top of bytes 0-3 and 4-7.
SIROCCO_INLINE std::uint64_t sub_values(const ByteArray<12>& packed, std::size_t low_at, unsigned nibble) {
  std::uint32_t first;
  std::uint32_t last;
  std::memcpy(&first, packed.data() + low_at, sizeof first);
  std::memcpy(&last, packed.data() + 8, sizeof last);
  const std::uint32_t low = first & 0x3F3F3F3FU;
  const std::uint32_t high = (last >> nibble & 0x0F0F0F0FU) | (first >> 2 & 0x30303030U);
  return std::uint64_t{high} << 32 | low;
}

template <class B>
struct WithSubMinima {
  using Block = B;
  static constexpr int kSubBlock = 32;
  static constexpr int kZero = 0;
  static constexpr bool kWide = false;
  static constexpr bool kMinima = true;
  SIROCCO_INLINE static std::uint64_t sub_scales_of(const Block& b) { return sub_values(b.sub_scales, 0, 0); }
  SIROCCO_INLINE static std::uint64_t sub_minima_of(const Block& b) { return sub_values(b.sub_scales, 4, 4); }
  SIROCCO_INLINE static Floats16 scales(const std::byte* p) {
    return strided_f16<sizeof(Block), offsetof(Block, scale)>(p);
  }
  SIROCCO_INLINE static Floats16 minima(const std::byte* p) {
    return strided_f16<sizeof(Block), offsetof(Block, minimum)>(p);
  }
  SIROCCO_INLINE static float scale(const Block& b) { return f16_to_f32(b.scale); }
  SIROCCO_INLINE static float minimum(const Block& b) { return f16_to_f32(b.minimum); }
};

struct Q4_K : WithSubMinima<BlockQ4_K> {
  template <int Part>
  SIROCCO_INLINE static Bytes64 unpack(const Block& b) {
    return nibbles_of_32(b.nibbles.data() + 32 * Part);
  }
};

struct Q5_K : WithSubMinima<BlockQ5_K> {
  template <int Part>
  SIROCCO_INLINE static Bytes64 unpack(const Block& b) {
    return or_where_bit<2 * Part>(nibbles_of_32(b.nibbles.data() + 32 * Part), twice_32(b.fifth_bits.data()), 16);
  }
};

}  // namespace

extern const LinearFunctions linear_q4_k = Linear256<Q4_K>::kFunctions;
extern const LinearFunctions linear_q5_k = Linear256<Q5_K>::kFunctions;

}  // namespace sirocco::cpu::SIROCCO_ISA

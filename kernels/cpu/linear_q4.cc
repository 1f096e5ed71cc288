// Q4_0 and Q4_1: four bits, 32 to a block.
#include "kernels/cpu/linear_32.h"
#include "kernels/cpu/linear_types.h"

namespace sirocco::cpu::SIROCCO_ISA {
namespace {

struct Q4_0 {
  using Block = BlockQ4_0;
  static constexpr int kZero = 8;
  static constexpr bool kWide = false;
  static constexpr bool kMinima = false;
  SIROCCO_INLINE static Bytes64 unpack(const Block& a, const Block& b) {
    return nibbles_of_2x16(a.nibbles.data(), b.nibbles.data());
  }
  SIROCCO_INLINE static Floats16 scales(const std::byte* p) { return strided_f16<sizeof(Block), 0>(p); }
};

struct Q4_1 {
  using Block = BlockQ4_1;
  static constexpr int kZero = 0;
  static constexpr bool kWide = false;
  static constexpr bool kMinima = true;
  SIROCCO_INLINE static Bytes64 unpack(const Block& a, const Block& b) {
    return nibbles_of_2x16(a.nibbles.data(), b.nibbles.data());
  }
  SIROCCO_INLINE static Floats16 scales(const std::byte* p) { return strided_f16<sizeof(Block), 0>(p); }
  SIROCCO_INLINE static Floats16 minima(const std::byte* p) { return strided_f16<sizeof(Block), 2>(p); }
};

}  // namespace

extern const LinearFunctions linear_q4_0 = Linear32<Q4_0>::kFunctions;
extern const LinearFunctions linear_q4_1 = Linear32<Q4_1>::kFunctions;

}  // namespace sirocco::cpu::SIROCCO_ISA

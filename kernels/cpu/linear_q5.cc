// Q5_0 and Q5_1: five bits, 32 to a block, the fifth bits in a word of their own.
#include "kernels/cpu/linear_32.h"
#include "kernels/cpu/linear_types.h"

namespace sirocco::cpu::SIROCCO_ISA {
namespace {

template <class Block>
SIROCCO_INLINE Bytes64 unpack_5(const Block& a, const Block& b) {
  std::uint32_t low;
  std::uint32_t high;
  std::memcpy(&low, a.fifth_bits.data(), sizeof low);
  std::memcpy(&high, b.fifth_bits.data(), sizeof high);
  const std::uint64_t fifth = std::uint64_t{high} << 32 | low;
  return or_where(nibbles_of_2x16(a.nibbles.data(), b.nibbles.data()), fifth, 16);
}

struct Q5_0 {
  using Block = BlockQ5_0;
  static constexpr int kZero = 16;
  static constexpr bool kWide = false;
  static constexpr bool kMinima = false;
  SIROCCO_INLINE static Bytes64 unpack(const Block& a, const Block& b) { return unpack_5(a, b); }
  SIROCCO_INLINE static Floats16 scales(const std::byte* p) { return strided_f16<sizeof(Block), 0>(p); }
};

struct Q5_1 {
  using Block = BlockQ5_1;
  static constexpr int kZero = 0;
  static constexpr bool kWide = false;
  static constexpr bool kMinima = true;
  SIROCCO_INLINE static Bytes64 unpack(const Block& a, const Block& b) { return unpack_5(a, b); }
  SIROCCO_INLINE static Floats16 scales(const std::byte* p) { return strided_f16<sizeof(Block), 0>(p); }
  SIROCCO_INLINE static Floats16 minima(const std::byte* p) { return strided_f16<sizeof(Block), 2>(p); }
};

}  // namespace

extern const LinearFunctions linear_q5_0 = Linear32<Q5_0>::kFunctions;
extern const LinearFunctions linear_q5_1 = Linear32<Q5_1>::kFunctions;

}  // namespace sirocco::cpu::SIROCCO_ISA

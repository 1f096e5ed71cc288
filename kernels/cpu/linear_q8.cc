// Q8_0: signed bytes, 32 to a block.
#include "kernels/cpu/linear_32.h"
#include "kernels/cpu/linear_types.h"

namespace sirocco::cpu::SIROCCO_ISA {
namespace {

struct Q8_0 {
  using Block = BlockQ8_0;
  static constexpr int kZero = 0;
  static constexpr bool kWide = true;
  static constexpr bool kMinima = false;
  SIROCCO_INLINE static Bytes64 unpack(const Block& a, const Block& b) { return join_32(a.q.data(), b.q.data()); }
  SIROCCO_INLINE static Floats16 scales(const std::byte* p) { return strided_f16<sizeof(Block), 0>(p); }
};

}  // namespace

extern const LinearFunctions linear_q8_0 = Linear32<Q8_0>::kFunctions;

}  // namespace sirocco::cpu::SIROCCO_ISA

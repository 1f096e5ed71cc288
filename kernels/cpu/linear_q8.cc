// Q8_0: signed bytes, 32 to a block.
#include "kernels/cpu/linear_32.h"
#include "kernels/cpu/linear_types.h"

namespace sirocco::cpu::SIROCCO_ISA {
namespace {

struct Q8_0 {
  using Block = BlockQ8_0;
  static constexpr int kLargest = 255;
  static constexpr int kZero = 0;
  static constexpr bool kWide = true;
  static constexpr bool kMinima = false;
  SIROCCO_INLINE static void unpack(const Block* w, Bytes64& low, Bytes64& high) {
    low = gather_16<sizeof(Block), offsetof(Block, q)>(w);
    high = gather_16<sizeof(Block), offsetof(Block, q) + 16>(w);
  }
  static constexpr std::size_t kChunks = 2;
  static constexpr std::size_t chunk(std::size_t i) { return offsetof(Block, q) + 16 * i; }
  template <std::size_t Group>
  SIROCCO_INLINE static Bytes64 group(const Bytes64* t) {
    return t[Group];
  }
  SIROCCO_INLINE static void scales(const std::byte* p, Floats16& scale, Floats16& minimum) {
    scale = strided_f16<sizeof(Block)>(p);
    minimum = zero_floats();
  }
};

}  // namespace

extern const LinearFunctions linear_q8_0 = Linear32<Q8_0>::kFunctions;

}  // namespace sirocco::cpu::SIROCCO_ISA

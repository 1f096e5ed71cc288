// Q4_0 and Q4_1: four bits, 32 to a block.
#include "kernels/cpu/linear_32.h"
#include "kernels/cpu/linear_types.h"

namespace sirocco::cpu::SIROCCO_ISA {
namespace {

struct Q4_0 {
  using Block = BlockQ4_0;
  static constexpr int kLargest = 15;
  static constexpr int kZero = 8;
  static constexpr bool kWide = false;
  static constexpr bool kMinima = false;
  SIROCCO_INLINE static void unpack(const Block* w, Bytes64& low, Bytes64& high) {
    const Bytes64 nibbles = gather_16<sizeof(Block), offsetof(Block, nibbles)>(w);
    low = low_nibbles(nibbles);
    high = high_nibbles(nibbles);
  }
  static constexpr std::size_t kChunks = 1;
  static constexpr std::size_t chunk(std::size_t i) { return offsetof(Block, nibbles) + 16 * i; }
  template <std::size_t Group>
  SIROCCO_INLINE static Bytes64 group(const Bytes64* t) {
    return nibble_group<Group>(t);
  }
  SIROCCO_INLINE static void scales(const std::byte* p, Floats16& scale, Floats16& minimum) {
    scale = strided_f16<sizeof(Block)>(p);
    minimum = zero_floats();
  }
};

struct Q4_1 {
  using Block = BlockQ4_1;
  static constexpr int kLargest = 15;
  static constexpr int kZero = 0;
  static constexpr bool kWide = false;
  static constexpr bool kMinima = true;
  SIROCCO_INLINE static void unpack(const Block* w, Bytes64& low, Bytes64& high) {
    const Bytes64 nibbles = gather_16<sizeof(Block), offsetof(Block, nibbles)>(w);
    low = low_nibbles(nibbles);
    high = high_nibbles(nibbles);
  }
  static constexpr std::size_t kChunks = 1;
  static constexpr std::size_t chunk(std::size_t i) { return offsetof(Block, nibbles) + 16 * i; }
  template <std::size_t Group>
  SIROCCO_INLINE static Bytes64 group(const Bytes64* t) {
    return nibble_group<Group>(t);
  }
  SIROCCO_INLINE static void scales(const std::byte* p, Floats16& scale, Floats16& minimum) {
    strided_f16_pairs<sizeof(Block)>(p, scale, minimum);
  }
};

}  // namespace

extern const LinearFunctions linear_q4_0 = Linear32<Q4_0>::kFunctions;
extern const LinearFunctions linear_q4_1 = Linear32<Q4_1>::kFunctions;

}  // namespace sirocco::cpu::SIROCCO_ISA

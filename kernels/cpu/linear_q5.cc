// Q5_0 and Q5_1: five bits, 32 to a block, the fifth bits in a word of their own.
#include "kernels/cpu/linear_32.h"
#include "kernels/cpu/linear_types.h"

namespace sirocco::cpu::SIROCCO_ISA {
namespace {

template <class Block>
SIROCCO_INLINE void unpack_5(const Block* w, Bytes64& low, Bytes64& high) {
  std::uint64_t low_bits = 0;  // 16 of each block
  std::uint64_t high_bits = 0;
  for (unsigned block = 0; block < 4; ++block) {
    std::uint32_t fifth;
    std::memcpy(&fifth, w[block].fifth_bits.data(), sizeof fifth);
    low_bits |= std::uint64_t{fifth & 0xFFFFU} << (16 * block);
    high_bits |= std::uint64_t{fifth >> 16} << (16 * block);
  }
  const Bytes64 nibbles = gather_16<sizeof(Block), offsetof(Block, nibbles)>(w);
  low = or_where(low_nibbles(nibbles), low_bits, 16);
  high = or_where(high_nibbles(nibbles), high_bits, 16);
}

// Group G of 16 rows, whose fifth bits are the words of t[0] and whose nibbles are those of t[4] to t[7].
template <std::size_t Group>
SIROCCO_INLINE Bytes64 group_5(const Bytes64* t) {
  constexpr std::uint8_t b = Group / 2;  // the byte that has its bits
  const Bytes64 bits =
      reorder_16<b, b, b, b, b + 4, b + 4, b + 4, b + 4, b + 8, b + 8, b + 8, b + 8, b + 12, b + 12, b + 12, b + 12>(
          t[0]);
  alignas(16) static constexpr std::int8_t kFifth[16] = {0, 16, 16, 0, 16, 0, 0, 0, 16};
  return bit_or(nibble_group<Group>(t + 4), look_up(kFifth, shift_words<4 * (Group % 2), 0x08040201>(bits)));
}

struct Q5_0 {
  using Block = BlockQ5_0;
  static constexpr int kLargest = 31;
  static constexpr int kZero = 16;
  static constexpr bool kWide = false;
  static constexpr bool kMinima = false;
  SIROCCO_INLINE static void unpack(const Block* w, Bytes64& low, Bytes64& high) { unpack_5(w, low, high); }
  static constexpr std::size_t kChunks = 2;
  static constexpr std::size_t chunk(std::size_t i) {
    return i == 0 ? offsetof(Block, fifth_bits) : offsetof(Block, nibbles);
  }
  template <std::size_t Group>
  SIROCCO_INLINE static Bytes64 group(const Bytes64* t) {
    return group_5<Group>(t);
  }
  SIROCCO_INLINE static void scales(const std::byte* p, Floats16& scale, Floats16& minimum) {
    scale = strided_f16<sizeof(Block)>(p);
    minimum = zero_floats();
  }
};

struct Q5_1 {
  using Block = BlockQ5_1;
  static constexpr int kLargest = 31;
  static constexpr int kZero = 0;
  static constexpr bool kWide = false;
  static constexpr bool kMinima = true;
  SIROCCO_INLINE static void unpack(const Block* w, Bytes64& low, Bytes64& high) { unpack_5(w, low, high); }
  static constexpr std::size_t kChunks = 2;
  static constexpr std::size_t chunk(std::size_t i) {
    return i == 0 ? offsetof(Block, fifth_bits) : offsetof(Block, nibbles);
  }
  template <std::size_t Group>
  SIROCCO_INLINE static Bytes64 group(const Bytes64* t) {
    return group_5<Group>(t);
  }
  SIROCCO_INLINE static void scales(const std::byte* p, Floats16& scale, Floats16& minimum) {
    strided_f16_pairs<sizeof(Block)>(p, scale, minimum);
  }
};

}  // namespace

extern const LinearFunctions linear_q5_0 = Linear32<Q5_0>::kFunctions;
extern const LinearFunctions linear_q5_1 = Linear32<Q5_1>::kFunctions;

}  // namespace sirocco::cpu::SIROCCO_ISA

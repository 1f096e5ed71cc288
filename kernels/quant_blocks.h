// The blocks of GGUF's quantised types, byte for byte as they lie in a file (little-endian). A block in a mapped file
// may start at any address: the structs are made of bytes alone (alignment 1), so that they are valid at each.
//
// Each comment gives the value of element i; nibble and bit orders are at the function that expands the block.
#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace sirocco {

static_assert(std::endian::native == std::endian::little,
              "GGUF is read in place: Sirocco needs a little-endian machine");

template <std::size_t N>
using ByteArray = std::array<std::uint8_t, N>;

struct Unaligned16 {  // an f16 (kernels/half.h) or 16 bits
  ByteArray<2> bytes;
  operator std::uint16_t() const { return std::bit_cast<std::uint16_t>(bytes); }
};

// --- 32 elements

struct BlockQ4_0 {  // scale * (q - 8)
  Unaligned16 scale;
  ByteArray<16> nibbles;
};
struct BlockQ4_1 {  // scale * q + minimum
  Unaligned16 scale;
  Unaligned16 minimum;
  ByteArray<16> nibbles;
};
struct BlockQ5_0 {  // scale * (q - 16)
  Unaligned16 scale;
  ByteArray<4> fifth_bits;
  ByteArray<16> nibbles;
};
struct BlockQ5_1 {  // scale * q + minimum
  Unaligned16 scale;
  Unaligned16 minimum;
  ByteArray<4> fifth_bits;
  ByteArray<16> nibbles;
};
struct BlockQ8_0 {  // scale * q
  Unaligned16 scale;
  std::array<std::int8_t, 32> q;
};
struct BlockIQ4_NL {  // scale * table[q]
  Unaligned16 scale;
  ByteArray<16> nibbles;
};
struct BlockMXFP4 {  // 2^(exponent - 127) * e2m1(q): OCP Microscaling formats 1.0
  std::uint8_t exponent;
  ByteArray<16> nibbles;
};

// --- 256 elements, in sub-blocks of 16 or 32 with integer scales of their own

struct BlockQ2_K {           // scale * sub_scale * q - minimum * sub_minimum, sub-blocks of 16
  ByteArray<16> sub_scales;  // of each sub-block: scale in the low nibble, minimum in the high one
  ByteArray<64> pairs;       // two bits of each element
  Unaligned16 scale;
  Unaligned16 minimum;
};
struct BlockQ3_K {  // scale * (sub_scale - 32) * (q - 4), sub-blocks of 16
  ByteArray<32> third_bits;
  ByteArray<64> pairs;
  ByteArray<12> sub_scales;  // 16 of 6 bits
  Unaligned16 scale;
};
struct BlockQ4_K {  // scale * sub_scale * q - minimum * sub_minimum, sub-blocks of 32
  Unaligned16 scale;
  Unaligned16 minimum;
  ByteArray<12> sub_scales;  // 8 scales and 8 minima of 6 bits
  ByteArray<128> nibbles;
};
struct BlockQ5_K {  // as Q4_K, with a fifth bit
  Unaligned16 scale;
  Unaligned16 minimum;
  ByteArray<12> sub_scales;
  ByteArray<32> fifth_bits;
  ByteArray<128> nibbles;
};
struct BlockQ6_K {  // scale * sub_scale * (q - 32), sub-blocks of 16
  ByteArray<128> nibbles;
  ByteArray<64> pairs;  // the upper two bits of each element
  std::array<std::int8_t, 16> sub_scales;
  Unaligned16 scale;
};
struct BlockIQ4_XS {  // scale * (sub_scale - 32) * table[q], sub-blocks of 32
  Unaligned16 scale;
  Unaligned16 scale_pairs;     // the upper two bits of the 8 sub-scales
  ByteArray<4> scale_nibbles;  // their lower four
  ByteArray<128> nibbles;
};

template <class Block, std::size_t Bytes>
inline constexpr bool kIsLaidOut = sizeof(Block) == Bytes && alignof(Block) == 1;

static_assert(kIsLaidOut<BlockQ4_0, 18>);
static_assert(kIsLaidOut<BlockQ4_1, 20>);
static_assert(kIsLaidOut<BlockQ5_0, 22>);
static_assert(kIsLaidOut<BlockQ5_1, 24>);
static_assert(kIsLaidOut<BlockQ8_0, 34>);
static_assert(kIsLaidOut<BlockIQ4_NL, 18>);
static_assert(kIsLaidOut<BlockMXFP4, 17>);
static_assert(kIsLaidOut<BlockQ2_K, 84>);
static_assert(kIsLaidOut<BlockQ3_K, 110>);
static_assert(kIsLaidOut<BlockQ4_K, 144>);
static_assert(kIsLaidOut<BlockQ5_K, 176>);
static_assert(kIsLaidOut<BlockQ6_K, 210>);
static_assert(kIsLaidOut<BlockIQ4_XS, 136>);

// An element of a row of f32, f16 or bf16, at any address.
template <class T>
inline T load_unaligned(const std::byte* bytes) {
  T value;
  std::memcpy(&value, bytes, sizeof(T));
  return value;
}

}  // namespace sirocco

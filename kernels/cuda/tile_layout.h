// What each type's tile is made of, byte by byte (tiles.h): for the repacking on the host and on the device, which are
// the same function, and for the kernels, which read what it wrote.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/cuda/tiles.h"
#include "kernels/cuda/values.h"

namespace sirocco::cuda {

// Planes of a value's bits; each stands behind the one before it, in 16-byte words of each lane.
struct Planes {
  bool bytes = false;    // all eight bits: [step 8][lane][register 4]
  bool nibbles = false;  // [pair of steps 4][lane][register], the second step in the high nibbles
  bool pairs = false;    // two bits: [half 2][lane][step 4], register r at bits 2r and 2r + 1 of each byte
  bool bits = false;     // one bit: [lane][pair of steps 4], step s and register r at bit 4 (s % 2) + r of each byte

  constexpr std::size_t size() const {
    return (bytes ? 4096U : 0U) + (nibbles ? 2048U : 0U) + (pairs ? 1024U : 0U) + (bits ? 512U : 0U);
  }
};

// Of a block type: its planes, and two sections of scales with so many bytes an output each.
template <class Block>
struct TileLayout;

template <class B, std::size_t Inputs, bool Bytes, bool Nibbles, bool Pairs, bool Bits, std::size_t First,
          std::size_t Second>
struct TileLayoutOf {
  using Block = B;
  static constexpr std::size_t kBlock = Inputs;
  static constexpr Planes kPlanes = {.bytes = Bytes, .nibbles = Nibbles, .pairs = Pairs, .bits = Bits};
  static constexpr std::size_t kFirst = First;    // bytes of the first section
  static constexpr std::size_t kSecond = Second;  // and of the second
  static constexpr std::size_t kScales = kPlanes.size();
  static constexpr std::size_t kSecondAt = kScales + kTileOutputs * First;
  static constexpr std::size_t kBytes = kSecondAt + kTileOutputs * Second;
};

// Blocks of 32: eight scales (and then eight minima) of an output.
template <>
struct TileLayout<BlockQ4_0> : TileLayoutOf<BlockQ4_0, 32, false, true, false, false, 16, 0> {};
template <>
struct TileLayout<BlockQ4_1> : TileLayoutOf<BlockQ4_1, 32, false, true, false, false, 16, 16> {};
template <>
struct TileLayout<BlockQ5_0> : TileLayoutOf<BlockQ5_0, 32, false, true, false, true, 16, 0> {};
template <>
struct TileLayout<BlockQ5_1> : TileLayoutOf<BlockQ5_1, 32, false, true, false, true, 16, 16> {};
template <>
struct TileLayout<BlockQ8_0> : TileLayoutOf<BlockQ8_0, 32, true, false, false, false, 16, 0> {};
template <>
struct TileLayout<BlockIQ4_NL> : TileLayoutOf<BlockIQ4_NL, 32, false, true, false, false, 16, 0> {};
template <>
struct TileLayout<BlockMXFP4> : TileLayoutOf<BlockMXFP4, 32, false, true, false, false, 8, 0> {};
// Blocks of 256: sub-scales (Q2_K, Q6_K), then the scale (and minimum); all of it together elsewhere.
template <>
struct TileLayout<BlockQ2_K> : TileLayoutOf<BlockQ2_K, 256, false, false, true, false, 16, 4> {};
template <>
struct TileLayout<BlockQ3_K> : TileLayoutOf<BlockQ3_K, 256, false, false, true, true, 16, 0> {};
template <>
struct TileLayout<BlockQ4_K> : TileLayoutOf<BlockQ4_K, 256, false, true, false, false, 16, 0> {};
template <>
struct TileLayout<BlockQ5_K> : TileLayoutOf<BlockQ5_K, 256, false, true, false, true, 16, 0> {};
template <>
struct TileLayout<BlockQ6_K> : TileLayoutOf<BlockQ6_K, 256, false, true, true, false, 16, 2> {};
template <>
struct TileLayout<BlockIQ4_XS> : TileLayoutOf<BlockIQ4_XS, 256, false, true, false, false, 8, 0> {};

// Byte j of an output's first section, or of its second. blocks: those of its 256 inputs.
template <class Block>
SIROCCO_HOST_DEVICE inline std::uint8_t scale_byte(const Block* blocks, bool second, unsigned j) {
  if constexpr (sizeof(Block) == sizeof(BlockMXFP4) && TileLayout<Block>::kFirst == 8 &&
                TileLayout<Block>::kBlock == 32) {
    return reinterpret_cast<const std::uint8_t*>(blocks + j)[0];
  } else if constexpr (TileLayout<Block>::kBlock == 32) {
    // Scale and minimum are the first four bytes of a block.
    return reinterpret_cast<const std::uint8_t*>(blocks + j / 2)[2 * static_cast<unsigned>(second) + j % 2];
  } else {
    const auto* const bytes = reinterpret_cast<const std::uint8_t*>(blocks);
    if constexpr (TileLayout<Block>::kSecond != 0) {
      constexpr std::size_t kAt = sizeof(Block) - TileLayout<Block>::kSecond;
      return second ? bytes[kAt + j] : bytes_of(blocks->sub_scales)[j];
    } else if constexpr (sizeof(Block) == sizeof(BlockQ3_K)) {
      return j < 14 ? bytes[sizeof(Block) - 14 + j] : std::uint8_t{0};
    } else {
      return bytes[j];  // Q4_K, Q5_K, IQ4_XS: what stands in front of the values
    }
  }
}

// Value `byte` of the word (step, register, lane), from the tile's rows of blocks; 0 beyond the matrix.
//   rows     [16] where each output's blocks of this chunk begin; null beyond the last output
//   inputs   of the 256 that exist
template <class Block>
SIROCCO_HOST_DEVICE inline unsigned value_at(const Block* const* rows, unsigned inputs, unsigned step, unsigned reg,
                                             unsigned lane, unsigned byte) {
  const unsigned output = lane / 4 + 8 * (reg % 2);
  const unsigned input = 32 * step + 16 * (reg / 2) + 4 * (lane % 4) + byte;
  constexpr auto kBlock = static_cast<unsigned>(TileLayout<Block>::kBlock);
  if (rows[output] == nullptr || input >= inputs) return 0;
  return value_of(rows[output][input / kBlock], input % kBlock);
}

// Byte `at` of a tile.
template <class Block>
SIROCCO_HOST_DEVICE inline std::uint8_t tile_byte(const Block* const* rows, unsigned inputs, unsigned at) {
  using Layout = TileLayout<Block>;
  constexpr Planes kPlanes = Layout::kPlanes;
  const auto value = [&](unsigned step, unsigned reg, unsigned lane) {
    return value_at(rows, inputs, step, reg, lane, at % 4);
  };
  const unsigned word = at / 4 % 4;
  if constexpr (kPlanes.bytes) {
    if (at < 4096) return static_cast<std::uint8_t>(value(at / 512, word, at / 16 % 32));
  }
  unsigned plane = 0;
  if constexpr (kPlanes.nibbles) {
    if (at < 2048) {
      const unsigned step = at / 512 * 2;
      const unsigned lane = at / 16 % 32;
      return static_cast<std::uint8_t>((value(step, word, lane) & 15U) | (value(step + 1, word, lane) & 15U) << 4);
    }
    plane += 2048;
  }
  constexpr unsigned kBelow = kPlanes.nibbles ? 4 : 0;  // bits in the plane before
  if constexpr (kPlanes.pairs) {
    if (at - plane < 1024) {
      const unsigned step = (at - plane) / 512 * 4 + word;
      unsigned all = 0;
      for (unsigned reg = 0; reg < 4; ++reg)
        all |= (value(step, reg, (at - plane) / 16 % 32) >> kBelow & 3U) << (2 * reg);
      return static_cast<std::uint8_t>(all);
    }
    plane += 1024;
  }
  if constexpr (kPlanes.bits) {
    if (at - plane < 512) {
      constexpr unsigned kBit = kBelow + (kPlanes.pairs ? 2 : 0);
      unsigned all = 0;
      for (unsigned i = 0; i < 8; ++i)
        all |= (value(2 * word + i / 4, i % 4, (at - plane) / 16 % 32) >> kBit & 1U) << i;
      return static_cast<std::uint8_t>(all);
    }
  }
  const bool second = at >= Layout::kSecondAt;
  const auto size = static_cast<unsigned>(second ? Layout::kSecond : Layout::kFirst);
  const unsigned of_section = at - static_cast<unsigned>(second ? Layout::kSecondAt : Layout::kScales);
  const unsigned output = of_section / size;
  const unsigned j = of_section % size;
  if (rows[output] == nullptr) return 0;
  if (Layout::kBlock == 32 && j / (Layout::kFirst / 8) >= inputs / 32) return 0;
  return scale_byte(rows[output], second, j);
}

// Calls f with a null pointer to the type's block; returns false for a type without tiles.
template <class Function>
inline bool with_block(TensorType type, Function f) {
  switch (type) {
    case TensorType::q4_0:
      return f(static_cast<const BlockQ4_0*>(nullptr)), true;
    case TensorType::q4_1:
      return f(static_cast<const BlockQ4_1*>(nullptr)), true;
    case TensorType::q5_0:
      return f(static_cast<const BlockQ5_0*>(nullptr)), true;
    case TensorType::q5_1:
      return f(static_cast<const BlockQ5_1*>(nullptr)), true;
    case TensorType::q8_0:
      return f(static_cast<const BlockQ8_0*>(nullptr)), true;
    case TensorType::iq4_nl:
      return f(static_cast<const BlockIQ4_NL*>(nullptr)), true;
    case TensorType::mxfp4:
      return f(static_cast<const BlockMXFP4*>(nullptr)), true;
    case TensorType::q2_k:
      return f(static_cast<const BlockQ2_K*>(nullptr)), true;
    case TensorType::q3_k:
      return f(static_cast<const BlockQ3_K*>(nullptr)), true;
    case TensorType::q4_k:
      return f(static_cast<const BlockQ4_K*>(nullptr)), true;
    case TensorType::q5_k:
      return f(static_cast<const BlockQ5_K*>(nullptr)), true;
    case TensorType::q6_k:
      return f(static_cast<const BlockQ6_K*>(nullptr)), true;
    case TensorType::iq4_xs:
      return f(static_cast<const BlockIQ4_XS*>(nullptr)), true;
    default:
      return false;
  }
}

}  // namespace sirocco::cuda

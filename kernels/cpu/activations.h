// Activations as the integer kernels take them: int8 with a float scale for each block, in the block size of the
// weights' type, so that the product of two blocks is an exact integer.
//
// A row, quantised, is one run of bytes (ActivationRow shows its parts). The blocks are repeated at the end until 16
// more stand there: the one-row kernels read 16 blocks at a time from any block on.
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "kernels/kernels.h"

namespace sirocco::cpu {

ActivationFormat activation_format(TensorType weights);

inline constexpr std::size_t kRepeatedBlocks = 16;

// Bytes of one quantised row, a multiple of 64. inputs: a whole number of blocks.
std::size_t activation_bytes(ActivationFormat format, std::size_t inputs);

// x[i] is about q * scale[i / block], q within -127 to 127. NaN or infinity anywhere in a block makes its scale one.
// The order of a block's q is the one in which the kernels meet the weights.
template <class Byte>  // std::byte, const or not
struct ActivationRow32 {
  template <class T>
  using Part = std::conditional_t<std::is_const_v<Byte>, const T, T>*;

  Part<std::int8_t> low;   // [blocks + 16, 16] q of elements 0 to 15
  Part<std::int8_t> high;  // [blocks + 16, 16] of elements 16 to 31
  Part<std::int32_t> sum;  // [blocks + 16] of a block's q
  Part<float> scale;       // [blocks]
  Part<float> scaled_sum;  // [blocks] scale * sum

  ActivationRow32(Byte* row, std::size_t blocks)
      : low(reinterpret_cast<Part<std::int8_t>>(row)),
        high(low + (blocks + kRepeatedBlocks) * 16),
        sum(reinterpret_cast<Part<std::int32_t>>(high + (blocks + kRepeatedBlocks) * 16)),
        scale(reinterpret_cast<Part<float>>(sum + blocks + kRepeatedBlocks)),
        scaled_sum(scale + blocks) {}
};

template <class Byte>
struct ActivationRow256 {
  template <class T>
  using Part = std::conditional_t<std::is_const_v<Byte>, const T, T>*;

  Part<std::int8_t> q;       // [blocks + 16, 8, 32]: runs of 32 elements in the order 0, 2, 1, 3, 4, 6, 5, 7
  Part<std::int16_t> sum16;  // [blocks + 16, 16] of elements 16 i to 16 i + 15
  Part<std::int16_t> sum32;  // [blocks + 16, 8]
  Part<float> scale;         // [blocks]

  ActivationRow256(Byte* row, std::size_t blocks)
      : q(reinterpret_cast<Part<std::int8_t>>(row)),
        sum16(reinterpret_cast<Part<std::int16_t>>(row + (blocks + kRepeatedBlocks) * 256)),
        sum32(sum16 + (blocks + kRepeatedBlocks) * 16),
        scale(reinterpret_cast<Part<float>>(sum32 + (blocks + kRepeatedBlocks) * 8)) {}
};

// Where run i of 32 elements stands among a block's runs in ActivationRow256::q.
constexpr std::size_t run_place(std::size_t i) {
  return i % 4 == 1 ? i + 1 : i % 4 == 2 ? i - 1 : i;
}

}  // namespace sirocco::cpu

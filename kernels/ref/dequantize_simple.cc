// The formats with one scale per 32 elements. Elements 0 to 15 are the low nibbles of the 16 bytes, elements 16 to 31
// the high ones; the fifth bits are one little-endian word, element i at bit i.
//
// The loops over the two halves are written so that gcc vectorises them: plain pointers, one stream of output each.
#include "kernels/half.h"
#include "kernels/ref/dequantize_families.h"
#include "kernels/target_clones.h"

namespace sirocco::ref {

SIROCCO_TARGET_CLONES void dequantize_q4_0(const std::byte* blocks, std::size_t count, float* y) {
  expand_each<32, BlockQ4_0>(blocks, count, y, [](const BlockQ4_0& block, float* __restrict out) {
    const float scale = f16_to_f32(block.scale);
    const std::uint8_t* nibbles = block.nibbles.data();
    for (unsigned half = 0; half < 2; ++half) {
      for (std::size_t i = 0; i < 16; ++i) {
        out[16 * half + i] = scale * static_cast<float>((nibbles[i] >> 4 * half & 15) - 8);
      }
    }
  });
}

SIROCCO_TARGET_CLONES void dequantize_q4_1(const std::byte* blocks, std::size_t count, float* y) {
  expand_each<32, BlockQ4_1>(blocks, count, y, [](const BlockQ4_1& block, float* __restrict out) {
    const float scale = f16_to_f32(block.scale);
    const float minimum = f16_to_f32(block.minimum);
    const std::uint8_t* nibbles = block.nibbles.data();
    for (unsigned half = 0; half < 2; ++half) {
      for (std::size_t i = 0; i < 16; ++i) {
        out[16 * half + i] = scale * static_cast<float>(nibbles[i] >> 4 * half & 15) + minimum;
      }
    }
  });
}

SIROCCO_TARGET_CLONES void dequantize_q5_0(const std::byte* blocks, std::size_t count, float* y) {
  expand_each<32, BlockQ5_0>(blocks, count, y, [](const BlockQ5_0& block, float* __restrict out) {
    const float scale = f16_to_f32(block.scale);
    const std::uint8_t* nibbles = block.nibbles.data();
    const auto fifth_bits = std::bit_cast<std::uint32_t>(block.fifth_bits);
    for (unsigned half = 0; half < 2; ++half) {
      for (unsigned i = 0; i < 16; ++i) {
        const int q = static_cast<int>((nibbles[i] >> 4 * half & 15U) | (fifth_bits >> (16 * half + i) & 1U) << 4);
        out[16 * half + i] = scale * static_cast<float>(q - 16);
      }
    }
  });
}

SIROCCO_TARGET_CLONES void dequantize_q5_1(const std::byte* blocks, std::size_t count, float* y) {
  expand_each<32, BlockQ5_1>(blocks, count, y, [](const BlockQ5_1& block, float* __restrict out) {
    const float scale = f16_to_f32(block.scale);
    const float minimum = f16_to_f32(block.minimum);
    const std::uint8_t* nibbles = block.nibbles.data();
    const auto fifth_bits = std::bit_cast<std::uint32_t>(block.fifth_bits);
    for (unsigned half = 0; half < 2; ++half) {
      for (unsigned i = 0; i < 16; ++i) {
        const int q = static_cast<int>((nibbles[i] >> 4 * half & 15U) | (fifth_bits >> (16 * half + i) & 1U) << 4);
        out[16 * half + i] = scale * static_cast<float>(q) + minimum;
      }
    }
  });
}

SIROCCO_TARGET_CLONES void dequantize_q8_0(const std::byte* blocks, std::size_t count, float* y) {
  expand_each<32, BlockQ8_0>(blocks, count, y, [](const BlockQ8_0& block, float* __restrict out) {
    const float scale = f16_to_f32(block.scale);
    const std::int8_t* q = block.q.data();
    for (std::size_t i = 0; i < 32; ++i) out[i] = scale * static_cast<float>(q[i]);
  });
}

}  // namespace sirocco::ref

// The formats whose four bits index a table of values. Of each 32 elements, the first 16 are the low nibbles of 16
// bytes, the others the high ones.
#include "kernels/half.h"
#include "kernels/ref/dequantize_families.h"
#include "kernels/target_clones.h"

namespace sirocco::ref {
namespace {

// The levels of the IQ4 formats, spaced for weights that are about normally distributed (llama.cpp).
constexpr std::array<float, 16> kIq4Levels = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};

// Twice the value of each e2m1 number (sign, two bits of exponent, one of mantissa), so that they are integers.
constexpr std::array<float, 16> kE2m1Doubled = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

// 2^(exponent - 128): half of the block's scale, as the values are doubled. Below 2^-126 it is a subnormal float.
inline float half_e8m0(std::uint8_t exponent) {
  return std::bit_cast<float>(exponent < 2 ? 0x00200000U << exponent : (exponent - 1U) << 23);
}

[[gnu::always_inline]] inline void expand_nibbles(const std::array<float, 16>& levels, float scale,
                                                  const std::uint8_t* nibbles, float* __restrict y) {
  const float* level = levels.data();
  for (unsigned half = 0; half < 2; ++half) {
    for (std::size_t i = 0; i < 16; ++i) y[16 * half + i] = scale * level[nibbles[i] >> 4 * half & 15];
  }
}

}  // namespace

SIROCCO_TARGET_CLONES void dequantize_iq4_nl(const std::byte* blocks, std::size_t count, float* y) {
  expand_each<32, BlockIQ4_NL>(blocks, count, y, [](const BlockIQ4_NL& block, float* __restrict out) {
    expand_nibbles(kIq4Levels, f16_to_f32(block.scale), block.nibbles.data(), out);
  });
}

SIROCCO_TARGET_CLONES void dequantize_mxfp4(const std::byte* blocks, std::size_t count, float* y) {
  expand_each<32, BlockMXFP4>(blocks, count, y, [](const BlockMXFP4& block, float* __restrict out) {
    expand_nibbles(kE2m1Doubled, half_e8m0(block.exponent), block.nibbles.data(), out);
  });
}

// Sub-scale s: nibble s of scale_nibbles (even s low, odd s high) below bits 2s and 2s + 1 of scale_pairs.
SIROCCO_TARGET_CLONES void dequantize_iq4_xs(const std::byte* blocks, std::size_t count, float* y) {
  expand_each<256, BlockIQ4_XS>(blocks, count, y, [](const BlockIQ4_XS& block, float* __restrict out) {
    const float scale = f16_to_f32(block.scale);
    for (std::size_t sub = 0; sub < 8; ++sub) {
      const int low = block.scale_nibbles[sub / 2] >> (4 * (sub % 2)) & 15;
      const int high = block.scale_pairs >> (2 * sub) & 3;
      const float sub_scale = scale * static_cast<float>((low | high << 4) - 32);
      expand_nibbles(kIq4Levels, sub_scale, block.nibbles.data() + 16 * sub, out + 32 * sub);
    }
  });
}

}  // namespace sirocco::ref

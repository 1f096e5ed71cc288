// The K formats: 256 elements with a float scale (and minimum), in sub-blocks whose integer scales are packed apart.
#include "kernels/half.h"
#include "kernels/ref/dequantize_families.h"
#include "kernels/target_clones.h"

namespace sirocco::ref {
namespace {

struct SubScales {  // of Q4_K and Q5_K, by sub-block of 32
  std::array<float, 8> scale;
  std::array<float, 8> minimum;
};

// Sub-blocks 0 to 3: the lower six bits of bytes 0-3 (scales) and 4-7 (minima). Sub-blocks 4 to 7: the low nibbles of
// bytes 8-11 (scales) and the high ones (minima), with their upper two bits at the top of bytes 0-3 and 4-7.
[[gnu::always_inline]] inline SubScales unpack_sub_scales(const ByteArray<12>& packed, float scale, float minimum) {
  SubScales result;
  for (std::size_t i = 0; i < 4; ++i) {
    result.scale[i] = scale * static_cast<float>(packed[i] & 63);
    result.minimum[i] = minimum * static_cast<float>(packed[i + 4] & 63);
    result.scale[i + 4] = scale * static_cast<float>((packed[i + 8] & 15) | (packed[i] >> 6) << 4);
    result.minimum[i + 4] = minimum * static_cast<float>((packed[i + 8] >> 4) | (packed[i + 4] >> 6) << 4);
  }
  return result;
}

// Of Q3_K: the lower four bits of sub-scale i in nibble i of bytes 0-7 (0 to 7 low, 8 to 15 high), the upper two in
// byte 8 + i mod 4 at bit 2 * (i / 4).
[[gnu::always_inline]] inline std::array<float, 16> unpack_q3_sub_scales(const ByteArray<12>& packed, float scale) {
  std::array<float, 16> result;
  for (std::size_t i = 0; i < 16; ++i) {
    const int low = (i < 8 ? packed[i] : packed[i - 8] >> 4) & 15;
    const int high = packed[8 + i % 4] >> (2 * (i / 4)) & 3;
    result[i] = scale * static_cast<float>((low | high << 4) - 32);
  }
  return result;
}

}  // namespace

// Elements 128 h + 32 s + l: bits 2s and 2s + 1 of byte 32 h + l, for half h, shift s and lane l.
SIROCCO_TARGET_CLONES void dequantize_q2_k(const std::byte* blocks, std::size_t count, float* y) {
  expand_each<256, BlockQ2_K>(blocks, count, y, [](const BlockQ2_K& block, float* __restrict out) {
    const float scale = f16_to_f32(block.scale);
    const float minimum = f16_to_f32(block.minimum);
    for (std::size_t sub = 0; sub < 16; ++sub) {
      const float sub_scale = scale * static_cast<float>(block.sub_scales[sub] & 15);
      const float sub_minimum = minimum * static_cast<float>(block.sub_scales[sub] >> 4);
      const std::uint8_t* pairs = block.pairs.data() + 32 * (sub / 8) + 16 * (sub % 2);
      const unsigned shift = 2 * (sub / 2 % 4);
      for (std::size_t i = 0; i < 16; ++i) {
        out[16 * sub + i] = sub_scale * static_cast<float>(pairs[i] >> shift & 3) - sub_minimum;
      }
    }
  });
}

// The lower two bits as in Q2_K; the third bit of element 32 g + l is bit g of byte l, for group g of 32.
SIROCCO_TARGET_CLONES void dequantize_q3_k(const std::byte* blocks, std::size_t count, float* y) {
  expand_each<256, BlockQ3_K>(blocks, count, y, [](const BlockQ3_K& block, float* __restrict out) {
    const std::array<float, 16> sub_scales = unpack_q3_sub_scales(block.sub_scales, f16_to_f32(block.scale));
    const std::uint8_t* third_bits = block.third_bits.data();
    for (unsigned group = 0; group < 8; ++group) {
      const std::uint8_t* pairs = block.pairs.data() + 32 * (group / 4);
      const unsigned shift = 2 * (group % 4);
      const float scale_1 = sub_scales[2 * group];
      const float scale_2 = sub_scales[2 * group + 1];
      for (std::size_t i = 0; i < 32; ++i) {
        const int q = (pairs[i] >> shift & 3) | (third_bits[i] >> group & 1) << 2;
        out[32 * group + i] = (i < 16 ? scale_1 : scale_2) * static_cast<float>(q - 4);
      }
    }
  });
}

// Elements 64 g to 64 g + 31 are the low nibbles of bytes 32 g to 32 g + 31, the next 32 the high ones.
SIROCCO_TARGET_CLONES void dequantize_q4_k(const std::byte* blocks, std::size_t count, float* y) {
  expand_each<256, BlockQ4_K>(blocks, count, y, [](const BlockQ4_K& block, float* __restrict out) {
    const SubScales sub = unpack_sub_scales(block.sub_scales, f16_to_f32(block.scale), f16_to_f32(block.minimum));
    for (std::size_t group = 0; group < 4; ++group) {
      const std::uint8_t* nibbles = block.nibbles.data() + 32 * group;
      float* low = out + 64 * group;
      float* high = low + 32;
      for (std::size_t i = 0; i < 32; ++i) {
        low[i] = sub.scale[2 * group] * static_cast<float>(nibbles[i] & 15) - sub.minimum[2 * group];
        high[i] = sub.scale[2 * group + 1] * static_cast<float>(nibbles[i] >> 4) - sub.minimum[2 * group + 1];
      }
    }
  });
}

// Nibbles as in Q4_K; the fifth bit of element 32 s + l is bit s of byte l, for sub-block s.
SIROCCO_TARGET_CLONES void dequantize_q5_k(const std::byte* blocks, std::size_t count, float* y) {
  expand_each<256, BlockQ5_K>(blocks, count, y, [](const BlockQ5_K& block, float* __restrict out) {
    const SubScales sub = unpack_sub_scales(block.sub_scales, f16_to_f32(block.scale), f16_to_f32(block.minimum));
    for (unsigned group = 0; group < 4; ++group) {
      const std::uint8_t* nibbles = block.nibbles.data() + 32 * group;
      float* low = out + 64 * group;
      float* high = low + 32;
      for (std::size_t i = 0; i < 32; ++i) {
        const int q_low = (nibbles[i] & 15) | (block.fifth_bits[i] >> (2 * group) & 1) << 4;
        const int q_high = (nibbles[i] >> 4) | (block.fifth_bits[i] >> (2 * group + 1) & 1) << 4;
        low[i] = sub.scale[2 * group] * static_cast<float>(q_low) - sub.minimum[2 * group];
        high[i] = sub.scale[2 * group + 1] * static_cast<float>(q_high) - sub.minimum[2 * group + 1];
      }
    }
  });
}

// Of each half of 128 elements, with its 64 bytes of nibbles and 32 of pairs: elements 0-31 and 32-63 are the low
// nibbles of bytes 0-31 and 32-63, elements 64-95 and 96-127 the high ones; the upper bits of elements 32 s + l are
// bits 2s and 2s + 1 of pair byte l.
SIROCCO_TARGET_CLONES void dequantize_q6_k(const std::byte* blocks, std::size_t count, float* y) {
  expand_each<256, BlockQ6_K>(blocks, count, y, [](const BlockQ6_K& block, float* __restrict out) {
    const float scale = f16_to_f32(block.scale);
    for (unsigned group = 0; group < 8; ++group) {  // of 32 elements, two sub-blocks
      const unsigned quarter = group % 4;
      const std::uint8_t* nibbles = block.nibbles.data() + 64 * (group / 4) + 32 * (quarter % 2);
      const std::uint8_t* pairs = block.pairs.data() + 32 * (group / 4);
      const unsigned nibble_shift = 4 * (quarter / 2);
      const unsigned pair_shift = 2 * quarter;
      const float scale_1 = scale * static_cast<float>(block.sub_scales[2 * group]);
      const float scale_2 = scale * static_cast<float>(block.sub_scales[2 * group + 1]);
      for (std::size_t i = 0; i < 32; ++i) {
        const int q = (nibbles[i] >> nibble_shift & 15) | (pairs[i] >> pair_shift & 3) << 4;
        out[32 * group + i] = (i < 16 ? scale_1 : scale_2) * static_cast<float>(q - 32);
      }
    }
  });
}

}  // namespace sirocco::ref

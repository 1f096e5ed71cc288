// Rotary position embedding (Su et al. 2021): what a model says about it.
#pragma once

#include <cstdint>

namespace sirocco {

// Which elements of a head form a rotated pair.
enum class RopeStyle : std::uint8_t {
  normal,  // (2i, 2i + 1): GGUF's llama family, whose Q and K rows the converter permuted
  neox,    // (i, i + rotated / 2): qwen, olmoe, gpt-neox
};

enum class RopeScaling : std::uint8_t { none, linear, yarn };

struct RopeParameters {
  std::uint32_t rotated = 0;  // leading elements of a head that are rotated, even
  float base = 10000;
  RopeScaling scaling = RopeScaling::none;
  float factor = 1;            // linear, yarn: context is stretched by this
  float original_context = 0;  // yarn: the length the model was trained with
  float beta_fast = 32;        // yarn: rotations over the original context above which a pair is left as it is,
  float beta_slow = 1;         //       and below which it is interpolated
  float attention_factor = 1;  // multiplies cos and sin; yarn: 0.1 ln(factor) + 1 unless the model says otherwise
};

}  // namespace sirocco

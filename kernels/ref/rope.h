// Rotary position embedding (Su et al. 2021), with the ways in which models stretch it to longer contexts.
#pragma once

#include <cstdint>
#include <span>

namespace sirocco::ref {

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

// frequencies[i]: radians per position of pair i, i in [0, rotated / 2).
// factors: [rotated / 2] f32 from the file's rope_freqs.weight (llama-3 scaling), each frequency is divided by its
// factor; empty for none. YaRN: Peng et al. 2023, section 3.2, "NTK-by-parts".
void rope_frequencies(const RopeParameters& parameters, std::span<const float> factors, std::span<float> frequencies);

// Rotates x in place.
//
//   x            [rows, heads, head_dim] f32
//   positions    [rows]
//   frequencies  [rotated / 2], from rope_frequencies
void rope(std::span<float> x, std::size_t heads, std::size_t head_dim, std::span<const std::uint32_t> positions,
          std::span<const float> frequencies, float attention_factor, RopeStyle style);

}  // namespace sirocco::ref

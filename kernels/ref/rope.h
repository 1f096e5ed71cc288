// Rotary position embedding (Su et al. 2021), with the ways in which models stretch it to longer contexts.
#pragma once

#include <cstdint>
#include <span>

#include "kernels/rope_parameters.h"

namespace sirocco::ref {

using sirocco::RopeParameters;
using sirocco::RopeScaling;
using sirocco::RopeStyle;

// frequencies[i]: radians per position of pair i, i in [0, rotated / 2).
// factors: [rotated / 2] f32 from the file's rope_freqs.weight (llama-3 scaling), each frequency is divided by its
// factor; empty for none. YaRN: Peng et al. 2023, section 3.2, "NTK-by-parts".
void rope_frequencies(const RopeParameters& parameters, std::span<const float> factors, std::span<float> frequencies);

// The cosines and sines of a position times the attention factor.
//
//   frequencies, cosines, sines  [rotated / 2]
void rope_angles(std::uint32_t position, std::span<const float> frequencies, float attention_factor,
                 std::span<float> cosines, std::span<float> sines);

// Rotates x, one row, in place.
//
//   x               [heads, head_dim] f32
//   cosines, sines  [rotated / 2], of the row's position
void rope(std::span<float> x, std::size_t head_dim, std::span<const float> cosines, std::span<const float> sines,
          RopeStyle style);

}  // namespace sirocco::ref

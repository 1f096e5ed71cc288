// What dequantize() chooses from: one function per format, one file per family of formats.
#pragma once

#include <cstddef>

#include "kernels/quant_blocks.h"

namespace sirocco::ref {

// Expands `count` consecutive blocks (floats: elements) into y.
using Dequantize = void(const std::byte* blocks, std::size_t count, float* y);

// dequantize_floats.cc
Dequantize dequantize_f32, dequantize_f16, dequantize_bf16;
// dequantize_simple.cc
Dequantize dequantize_q4_0, dequantize_q4_1, dequantize_q5_0, dequantize_q5_1, dequantize_q8_0;
// dequantize_k.cc
Dequantize dequantize_q2_k, dequantize_q3_k, dequantize_q4_k, dequantize_q5_k, dequantize_q6_k;
// dequantize_fp4.cc: four bits that index a table
Dequantize dequantize_iq4_nl, dequantize_iq4_xs, dequantize_mxfp4;

// Calls the family's expand(block, y) on each block. Inlined, so that the loops are compiled for the target of the
// function around them.
template <std::size_t BlockSize, class Block, class Expand>
[[gnu::always_inline]] inline void expand_each(const std::byte* blocks, std::size_t count, float* y, Expand expand) {
  for (std::size_t i = 0; i < count; ++i) {
    expand(*reinterpret_cast<const Block*>(blocks + i * sizeof(Block)), y + i * BlockSize);
  }
}

}  // namespace sirocco::ref

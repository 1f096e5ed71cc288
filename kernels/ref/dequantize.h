// GGUF's quantised blocks as floats: what every other kernel is judged by. One file of this family per group of
// formats; the layouts are those of the GGUF format (ggml-quants), written from its description.
//
// Pure arithmetic on the caller's memory; any thread.
#pragma once

#include <cstddef>
#include <span>

#include "kernels/tensor_type.h"

namespace sirocco::ref {

// y[i] = the value of element i of `blocks`.
//
//   blocks  row_bytes(type, y.size()) bytes, any alignment
//   y       a whole number of blocks
//   type    one with tensor_type_info(type)->computable
void dequantize(TensorType type, const std::byte* blocks, std::span<float> y);

}  // namespace sirocco::ref

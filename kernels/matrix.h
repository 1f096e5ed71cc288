// A weight matrix as it lies in the file: what every linear kernel multiplies with.
#pragma once

#include <cstddef>

#include "kernels/tensor_type.h"

namespace sirocco {

// `outputs` rows of `inputs` elements; owns nothing.
struct Matrix {
  TensorType type = TensorType::f32;
  const std::byte* data = nullptr;  // outputs * row_bytes(type, inputs) bytes
  std::size_t inputs = 0;
  std::size_t outputs = 0;
};

}  // namespace sirocco

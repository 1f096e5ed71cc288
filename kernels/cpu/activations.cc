#include "kernels/cpu/activations.h"

#include <cassert>

namespace sirocco::cpu {

ActivationFormat activation_format(TensorType weights) {
  switch (tensor_type_info(weights)->block_size) {
    case 32:
      return ActivationFormat::q8_32;
    case 256:
      return ActivationFormat::q8_256;
    default:
      return ActivationFormat::f32;
  }
}

std::size_t activation_bytes(ActivationFormat format, std::size_t inputs) {
  std::size_t bytes = inputs * sizeof(float);
  if (format == ActivationFormat::q8_32) {
    assert(inputs % 32 == 0);
    bytes = (inputs / 32 + kRepeatedBlocks) * (32 + sizeof(std::int32_t)) + inputs / 32 * 2 * sizeof(float);
  } else if (format == ActivationFormat::q8_256) {
    assert(inputs % 256 == 0);
    bytes = (inputs / 256 + kRepeatedBlocks) * (256 + 24 * sizeof(std::int16_t)) + inputs / 256 * sizeof(float);
  }
  return (bytes + 63) / 64 * 64;
}

}  // namespace sirocco::cpu

#include <cstring>

#include "kernels/half.h"
#include "kernels/ref/dequantize_families.h"
#include "kernels/target_clones.h"

namespace sirocco::ref {

void dequantize_f32(const std::byte* blocks, std::size_t count, float* y) {
  std::memcpy(y, blocks, count * sizeof(float));
}

SIROCCO_TARGET_CLONES void dequantize_f16(const std::byte* blocks, std::size_t count, float* y) {
  for (std::size_t i = 0; i < count; ++i) y[i] = f16_to_f32(load_unaligned<std::uint16_t>(blocks + 2 * i));
}

SIROCCO_TARGET_CLONES void dequantize_bf16(const std::byte* blocks, std::size_t count, float* y) {
  for (std::size_t i = 0; i < count; ++i) y[i] = bf16_to_f32(load_unaligned<std::uint16_t>(blocks + 2 * i));
}

}  // namespace sirocco::ref

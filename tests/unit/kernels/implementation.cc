#include "tests/unit/kernels/implementation.h"

#include <cstring>
#include <random>

#include "kernels/cpu/kernels.h"
#include "kernels/cpu/kernels_isa.h"
#include "kernels/half.h"
#include "kernels/quant_blocks.h"
#include "kernels/ref/kernels.h"

namespace sirocco::test {
namespace {

// Where the f16 scale and minimum of a block lie.
std::vector<std::size_t> scale_offsets(TensorType type) {
  switch (type) {
    case TensorType::q4_0:
    case TensorType::q5_0:
    case TensorType::q8_0:
    case TensorType::iq4_nl:
    case TensorType::iq4_xs:
      return {0};
    case TensorType::q4_1:
    case TensorType::q5_1:
    case TensorType::q4_k:
    case TensorType::q5_k:
      return {0, 2};
    case TensorType::q2_k:
      return {offsetof(BlockQ2_K, scale), offsetof(BlockQ2_K, minimum)};
    case TensorType::q3_k:
      return {offsetof(BlockQ3_K, scale)};
    case TensorType::q6_k:
      return {offsetof(BlockQ6_K, scale)};
    default:
      return {};
  }
}

template <class Element>
void store_all(const std::vector<Element>& elements, std::vector<std::byte>& bytes) {
  std::memcpy(bytes.data(), elements.data(), bytes.size());
}

}  // namespace

std::span<const Implementation> implementations() {
  static const std::vector<Implementation> all = [] {
    std::vector<Implementation> found = {
        {.kernels = &ref::kernels(), .sum_tolerance = 2e-6, .element_tolerance = 1e-6},
        {.kernels = &cpu::portable::kTable, .sum_tolerance = 2e-6, .element_tolerance = 1e-6}};
    for (const Kernels* table : cpu::kernels())
      found.push_back({.kernels = table, .sum_tolerance = 2e-6, .element_tolerance = 1e-6});
    return found;
  }();
  return all;
}

std::string name_of(const Implementation& implementation) {
  return std::string(implementation.kernels->backend) + "_" + std::string(implementation.kernels->isa);
}

std::vector<float> random_floats(std::size_t n, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> floats(n);
  for (float& value : floats) value = normal(random);
  return floats;
}

std::vector<std::byte> random_weights(TensorType type, std::size_t n, unsigned seed) {
  std::vector<std::byte> bytes(row_bytes(type, n));
  if (type == TensorType::f32) {
    store_all(random_floats(n, seed), bytes);
    return bytes;
  }
  if (type == TensorType::f16 || type == TensorType::bf16) {
    std::vector<std::uint16_t> elements;
    for (const float value : random_floats(n, seed)) {
      elements.push_back(type == TensorType::f16 ? f32_to_f16(value) : f32_to_bf16(value));
    }
    store_all(elements, bytes);
    return bytes;
  }

  std::mt19937 random(seed);
  for (std::byte& byte : bytes) byte = static_cast<std::byte>(random());
  const std::size_t block_bytes = tensor_type_info(type)->block_bytes;
  std::normal_distribution<float> scale(0, 0.05F);
  for (std::size_t block = 0; block < bytes.size(); block += block_bytes) {
    for (const std::size_t offset : scale_offsets(type)) {
      const std::uint16_t half = f32_to_f16(scale(random));
      std::memcpy(&bytes[block + offset], &half, sizeof(half));
    }
    if (type == TensorType::mxfp4) bytes[block] = static_cast<std::byte>(120 + random() % 10);  // 2^-7 to 2^2
  }
  return bytes;
}

std::vector<TensorType> computable_types() {
  std::vector<TensorType> types;
  for (const TensorTypeInfo& info : tensor_types()) {
    if (info.computable) types.push_back(info.type);
  }
  return types;
}

}  // namespace sirocco::test

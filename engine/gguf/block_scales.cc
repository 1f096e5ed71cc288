#include "engine/gguf/block_scales.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>

namespace sirocco {
namespace {

template <class T>
T load(const std::byte* at) {
  T value;
  std::memcpy(&value, at, sizeof value);
  return value;
}

// A float whose exponent bits are all ones is infinite or NaN.
bool f16_is_finite(const std::byte* at) {
  return (load<std::uint16_t>(at) & 0x7C00U) != 0x7C00U;
}
bool bf16_is_finite(const std::byte* at) {
  return (load<std::uint16_t>(at) & 0x7F80U) != 0x7F80U;
}
bool f32_is_finite(const std::byte* at) {
  return (load<std::uint32_t>(at) & 0x7F800000U) != 0x7F800000U;
}
bool f64_is_finite(const std::byte* at) {
  return (load<std::uint64_t>(at) >> 52 & 0x7FFU) != 0x7FFU;
}
// E8M0 (OCP MX): the value is 2^(e - 127), and 255 is NaN.
bool e8m0_is_finite(const std::byte* at) {
  return *at != std::byte{0xFF};
}
// NVFP4's four scales are FP8 E4M3 without a sign (OCP FP8): no infinity, and all ones is NaN.
bool nvfp4_is_finite(const std::byte* at) {
  return std::none_of(at, at + 4, [](std::byte scale) { return (scale & std::byte{0x7F}) == std::byte{0x7F}; });
}
// IQ1_M spreads its f16 scale over the upper four bits of the four 16-bit words at byte 48.
bool iq1_m_is_finite(const std::byte* at) {
  return (load<std::uint16_t>(at + 6) & 0x7000U) != 0x7000U || (load<std::uint16_t>(at + 4) & 0xC000U) != 0xC000U;
}

template <class IsFinite>
std::optional<std::size_t> first_failing(Bytes blocks, std::size_t block_bytes, std::size_t offset,
                                         IsFinite is_finite) {
  for (std::size_t i = 0; i < blocks.size() / block_bytes; ++i) {
    if (!is_finite(blocks.data() + i * block_bytes + offset)) return i;
  }
  return std::nullopt;
}

// Of blocks with two f16 fields, four bytes in all: a scale and a minimum, or two scales.
bool f16_pair_is_finite(const std::byte* at) {
  return f16_is_finite(at) && f16_is_finite(at + 2);
}

}  // namespace

std::optional<std::size_t> first_nonfinite_block(TensorType type, Bytes blocks) {
  const std::size_t size = tensor_type_info(type)->block_bytes;
  switch (type) {
    case TensorType::f32:
      return first_failing(blocks, size, 0, f32_is_finite);
    case TensorType::f16:
      return first_failing(blocks, size, 0, f16_is_finite);
    case TensorType::bf16:
      return first_failing(blocks, size, 0, bf16_is_finite);
    case TensorType::f64:
      return first_failing(blocks, size, 0, f64_is_finite);
    case TensorType::q4_0:
    case TensorType::q5_0:
    case TensorType::q8_0:
    case TensorType::q1_0:
    case TensorType::iq2_xxs:
    case TensorType::iq2_xs:
    case TensorType::iq3_xxs:
    case TensorType::iq1_s:
    case TensorType::iq4_nl:
    case TensorType::iq3_s:
    case TensorType::iq2_s:
    case TensorType::iq4_xs:
      return first_failing(blocks, size, 0, f16_is_finite);
    case TensorType::q4_1:
    case TensorType::q5_1:
    case TensorType::q8_1:
    case TensorType::q4_k:
    case TensorType::q5_k:
      return first_failing(blocks, size, 0, f16_pair_is_finite);
    case TensorType::q2_k:
      return first_failing(blocks, size, 80, f16_pair_is_finite);
    case TensorType::q3_k:
      return first_failing(blocks, size, 108, f16_is_finite);
    case TensorType::q6_k:
      return first_failing(blocks, size, 208, f16_is_finite);
    case TensorType::q8_k:
      return first_failing(blocks, size, 0, f32_is_finite);
    case TensorType::iq1_m:
      return first_failing(blocks, size, 48, iq1_m_is_finite);
    case TensorType::tq1_0:
      return first_failing(blocks, size, 52, f16_is_finite);
    case TensorType::tq2_0:
      return first_failing(blocks, size, 64, f16_is_finite);
    case TensorType::mxfp4:
      return first_failing(blocks, size, 0, e8m0_is_finite);
    case TensorType::nvfp4:
      return first_failing(blocks, size, 0, nvfp4_is_finite);
    case TensorType::i8:
    case TensorType::i16:
    case TensorType::i32:
    case TensorType::i64:
      return std::nullopt;
  }
  return std::nullopt;
}

}  // namespace sirocco

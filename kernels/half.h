// 16-bit floats to and from f32: IEEE binary16 (f16) and bfloat16 (bf16). Rounding is to nearest, ties to even, in
// every direction that rounds. No branches and no tables, so loops over them vectorise on any target.
//
// Bits travel as std::uint16_t: no compiler of ours has a portable 16-bit float type.
#pragma once

#include <bit>
#include <cstdint>

namespace sirocco {

namespace detail {
// condition ? a : b without a branch, which compilers make of the operator where one side is floating-point arithmetic.
[[gnu::always_inline]] inline std::uint32_t select(bool condition, std::uint32_t a, std::uint32_t b) {
  const std::uint32_t mask = 0U - static_cast<std::uint32_t>(condition);
  return (a & mask) | (b & ~mask);
}
}  // namespace detail

[[gnu::always_inline]] inline float f16_to_f32(std::uint16_t half) {
  // Shifted into place, the exponent is too small by 127 - 15. A subnormal half gets the exponent of 2^-14, which makes
  // it 2^-14 too large, and the subtraction is exact. No operand is a subnormal float: those cost x86 over 100 cycles.
  const std::uint32_t shifted = (half & 0x7FFFU) << 13;
  const std::uint32_t normal = shifted + (112U << 23);
  const std::uint32_t subnormal = std::bit_cast<std::uint32_t>(std::bit_cast<float>(shifted + (113U << 23)) - 0x1p-14F);
  const std::uint32_t special = shifted | 0x7F800000U;  // infinity, NaN

  const std::uint32_t finite = detail::select(shifted < (1U << 23), subnormal, normal);
  const std::uint32_t sign = (half & 0x8000U) << 16;
  return std::bit_cast<float>(sign | detail::select(shifted >= (31U << 23), special, finite));
}

// Above 65504 + half a step: infinity. A NaN stays one (quiet, with the upper bits of its payload).
[[gnu::always_inline]] inline std::uint16_t f32_to_f16(float value) {
  const std::uint32_t bits = std::bit_cast<std::uint32_t>(value);
  const std::uint32_t sign = (bits >> 16) & 0x8000U;
  const std::uint32_t magnitude = bits & 0x7FFFFFFFU;

  // Normal: rebias the exponent, add half a step less one, and one more if the kept part is odd. A carry out of the
  // mantissa raises the exponent, as it should.
  const std::uint32_t normal = (magnitude - (112U << 23) + 0x0FFFU + ((magnitude >> 13) & 1U)) >> 13;
  // Subnormal (below 2^-14): adding 1/2, whose last place is 2^-24, makes the addition itself round to the half's step.
  const float aligned = std::bit_cast<float>(magnitude) + 0.5F;
  const std::uint32_t subnormal = std::bit_cast<std::uint32_t>(aligned) - std::bit_cast<std::uint32_t>(0.5F);
  const std::uint32_t nan = 0x7E00U | ((magnitude >> 13) & 0x03FFU);

  const std::uint32_t finite = detail::select(magnitude < (113U << 23), subnormal, normal);
  const std::uint32_t large = detail::select(magnitude > 0x7F800000U, nan, 0x7C00U);
  return static_cast<std::uint16_t>(sign | detail::select(magnitude >= (143U << 23), large, finite));
}

[[gnu::always_inline]] inline float bf16_to_f32(std::uint16_t bf16) {
  return std::bit_cast<float>(static_cast<std::uint32_t>(bf16) << 16);
}

// A NaN stays one (quiet, with the upper bits of its payload).
[[gnu::always_inline]] inline std::uint16_t f32_to_bf16(float value) {
  const std::uint32_t bits = std::bit_cast<std::uint32_t>(value);
  const std::uint32_t rounded = (bits + 0x7FFFU + ((bits >> 16) & 1U)) >> 16;
  const std::uint32_t nan = (bits >> 16) | 0x0040U;
  return static_cast<std::uint16_t>(detail::select((bits & 0x7FFFFFFFU) > 0x7F800000U, nan, rounded));
}

}  // namespace sirocco

#include "kernels/half.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace sirocco {
namespace {

constexpr std::uint16_t kInfinity = 0x7C00;
constexpr std::uint16_t kSign = 0x8000;

// IEEE 754 binary16 by its definition.
double value_of(std::uint16_t half) {
  const int exponent = half >> 10 & 31;
  const int mantissa = half & 1023;
  const double magnitude = exponent == 0 ? std::ldexp(mantissa, -24) : std::ldexp(1024 + mantissa, exponent - 25);
  return (half & kSign) != 0 ? -magnitude : magnitude;
}

TEST(F16, EveryFiniteNumberHasItsValue) {
  for (std::uint16_t half = 0; half < kInfinity; ++half) {
    const auto negative = static_cast<std::uint16_t>(half | kSign);
    ASSERT_EQ(f16_to_f32(half), value_of(half)) << half;
    ASSERT_EQ(f16_to_f32(negative), value_of(negative)) << negative;
    ASSERT_TRUE(std::signbit(f16_to_f32(negative))) << negative;
  }
}

TEST(F16, InfinityAndNanStayWhatTheyAre) {
  EXPECT_EQ(f16_to_f32(kInfinity), std::numeric_limits<float>::infinity());
  EXPECT_EQ(f16_to_f32(kInfinity | kSign), -std::numeric_limits<float>::infinity());
  EXPECT_EQ(f32_to_f16(std::numeric_limits<float>::infinity()), kInfinity);
  EXPECT_EQ(f32_to_f16(-std::numeric_limits<float>::infinity()), kInfinity | kSign);
  for (unsigned half = kInfinity + 1; half < kSign; ++half) {
    const float value = f16_to_f32(static_cast<std::uint16_t>(half));
    ASSERT_TRUE(std::isnan(value)) << half;
    ASSERT_GT(f32_to_f16(value) & 0x7FFF, kInfinity) << half;
  }
  // A NaN whose payload lies below what a half keeps.
  EXPECT_GT(f32_to_f16(std::bit_cast<float>(0x7F800001U)), kInfinity);
}

TEST(F16, EveryNumberSurvivesTheWayThroughF32) {
  for (unsigned half = 0; half <= 0xFFFF; ++half) {
    if ((half & 0x7FFFU) > kInfinity) continue;
    ASSERT_EQ(f32_to_f16(f16_to_f32(static_cast<std::uint16_t>(half))), half);
  }
}

// Between each two neighbours: below the middle to the lower, above it to the upper, the middle to the even one. The
// neighbour of the largest number is 2^16, which stands for infinity.
TEST(F16, RoundsToNearestTiesToEven) {
  for (std::uint16_t lower = 0; lower < kInfinity; ++lower) {
    const auto upper = static_cast<std::uint16_t>(lower + 1);
    const double upper_value = upper == kInfinity ? 65536.0 : value_of(upper);
    const auto middle = static_cast<float>((value_of(lower) + upper_value) / 2);
    ASSERT_EQ(f32_to_f16(std::nextafter(middle, 0.0F)), lower) << lower;
    ASSERT_EQ(f32_to_f16(middle), lower % 2 == 0 ? lower : upper) << lower;
    ASSERT_EQ(f32_to_f16(std::nextafter(middle, 1e9F)), upper) << lower;
    ASSERT_EQ(f32_to_f16(-middle), (lower % 2 == 0 ? lower : upper) | kSign) << lower;
  }
  EXPECT_EQ(f32_to_f16(std::numeric_limits<float>::max()), kInfinity);
  EXPECT_EQ(f32_to_f16(std::numeric_limits<float>::denorm_min()), 0);
}

TEST(Bf16, EveryNumberIsTheUpperHalfOfItsF32) {
  for (unsigned bits = 0; bits <= 0xFFFF; ++bits) {
    const float value = bf16_to_f32(static_cast<std::uint16_t>(bits));
    ASSERT_EQ(std::bit_cast<std::uint32_t>(value), bits << 16);
    if (!std::isnan(value)) {
      ASSERT_EQ(f32_to_bf16(value), bits);
    } else {
      ASSERT_TRUE(std::isnan(bf16_to_f32(f32_to_bf16(value)))) << bits;
    }
  }
  EXPECT_TRUE(std::isnan(bf16_to_f32(f32_to_bf16(std::bit_cast<float>(0x7F800001U)))));
}

TEST(Bf16, RoundsToNearestTiesToEven) {
  for (std::uint32_t lower = 0; lower < 0x7F80; ++lower) {
    const std::uint32_t middle = lower << 16 | 0x8000U;
    ASSERT_EQ(f32_to_bf16(std::bit_cast<float>(middle - 1)), lower);
    ASSERT_EQ(f32_to_bf16(std::bit_cast<float>(middle)), lower + lower % 2);
    ASSERT_EQ(f32_to_bf16(std::bit_cast<float>(middle + 1)), lower + 1);
  }
}

}  // namespace
}  // namespace sirocco

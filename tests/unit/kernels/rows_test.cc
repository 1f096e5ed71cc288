// The ops that work along a row: normalisation, activation, sums.
#include <gtest/gtest.h>

#include <cmath>

#include "kernels/ref/add.h"
#include "kernels/ref/softmax.h"
#include "tests/unit/kernels/implementation.h"

namespace sirocco {
namespace {

class Rows : public testing::TestWithParam<test::Implementation> {
 protected:
  const Kernels& kernels = *GetParam().kernels;

  std::vector<float> rms_norm(const std::vector<float>& x, const std::vector<float>& weight, float epsilon) const {
    std::vector<float> y(x.size());
    for (std::size_t row = 0; row < x.size(); row += weight.size())
      kernels.rms_norm(&x[row], weight.data(), weight.size(), epsilon, &y[row]);
    return y;
  }

  void expect_near(float value, double expected) {
    EXPECT_NEAR(value, expected, GetParam().element_tolerance * std::abs(expected));
  }
};

TEST_P(Rows, RmsNormIsItsDefinitionInDoublePrecision) {
  for (const std::size_t width : {1U, 5U, 64U, 576U, 4096U}) {
    const std::vector<float> x = test::random_floats(3 * width, 11);
    const std::vector<float> weight = test::random_floats(width, 12);
    const std::vector<float> y = rms_norm(x, weight, 1e-5F);
    for (std::size_t row = 0; row < x.size(); row += width) {
      double squares = 0;
      for (std::size_t i = 0; i < width; ++i) squares += double{x[row + i]} * x[row + i];
      const double scale = 1 / std::sqrt(squares / static_cast<double>(width) + 1e-5);
      for (std::size_t i = 0; i < width; ++i) expect_near(y[row + i], x[row + i] * scale * weight[i]);
    }
  }
}

TEST_P(Rows, RmsNormMayWriteOverItsInput) {
  const std::vector<float> x = test::random_floats(96, 13);
  const std::vector<float> weight = test::random_floats(96, 14);
  std::vector<float> in_place = x;
  kernels.rms_norm(in_place.data(), weight.data(), 96, 1e-6F, in_place.data());
  EXPECT_EQ(in_place, rms_norm(x, weight, 1e-6F));
}

TEST_P(Rows, RmsNormOfZerosIsZero) {
  const std::vector<float> x(32);
  const std::vector<float> weight(32, 2.0F);
  EXPECT_EQ(rms_norm(x, weight, 1e-5F), x);
}

TEST_P(Rows, SwigluIsItsDefinitionInDoublePrecisionAndMayWriteOverTheGate) {
  std::vector<float> gate = test::random_floats(1000, 15);
  for (float& value : gate) value *= 8;
  const std::vector<float> up = test::random_floats(1000, 16);
  std::vector<float> y(1000);
  kernels.swiglu(gate.data(), up.data(), y.size(), y.data());
  for (std::size_t i = 0; i < y.size(); ++i) expect_near(y[i], gate[i] / (1 + std::exp(-double{gate[i]})) * up[i]);

  kernels.swiglu(gate.data(), up.data(), y.size(), gate.data());
  EXPECT_EQ(gate, y);
}

TEST_P(Rows, SwigluOfLargeGatesIsZeroOrTheGate) {
  const std::vector<float> gate = {-1e4F, 1e4F, 0.0F};
  const std::vector<float> up = {3.0F, 3.0F, 3.0F};
  std::vector<float> y(3);
  kernels.swiglu(gate.data(), up.data(), y.size(), y.data());
  EXPECT_EQ(y, (std::vector<float>{0.0F, 3e4F, 0.0F}));
}

TEST_P(Rows, WhatIsNoNumberStaysNone) {
  const std::vector<float> gate = {NAN, 1, INFINITY, 1, -INFINITY, NAN};
  const std::vector<float> up = {1, NAN, 1, INFINITY, 1, 0};
  std::vector<float> y(gate.size());
  kernels.swiglu(gate.data(), up.data(), y.size(), y.data());
  for (std::size_t i = 0; i < y.size(); ++i) EXPECT_FALSE(std::isfinite(y[i])) << i;
}

TEST(Add, ScaledAddsTheProductToWhatIsThere) {
  const std::vector<float> x = test::random_floats(100, 17);
  const std::vector<float> before = test::random_floats(100, 18);
  std::vector<float> y = before;
  ref::add_scaled(x, 0.75F, y);
  for (std::size_t i = 0; i < y.size(); ++i) {
    const float product = 0.75F * x[i];  // rounded before it is added
    ASSERT_EQ(y[i], before[i] + product) << i;
  }
}

TEST(Add, ScaledByOneToZeroIsTheRowItself) {
  const std::vector<float> x = test::random_floats(100, 18);
  std::vector<float> y(100);
  ref::add_scaled(x, 1, y);
  EXPECT_EQ(y, x);
}

TEST(Add, IsTheResidualSum) {
  const std::vector<float> x = test::random_floats(100, 19);
  const std::vector<float> before = test::random_floats(100, 20);
  std::vector<float> y = before;
  ref::add(x, y);
  for (std::size_t i = 0; i < y.size(); ++i) ASSERT_EQ(y[i], before[i] + x[i]);
}

INSTANTIATE_TEST_SUITE_P(Kernels, Rows,
                         testing::ValuesIn(test::implementations().begin(), test::implementations().end()),
                         [](const auto& test_case) { return test::name_of(test_case.param); });

TEST(Softmax, IsItsDefinitionInDoublePrecision) {
  const std::vector<float> x = test::random_floats(300, 21);
  double total = 0;
  for (const float value : x) total += std::exp(double{value});
  std::vector<float> y = x;
  ref::softmax(y);
  for (std::size_t i = 0; i < x.size(); ++i) {
    const double expected = std::exp(double{x[i]}) / total;
    EXPECT_NEAR(y[i], expected, 1e-6 * expected) << i;
  }
}

// Each of the small ones is lost where 1 + exp(-18) is rounded to f32; together they are 1.6 % of the sum.
TEST(Softmax, ManySmallSharesCountInTheSum) {
  std::vector<float> x(std::size_t{1} << 20, -18.0F);
  x[0] = 0;
  ref::softmax(x);
  EXPECT_NEAR(x[0], 1 / (1 + 1048575 * std::exp(-18.0)), 1e-6);
}

TEST(Softmax, LargeValuesDoNotOverflowAndOneElementIsOne) {
  std::vector<float> x = {3e38F, -3e38F, 3e38F};
  ref::softmax(x);
  EXPECT_EQ(x, (std::vector<float>{0.5F, 0.0F, 0.5F}));
  std::vector<float> one = {-123.0F};
  ref::softmax(one);
  EXPECT_EQ(one[0], 1.0F);
}

}  // namespace
}  // namespace sirocco

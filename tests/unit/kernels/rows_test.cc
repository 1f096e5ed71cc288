// The ops that work along a row: normalisation, activation, sums.
#include <gtest/gtest.h>

#include <cmath>

#include "kernels/ref/softmax.h"
#include "tests/unit/kernels/implementation.h"

namespace sirocco {
namespace {

class Rows : public testing::TestWithParam<test::Implementation> {
 protected:
  test::Implementation kernels = GetParam();

  void expect_near(float value, double expected) {
    EXPECT_NEAR(value, expected, kernels.element_tolerance * std::abs(expected));
  }
};

TEST_P(Rows, RmsNormIsItsDefinitionInDoublePrecision) {
  for (const std::size_t width : {1U, 5U, 64U, 576U, 4096U}) {
    const std::vector<float> x = test::random_floats(3 * width, 11);
    const std::vector<float> weight = test::random_floats(width, 12);
    std::vector<float> y(x.size());
    kernels.rms_norm(x, weight, 1e-5F, y);
    for (std::size_t row = 0; row < x.size(); row += width) {
      double squares = 0;
      for (std::size_t i = 0; i < width; ++i) squares += double{x[row + i]} * x[row + i];
      const double scale = 1 / std::sqrt(squares / static_cast<double>(width) + 1e-5);
      for (std::size_t i = 0; i < width; ++i) expect_near(y[row + i], x[row + i] * scale * weight[i]);
    }
  }
}

TEST_P(Rows, RmsNormMayWriteOverItsInputAndTreatsEachRowAlone) {
  const std::vector<float> x = test::random_floats(4 * 96, 13);
  const std::vector<float> weight = test::random_floats(96, 14);
  std::vector<float> y(x.size());
  kernels.rms_norm(x, weight, 1e-6F, y);
  std::vector<float> in_place = x;
  for (std::size_t row = 0; row < x.size(); row += 96) {
    kernels.rms_norm({&in_place[row], 96}, weight, 1e-6F, {&in_place[row], 96});
  }
  EXPECT_EQ(in_place, y);
}

TEST_P(Rows, RmsNormOfZerosIsZero) {
  const std::vector<float> x(32);
  const std::vector<float> weight(32, 2.0F);
  std::vector<float> y(32, 1.0F);
  kernels.rms_norm(x, weight, 1e-5F, y);
  EXPECT_EQ(y, x);
}

TEST_P(Rows, SwigluIsItsDefinitionInDoublePrecisionAndMayWriteOverTheGate) {
  std::vector<float> gate = test::random_floats(1000, 15);
  for (float& value : gate) value *= 8;
  const std::vector<float> up = test::random_floats(1000, 16);
  std::vector<float> y(1000);
  kernels.swiglu(gate, up, y);
  for (std::size_t i = 0; i < y.size(); ++i) expect_near(y[i], gate[i] / (1 + std::exp(-double{gate[i]})) * up[i]);

  kernels.swiglu(gate, up, gate);
  EXPECT_EQ(gate, y);
}

TEST_P(Rows, SwigluOfLargeGatesIsZeroOrTheGate) {
  const std::vector<float> gate = {-1e4F, 1e4F, 0.0F};
  const std::vector<float> up = {3.0F, 3.0F, 3.0F};
  std::vector<float> y(3);
  kernels.swiglu(gate, up, y);
  EXPECT_EQ(y, (std::vector<float>{0.0F, 3e4F, 0.0F}));
}

TEST_P(Rows, WeightedSumAddsInOrderOfTheExperts) {
  const std::vector<float> weights = {0.75F, 0.1F, -2.0F};
  const std::vector<float> x = test::random_floats(3 * 100, 17);
  std::vector<float> y(100, 99.0F);  // what was there before does not count
  kernels.weighted_sum(x, weights, y);
  for (std::size_t i = 0; i < y.size(); ++i) {
    float sum = weights[0] * x[i];
    sum += weights[1] * x[100 + i];
    sum += weights[2] * x[200 + i];
    ASSERT_EQ(y[i], sum) << i;
  }
}

TEST_P(Rows, WeightedSumOfOneExpertOfWeightOneIsItsOutput) {
  const std::vector<float> x = test::random_floats(100, 18);
  const std::vector<float> weights = {1.0F};
  std::vector<float> y(100);
  kernels.weighted_sum(x, weights, y);
  EXPECT_EQ(y, x);
}

TEST_P(Rows, AddIsTheResidualSum) {
  const std::vector<float> x = test::random_floats(100, 19);
  const std::vector<float> before = test::random_floats(100, 20);
  std::vector<float> y = before;
  kernels.add(x, y);
  for (std::size_t i = 0; i < y.size(); ++i) ASSERT_EQ(y[i], before[i] + x[i]);
}

INSTANTIATE_TEST_SUITE_P(Kernels, Rows,
                         testing::ValuesIn(test::implementations().begin(), test::implementations().end()));

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

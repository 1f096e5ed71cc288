#include "kernels/ref/linear.h"

#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <tuple>

#include "kernels/ref/dequantize.h"
#include "tests/unit/kernels/implementation.h"

namespace sirocco {
namespace {

struct LinearCase {
  TensorType type;
  std::size_t rows;
  std::size_t inputs;
  std::size_t outputs;
};

void PrintTo(const LinearCase& c, std::ostream* out) {
  *out << tensor_type_info(c.type)->name << " x [" << c.rows << ", " << c.inputs << "] w [" << c.outputs << ", "
       << c.inputs << "]";
}

// Every type at one, two and more blocks a row and at numbers of rows around the kernels' groups; widths that are no
// multiple of anything where the type allows them.
std::vector<LinearCase> cases() {
  std::vector<LinearCase> all;
  for (const TensorType type : test::computable_types()) {
    const std::size_t block = tensor_type_info(type)->block_size;
    for (const std::size_t rows : {1U, 3U, 4U, 9U}) {
      all.push_back({type, rows, block == 1 ? 48 : block, 5});
      all.push_back({type, rows, block == 1 ? 200 : 3 * block, 7});
    }
    if (block == 1) {
      for (const std::size_t inputs : {1U, 15U, 16U, 17U, 31U, 33U}) all.push_back({type, 6, inputs, 3});
    }
  }
  return all;
}

struct Inputs {
  explicit Inputs(const LinearCase& c)
      : bytes(test::random_weights(c.type, c.inputs * c.outputs, 1)),
        matrix{c.type, bytes.data(), c.inputs, c.outputs},
        weights(c.inputs * c.outputs),
        x(test::random_floats(c.rows * c.inputs, 2)) {
    ref::dequantize(c.type, bytes.data(), weights);
  }

  std::vector<std::byte> bytes;
  Matrix matrix;
  std::vector<float> weights;  // [outputs, inputs], dequantised
  std::vector<float> x;        // [rows, inputs]
};

class Linear : public testing::TestWithParam<std::tuple<test::Implementation, LinearCase>> {
 protected:
  // All columns of all rows in one call.
  std::vector<float> product(const Inputs& inputs) {
    std::vector<float> y(shape.rows * shape.outputs);
    std::vector<float> scratch(shape.inputs);
    kernels.linear(inputs.matrix, inputs.x, shape.rows, 0, shape.outputs, y, scratch);
    return y;
  }

  test::Implementation kernels = std::get<0>(GetParam());
  LinearCase shape = std::get<1>(GetParam());
};

TEST_P(Linear, IsTheProductInDoublePrecisionWithinTolerance) {
  const Inputs inputs(shape);
  const std::vector<float> y = product(inputs);
  for (std::size_t row = 0; row < shape.rows; ++row) {
    for (std::size_t n = 0; n < shape.outputs; ++n) {
      double sum = 0;
      double magnitudes = 0;
      for (std::size_t k = 0; k < shape.inputs; ++k) {
        const double term = double{inputs.x[row * shape.inputs + k]} * inputs.weights[n * shape.inputs + k];
        sum += term;
        magnitudes += std::abs(term);
      }
      EXPECT_NEAR(y[row * shape.outputs + n], sum, kernels.sum_tolerance * magnitudes) << row << ", " << n;
    }
  }
}

TEST_P(Linear, RowAloneEqualsRowAmongMany) {
  const Inputs inputs(shape);
  const std::vector<float> together = product(inputs);
  std::vector<float> alone(together.size());
  std::vector<float> scratch(shape.inputs);
  for (std::size_t row = 0; row < shape.rows; ++row) {
    const std::span<const float> x(&inputs.x[row * shape.inputs], shape.inputs);
    const std::span<float> y(&alone[row * shape.outputs], shape.outputs);
    kernels.linear(inputs.matrix, x, 1, 0, shape.outputs, y, scratch);
  }
  EXPECT_EQ(alone, together);
}

TEST_P(Linear, AnySplitOfTheColumnsGivesTheSameBitsAndWritesNothingElse) {
  const Inputs inputs(shape);
  const std::vector<float> whole = product(inputs);
  std::vector<float> scratch(shape.inputs);
  for (std::size_t split = 0; split <= shape.outputs; ++split) {
    std::vector<float> y(whole.size(), 12345.0F);
    kernels.linear(inputs.matrix, inputs.x, shape.rows, split, shape.outputs, y, scratch);
    for (std::size_t i = 0; i < y.size(); ++i) {
      if (i % shape.outputs < split) {
        ASSERT_EQ(y[i], 12345.0F) << "column " << i % shape.outputs << " was written";
      }
    }
    kernels.linear(inputs.matrix, inputs.x, shape.rows, 0, split, y, scratch);
    ASSERT_EQ(y, whole) << "split at " << split;
  }
}

TEST_P(Linear, EmbeddingIsTheRowsOfTheMatrix) {
  const Inputs inputs(shape);
  const std::vector<std::int32_t> tokens = {static_cast<std::int32_t>(shape.outputs) - 1, 0, 1, 1};
  std::vector<float> y(tokens.size() * shape.inputs);
  kernels.embedding(inputs.matrix, tokens, y);
  for (std::size_t i = 0; i < y.size(); ++i) {
    const auto token = static_cast<std::size_t>(tokens[i / shape.inputs]);
    ASSERT_EQ(y[i], inputs.weights[token * shape.inputs + i % shape.inputs]) << i;
  }
}

INSTANTIATE_TEST_SUITE_P(Kernels, Linear,
                         testing::Combine(testing::ValuesIn(test::implementations().begin(),
                                                            test::implementations().end()),
                                          testing::ValuesIn(cases())));

// The order that kernels/ref promises, written as plainly as possible: also what AVX2 and baseline code must agree on.
TEST(RefLinear, SumsInSixteenInterleavedPartialSumsAddedPairwise) {
  for (std::size_t inputs = 1; inputs <= 100; ++inputs) {
    const std::vector<float> x = test::random_floats(inputs, 3);
    const std::vector<float> w = test::random_floats(inputs, 4);
    float sums[16] = {};
    for (std::size_t k = 0; k < inputs; ++k) sums[k % 16] += x[k] * w[k];
    for (const std::size_t half : {8U, 4U, 2U, 1U}) {
      for (std::size_t j = 0; j < half; ++j) sums[j] += sums[j + half];
    }

    float y = 0;
    std::vector<float> scratch(inputs);
    const Matrix matrix{TensorType::f32, reinterpret_cast<const std::byte*>(w.data()), inputs, 1};
    ref::linear(matrix, x, 1, 0, 1, {&y, 1}, scratch);
    EXPECT_EQ(y, sums[0]) << inputs;
  }
}

}  // namespace
}  // namespace sirocco

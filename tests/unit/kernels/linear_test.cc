// Linear: against exact sums over the activations as the implementation quantised them; one row, many and every
// instruction set with ==.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <string>
#include <tuple>

#include "kernels/cpu/activations.h"
#include "kernels/cpu/kernels_isa.h"
#include "kernels/ref/dequantize.h"
#include "kernels/ref/embedding.h"
#include "kernels/ref/linear.h"
#include "tests/unit/kernels/implementation.h"

namespace sirocco {
namespace {

struct Problem {
  Problem(TensorType type, std::size_t row_count, std::size_t inputs, std::size_t outputs)
      : bytes(test::random_weights(type, inputs * outputs, 1)),
        matrix{type, bytes.data(), inputs, outputs},
        rows(row_count),
        x(test::random_floats(rows * inputs, 2)) {}

  std::vector<std::byte> bytes;
  Matrix matrix;
  std::size_t rows;
  std::vector<float> x;  // [rows, inputs]
};

// The activations of all rows in the kernels' format.
struct Quantised {
  Quantised(const Kernels& kernels, const Problem& p)
      : format(kernels.activation_format(p.matrix.type)),
        row_bytes(kernels.activation_bytes(format, p.matrix.inputs)),
        memory(p.rows * row_bytes) {
    for (std::size_t row = 0; row < p.rows; ++row) {
      const float* x = p.x.data() + row * p.matrix.inputs;
      std::byte* to = memory.data() + row * row_bytes;
      if (format == ActivationFormat::f32) {
        std::copy_n(x, p.matrix.inputs, reinterpret_cast<float*>(to));
      } else {
        kernels.quantise(format, x, p.matrix.inputs, to);
      }
      pointers.push_back(to);
    }
  }
  ActivationFormat format;
  std::size_t row_bytes;
  test::Aligned<std::byte> memory;
  std::vector<const std::byte*> pointers;
};

// Each row alone or in groups, through the kernel that streams the weights.
std::vector<float> by_rows(const Kernels& kernels, const Problem& p, std::size_t group) {
  const Quantised activations(kernels, p);
  std::vector<float> y(p.rows * p.matrix.outputs);
  test::Aligned<float> scratch(row_scratch_floats(p.matrix.inputs));
  for (std::size_t row = 0; row < p.rows; row += group) {
    const std::size_t count = std::min(group, p.rows - row);
    kernels.linear(p.matrix.type)
        .rows(p.matrix, &activations.pointers[row], count, 0, p.matrix.outputs, &y[row * p.matrix.outputs],
              p.matrix.outputs, scratch.data());
  }
  return y;
}

// All rows together, through the kernel that expands panels.
std::vector<float> by_panels(const Kernels& kernels, const Problem& p) {
  const LinearFunctions& linear = kernels.linear(p.matrix.type);
  const Quantised activations(kernels, p);
  const std::size_t inputs = p.matrix.inputs;
  test::Aligned<std::byte> tiles((p.rows / kernels.tile_rows + 1) * linear.tile_bytes(kernels.tile_rows, inputs));
  std::byte* tile = tiles.data();
  for (std::size_t row = 0; row < p.rows; row += kernels.tile_rows) {
    const std::size_t count = std::min(kernels.tile_rows, p.rows - row);
    linear.pack(&activations.pointers[row], count, inputs, tile);
    tile += linear.tile_bytes(count, inputs);
  }
  std::vector<float> y(p.rows * p.matrix.outputs);
  test::Aligned<std::byte> scratch(panel_scratch_bytes(p.rows));
  const std::size_t outputs = kernels.panel_outputs * (1 + p.rows % 3);  // one panel or several
  for (std::size_t first = 0; first < p.matrix.outputs; first += outputs)
    linear.panel(p.matrix, tiles.data(), p.rows, first, std::min(first + outputs, p.matrix.outputs), y.data(),
                 p.matrix.outputs, scratch.data());
  return y;
}

// What the quantised activations stand for.
std::vector<double> values_of(const Problem& p, ActivationFormat format, const std::byte* row) {
  const std::size_t inputs = p.matrix.inputs;
  std::vector<double> x(inputs);
  for (std::size_t k = 0; k < inputs; ++k) {
    if (format == ActivationFormat::f32) {
      x[k] = reinterpret_cast<const float*>(row)[k];
    } else if (format == ActivationFormat::q8_32) {
      const cpu::ActivationRow32<const std::byte> parts(row, inputs / 32);
      // A name for it: gcc 12 with UBSan takes the wrong one of (low or high)[i].
      const std::int8_t* const half = k % 32 < 16 ? parts.low : parts.high;
      x[k] = double{parts.scale[k / 32]} * half[k / 32 * 16 + k % 16];
    } else {
      const cpu::ActivationRow256<const std::byte> parts(row, inputs / 256);
      x[k] = double{parts.scale[k / 256]} * parts.q[k / 256 * 256 + 32 * cpu::run_place(k % 256 / 32) + k % 32];
    }
  }
  return x;
}

class Linear : public testing::TestWithParam<std::tuple<test::Implementation, TensorType>> {
 protected:
  const test::Implementation implementation = std::get<0>(GetParam());
  const Kernels& kernels = *implementation.kernels;
  TensorType type = std::get<1>(GetParam());
  std::size_t block = tensor_type_info(type)->block_size;
  // Widths of few blocks and of more than 16; for floats also some that are no multiple of anything.
  std::vector<std::size_t> widths() const {
    if (block == 1) return {1, 15, 16, 17, 31, 33, 48, 200};
    return {block, 2 * block, 3 * block, 15 * block, 16 * block, 18 * block, 37 * block};
  }
};

TEST_P(Linear, IsTheExactSumOverTheQuantisedValues) {
  for (const std::size_t inputs : widths()) {
    const Problem p(type, 3, inputs, 21);
    const Quantised activations(kernels, p);
    const std::vector<float> y = by_rows(kernels, p, 1);
    std::vector<float> weights(inputs * p.matrix.outputs);
    ref::dequantize(type, p.bytes.data(), weights);
    for (std::size_t row = 0; row < p.rows; ++row) {
      const std::vector<double> x = values_of(p, activations.format, activations.pointers[row]);
      for (std::size_t n = 0; n < p.matrix.outputs; ++n) {
        double sum = 0;
        double magnitudes = 0;
        for (std::size_t k = 0; k < inputs; ++k) {
          sum += x[k] * weights[n * inputs + k];
          magnitudes += std::abs(x[k] * weights[n * inputs + k]);
        }
        ASSERT_NEAR(y[row * p.matrix.outputs + n], sum, implementation.sum_tolerance * magnitudes)
            << inputs << ": " << row << ", " << n;
      }
    }
  }
}

TEST_P(Linear, OneRowAndManyAndEveryGroupGiveTheSameBits) {
  for (const std::size_t inputs : widths()) {
    for (const std::size_t outputs : {1U, 16U, 37U}) {
      const Problem p(type, 30, inputs, outputs);
      const std::vector<float> alone = by_rows(kernels, p, 1);
      for (const std::size_t group : {2U, 3U, 4U}) ASSERT_EQ(by_rows(kernels, p, group), alone) << group;
      if (kernels.linear(type).panel != nullptr) {
        ASSERT_EQ(by_panels(kernels, p), alone) << inputs << " -> " << outputs;
      }
    }
  }
}

TEST_P(Linear, EveryInstructionSetGivesTheSameBits) {
  if (kernels.backend != "cpu") GTEST_SKIP() << "only the tables of kernels/cpu promise it";
  for (const std::size_t inputs : widths()) {
    const Problem p(type, 5, inputs, 19);
    ASSERT_EQ(by_rows(kernels, p, 1), by_rows(cpu::portable::kTable, p, 1)) << inputs;
  }
}

TEST_P(Linear, AnySplitOfTheOutputsGivesTheSameBits) {
  const Problem p(type, 1, widths().back(), 37);
  const Quantised activations(kernels, p);
  const std::vector<float> whole = by_rows(kernels, p, 1);
  test::Aligned<float> scratch(row_scratch_floats(p.matrix.inputs));
  for (std::size_t split = 0; split <= p.matrix.outputs; ++split) {
    std::vector<float> y(whole.size(), 12345.0F);
    const auto& linear = kernels.linear(type);
    linear.rows(p.matrix, activations.pointers.data(), 1, split, p.matrix.outputs, y.data(), y.size(), scratch.data());
    for (std::size_t n = 0; n < split; ++n) ASSERT_EQ(y[n], 12345.0F) << "output " << n << " was written";
    linear.rows(p.matrix, activations.pointers.data(), 1, 0, split, y.data(), y.size(), scratch.data());
    ASSERT_EQ(y, whole) << "split at " << split;
  }
}

TEST_P(Linear, WhatIsNoNumberStaysNone) {
  if (kernels.linear(type).panel == nullptr) GTEST_SKIP() << "floats multiply what they are given";
  for (const float spoiler : {std::nanf(""), INFINITY, -INFINITY}) {
    Problem p(type, 30, 3 * block, 16);
    p.x[7 * p.matrix.inputs + block + 5] = spoiler;
    const std::vector<float> alone = by_rows(kernels, p, 1);
    const std::vector<float> together = by_panels(kernels, p);
    for (std::size_t i = 0; i < alone.size(); ++i) {
      EXPECT_EQ(std::isfinite(alone[i]), i / 16 != 7);
      EXPECT_EQ(std::isfinite(together[i]), i / 16 != 7);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Kernels, Linear,
                         testing::Combine(testing::ValuesIn(test::implementations().begin(),
                                                            test::implementations().end()),
                                          testing::ValuesIn(test::computable_types())),
                         [](const auto& test_case) {
                           std::string name(tensor_type_info(std::get<1>(test_case.param))->name);
                           return test::name_of(std::get<0>(test_case.param)) + "_" + name;
                         });

class Embedding : public testing::TestWithParam<TensorType> {};

TEST_P(Embedding, IsTheRowsOfTheMatrix) {
  const std::size_t inputs = 3 * tensor_type_info(GetParam())->block_size;
  const Problem p(GetParam(), 1, inputs, 5);
  std::vector<float> weights(inputs * p.matrix.outputs);
  ref::dequantize(p.matrix.type, p.bytes.data(), weights);
  const std::vector<std::int32_t> tokens = {4, 0, 1, 1};
  std::vector<float> y(tokens.size() * inputs);
  ref::embedding(p.matrix, tokens, y);
  for (std::size_t i = 0; i < y.size(); ++i) {
    const auto token = static_cast<std::size_t>(tokens[i / inputs]);
    ASSERT_EQ(y[i], weights[token * inputs + i % inputs]) << i;
  }
}

INSTANTIATE_TEST_SUITE_P(Types, Embedding, testing::ValuesIn(test::computable_types()),
                         [](const auto& test_case) { return std::string(tensor_type_info(test_case.param)->name); });

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
    const float* const row = x.data();
    const Matrix matrix{TensorType::f32, reinterpret_cast<const std::byte*>(w.data()), inputs, 1};
    ref::linear(matrix, {&row, 1}, 0, 1, &y, 1, scratch);
    EXPECT_EQ(y, sums[0]) << inputs;
  }
}

}  // namespace
}  // namespace sirocco

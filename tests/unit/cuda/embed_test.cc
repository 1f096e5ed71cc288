#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "kernels/cuda/kernels.h"
#include "kernels/ref/embedding.h"
#include "kernels/ref/rope.h"
#include "tests/unit/cuda/device.h"

namespace sirocco::cuda {
namespace {

struct EmbedCase {
  TensorType type;
  std::uint32_t width;
};

class Embed : public testing::TestWithParam<EmbedCase> {};

// Any bytes are a row: scales of NaN and infinity are among them.
TEST_P(Embed, RowsAreThoseOfTheReferenceBitForBit) {
  SIROCCO_NEEDS_DEVICE();
  const auto [type, width] = GetParam();
  constexpr std::uint32_t kVocabulary = 7;
  const std::vector<std::int32_t> tokens = {6, 0, 3, 3};
  const auto rows = static_cast<std::uint32_t>(tokens.size());
  std::mt19937 random(width);
  std::vector<std::byte> table(kVocabulary * row_bytes(type, width));
  for (std::byte& byte : table) byte = static_cast<std::byte>(random());
  std::vector<float> expected(rows * width);
  ref::embedding({type, table.data(), width, kVocabulary}, tokens, expected);

  const test::Stream stream;
  const test::DeviceBuffer<std::byte> device_table(table);
  const test::DeviceBuffer<std::int32_t> device_tokens(tokens);
  const test::DeviceBuffer<std::uint32_t> positions(std::vector<std::uint32_t>(rows, 0));
  const test::DeviceBuffer<float> x(expected.size());
  EmbedArguments arguments;
  arguments.rows = rows;
  arguments.width = width;
  arguments.type = type;
  arguments.embedding = device_table.data();
  arguments.x = x.data();
  arguments.step.tokens = device_tokens.data();
  arguments.step.positions = positions.data();
  ASSERT_EQ(embed(arguments, stream), cudaSuccess);
  const std::vector<float> actual = x.download();
  for (std::size_t i = 0; i < expected.size(); ++i) {
    if (std::isnan(expected[i])) {
      ASSERT_TRUE(std::isnan(actual[i])) << i;
    } else {
      ASSERT_EQ(actual[i], expected[i]) << i;
    }
  }
}

std::vector<EmbedCase> embed_cases() {
  std::vector<EmbedCase> cases;
  for (const TensorTypeInfo& info : tensor_types())
    if (info.computable) cases.push_back({info.type, info.block_size == 1 ? 33 : 3 * info.block_size});
  return cases;
}

INSTANTIATE_TEST_SUITE_P(Types, Embed, testing::ValuesIn(embed_cases()),
                         [](const auto& instance) { return std::string(tensor_type_info(instance.param.type)->name); });

// More pairs than elements of a row: both are covered. A tolerance of two units in the last place of 1: that is how
// exact CUDA's cosf and sinf are.
TEST(EmbedAngles, AreThoseOfThePositionsTimesTheFactor) {
  SIROCCO_NEEDS_DEVICE();
  constexpr std::uint32_t kPairs = 300;
  constexpr float kFactor = 1.25F;
  const std::vector<std::uint32_t> positions = {0, 1, 77, 131071};
  const auto rows = static_cast<std::uint32_t>(positions.size());
  std::vector<float> frequencies(kPairs);
  ref::rope_frequencies({.rotated = 2 * kPairs}, {}, frequencies);

  const test::Stream stream;
  const test::DeviceBuffer<float> table(std::vector<float>(8, 1));
  const test::DeviceBuffer<std::int32_t> tokens(std::vector<std::int32_t>(rows, 0));
  const test::DeviceBuffer<std::uint32_t> device_positions(positions);
  const test::DeviceBuffer<float> device_frequencies(frequencies);
  const test::DeviceBuffer<float> x(rows * 8);
  const test::DeviceBuffer<float> cosines(rows * kPairs);
  const test::DeviceBuffer<float> sines(rows * kPairs);
  EmbedArguments arguments;
  arguments.rows = rows;
  arguments.width = 8;
  arguments.embedding = reinterpret_cast<const std::byte*>(table.data());
  arguments.frequencies = device_frequencies.data();
  arguments.pairs = kPairs;
  arguments.attention_factor = kFactor;
  arguments.x = x.data();
  arguments.cosines = cosines.data();
  arguments.sines = sines.data();
  arguments.step.tokens = tokens.data();
  arguments.step.positions = device_positions.data();
  ASSERT_EQ(embed(arguments, stream), cudaSuccess);
  const std::vector<float> actual_cosines = cosines.download();
  const std::vector<float> actual_sines = sines.download();
  std::vector<float> expected_cosines(kPairs);
  std::vector<float> expected_sines(kPairs);
  for (std::size_t row = 0; row < rows; ++row) {
    ref::rope_angles(positions[row], frequencies, kFactor, expected_cosines, expected_sines);
    for (std::size_t i = 0; i < kPairs; ++i) {
      ASSERT_NEAR(actual_cosines[row * kPairs + i], expected_cosines[i], 2.5e-7) << row << ", " << i;
      ASSERT_NEAR(actual_sines[row * kPairs + i], expected_sines[i], 2.5e-7) << row << ", " << i;
    }
  }
}

TEST(EmbedArgumentsTest, ATypeThatIsNotComputedOnIsRefused) {
  EmbedArguments arguments;
  arguments.rows = 1;
  arguments.width = 256;
  arguments.type = TensorType::iq2_s;
  EXPECT_EQ(embed(arguments, nullptr), cudaErrorInvalidValue);
}

}  // namespace
}  // namespace sirocco::cuda

#include "engine/gguf/random_blocks.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "engine/gguf/block_scales.h"
#include "kernels/ref/dequantize.h"

namespace sirocco {
namespace {

std::vector<std::byte> random_blocks(TensorType type, std::size_t count, float deviation, std::uint64_t seed) {
  std::vector<std::byte> blocks(count * tensor_type_info(type)->block_bytes);
  SplitMix64 random(seed);
  fill_random_blocks(type, deviation, random, blocks);
  return blocks;
}

TEST(RandomBlocks, ValuesOfEveryComputableTypeAreFiniteCentredAndScaled) {
  constexpr std::size_t kValues = 1 << 18;
  for (const TensorTypeInfo& info : tensor_types()) {
    if (!info.computable) continue;
    for (const float deviation : {0.0156F, 1.0F}) {  // of 4096 inputs, and of an embedding
      const auto blocks = random_blocks(info.type, kValues / info.block_size, deviation, 7);
      ASSERT_EQ(first_nonfinite_block(info.type, blocks), std::nullopt) << info.name;
      std::vector<float> values(kValues);
      ref::dequantize(info.type, blocks.data(), values);
      double sum = 0;
      double squares = 0;
      for (const float value : values) {
        sum += double{value};
        squares += double{value} * double{value};
      }
      const double mean = sum / kValues;
      const double found = std::sqrt(squares / kValues - mean * mean);
      // MXFP4's scales are powers of two: the nearest is up to half a power away.
      const double tolerance = info.type == TensorType::mxfp4 ? 0.42 : 0.05;
      EXPECT_NEAR(found / double{deviation}, 1, tolerance) << info.name;
      // Q4_0's quants run from -8 to 7, so that half a quant is left.
      EXPECT_LT(std::abs(mean), 0.12 * double{deviation}) << info.name;
    }
  }
}

TEST(RandomBlocks, TheSeedDecides) {
  EXPECT_EQ(random_blocks(TensorType::q4_k, 9, 1, 3), random_blocks(TensorType::q4_k, 9, 1, 3));
  EXPECT_NE(random_blocks(TensorType::q4_k, 9, 1, 3), random_blocks(TensorType::q4_k, 9, 1, 4));
}

// The numbers of the reference implementation (prng.di.unimi.it/splitmix64.c) for the seed 1234567.
TEST(SplitMix64, IsTheReferenceGenerator) {
  SplitMix64 random(1234567);
  for (const std::uint64_t expected :
       {6457827717110365317U, 3203168211198807973U, 9817491932198370423U, 4593380528125082431U, 16408922859458223821U})
    EXPECT_EQ(random.next(), expected);
}

TEST(SplitMix64, RangesAreKept) {
  SplitMix64 random(1);
  std::set<std::uint64_t> seen;
  for (int i = 0; i < 1000; ++i) {
    seen.insert(random.below(7));
    const float uniform = random.uniform();
    EXPECT_TRUE(uniform >= -1 && uniform < 1) << uniform;
  }
  EXPECT_EQ(seen, (std::set<std::uint64_t>{0, 1, 2, 3, 4, 5, 6}));
}

}  // namespace
}  // namespace sirocco

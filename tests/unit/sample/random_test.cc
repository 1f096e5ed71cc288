#include "engine/sample/random.h"

#include <gtest/gtest.h>

namespace sirocco {
namespace {

// The first outputs of the reference implementation (prng.di.unimi.it/splitmix64.c) for this seed.
TEST(Random, StreamIsThatOfSplitMix64) {
  EXPECT_EQ(split_mix_64(1234567, 0), 6457827717110365317U);
  EXPECT_EQ(split_mix_64(1234567, 1), 3203168211198807973U);
  EXPECT_EQ(split_mix_64(1234567, 2), 9817491932198370423U);
  EXPECT_EQ(split_mix_64(1234567, 3), 4593380528125082431U);
  EXPECT_EQ(split_mix_64(1234567, 4), 16408922859458223821U);
}

TEST(Random, UniformIsTheTop53BitsAndBelowOne) {
  EXPECT_EQ(uniform(1234567, 0), 6457827717110365317U / 2048 * 0x1p-53);
  for (std::uint64_t n = 0; n < 100'000; ++n) ASSERT_LT(uniform(7, n), 1.0);
}

}  // namespace
}  // namespace sirocco

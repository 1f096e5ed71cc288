#include "engine/recent_speed.h"

#include <gtest/gtest.h>

namespace sirocco {
namespace {

TEST(RecentSpeed, IsThatOfTheLastSecondsOfWorkNotOfTheWholeLife) {
  RecentSpeed speed;
  EXPECT_EQ(speed.tokens_per_s(), 0);
  for (int i = 0; i < 1000; ++i) speed.add(100, 1);
  EXPECT_NEAR(speed.tokens_per_s(), 100, 1e-9);
  for (int i = 0; i < 60; ++i) speed.add(10, 1);
  EXPECT_NEAR(speed.tokens_per_s(), 10, 1);
}

TEST(RecentSpeed, OneStepIsEnoughHoweverLong) {
  RecentSpeed speed;
  speed.add(64, 128);
  EXPECT_DOUBLE_EQ(speed.tokens_per_s(), 0.5);
  speed.add(0, 0);  // a step without rows of this kind
  EXPECT_DOUBLE_EQ(speed.tokens_per_s(), 0.5);
}

}  // namespace
}  // namespace sirocco

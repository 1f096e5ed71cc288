#include "daemon/slow_steps.h"

#include <gtest/gtest.h>

namespace sirocco::daemon {
namespace {

using namespace std::chrono_literals;

StepFacts step(double seconds, double expected) {
  return {.step = 100,
          .seconds = seconds,
          .expected_seconds = expected,
          .sequences = 2,
          .decode_rows = 1,
          .prompt_rows = 64,
          .experts_read = 7,
          .bytes_read = 4096,
          .disk_seconds = 0.3,
          .major_faults = 8,
          .preemptions = 9};
}

TEST(SlowSteps, OneThatTakesLongerThanExpectedIsLoggedWithItsReasons) {
  SlowSteps slow;
  slow.set(4, 0);
  EXPECT_FALSE(slow.line(step(0.39, 0.1), {}));
  EXPECT_EQ(
      slow.line(step(0.5, 0.1), {}),
      "slow step=100 ms=500 expected_ms=100 sequences=2 decode_rows=1 prompt_rows=64 experts_read=7 read_bytes=4096 "
      "disk_wait_ms=300 major_faults=8 preemptions=9");
}

TEST(SlowSteps, WhatNobodyNoticesOrNothingIsKnownOfIsNot) {
  SlowSteps slow;
  slow.set(4, 0);
  EXPECT_FALSE(slow.line(step(0.05, 0.001), {}));
  StepFacts early = step(5, 0.1);
  early.step = 32;
  EXPECT_FALSE(slow.line(early, {}));
  slow.set(0, 0);
  EXPECT_FALSE(slow.line(step(500, 0.1), {}));
}

TEST(SlowSteps, MillisecondsCountWhateverIsExpected) {
  SlowSteps slow;
  slow.set(0, 80);
  EXPECT_FALSE(slow.line(step(0.079, 0), {}));
  StepFacts first = step(0.081, 1);
  first.step = 1;
  EXPECT_TRUE(slow.line(first, {}));
}

TEST(SlowSteps, AtMostOneLineInTenSecondsSaysHowManyWereLeftOut) {
  SlowSteps slow;
  slow.set(4, 0);
  const SlowSteps::Time start{};
  EXPECT_TRUE(slow.line(step(1, 0.1), start));
  for (int i = 0; i < 5; ++i) EXPECT_FALSE(slow.line(step(1, 0.1), start + 9s));
  const auto next = slow.line(step(1, 0.1), start + 10s);
  ASSERT_TRUE(next);
  EXPECT_NE(next->find("left_out=5"), std::string::npos) << *next;
  EXPECT_EQ(slow.line(step(1, 0.1), start + 20s).value().find("left_out"), std::string::npos);
}

}  // namespace
}  // namespace sirocco::daemon

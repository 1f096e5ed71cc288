#include "daemon/heat.h"

#include <gtest/gtest.h>

#include "tests/support/fake_root.h"

namespace sirocco::daemon {
namespace {

using namespace std::chrono_literals;

std::vector<ThermalZone> zones(double cpu, double gpu) {
  return {{.name = "board", .celsius = 80, .slows_at = {}},
          {.name = "cpu", .celsius = cpu, .slows_at = 90},
          {.name = "gpu", .celsius = gpu, .slows_at = 85}};
}

TEST(Heat, TheZoneThatIsClosestToItsLimitIsShown) {
  EXPECT_EQ(judge_heat({}, zones(70, 60), {}).zone, "cpu");
  EXPECT_EQ(judge_heat({}, zones(70, 66), {}).zone, "gpu");
  EXPECT_EQ(judge_heat({}, zones(70, 66), {}).limit, 85);
}

TEST(Heat, WithoutAnyLimitTheWarmestIsShownAndNothingIsHot) {
  const std::vector<ThermalZone> unlimited = {{.name = "a", .celsius = 40, .slows_at = {}},
                                              {.name = "b", .celsius = 200, .slows_at = {}},
                                              {.name = "c", .celsius = 50, .slows_at = {}}};
  const Heat heat = judge_heat({}, unlimited, {});
  EXPECT_EQ(heat.zone, "b");
  EXPECT_FALSE(heat.hot);
  EXPECT_FALSE(judge_heat({}, {}, {}).hot);
}

TEST(Heat, ItIsHotFromTheLimitUntilFiveDegreesBelow) {
  Heat heat;
  const auto hot_at = [&](double cpu) { return (heat = judge_heat(heat, zones(cpu, 20), {})).hot; };
  EXPECT_FALSE(hot_at(89.9));
  EXPECT_TRUE(hot_at(90));
  EXPECT_TRUE(hot_at(88));
  EXPECT_TRUE(hot_at(85));
  EXPECT_FALSE(hot_at(84.9));
  EXPECT_FALSE(hot_at(89));
}

TEST(Heat, AConfiguredLimitHoldsForEveryZone) {
  const PowerConfig config = {.max_duty = 1, .hot_duty = 0.5, .hot_celsius = 75};
  const Heat heat = judge_heat({}, zones(70, 60), config);
  EXPECT_TRUE(heat.hot);
  EXPECT_EQ(heat.zone, "board");
}

TEST(Heat, ItLimitsTheDutyAndSaysWhyInTheSameWordsUntilItIsOver) {
  const PowerConfig config = {.max_duty = 0.9F, .hot_duty = 0.25F, .hot_celsius = {}};
  EXPECT_EQ(pace_of(judge_heat({}, zones(50, 50), config), config).duty, 0.9F);
  EXPECT_TRUE(pace_of(judge_heat({}, zones(50, 50), config), config).reason.empty());
  const Heat first = judge_heat({}, zones(50, 86), config);
  const Pace pace = pace_of(first, config);
  EXPECT_EQ(pace.duty, 0.25F);
  EXPECT_EQ(pace.reason,
            "the machine is hot (gpu has reached 86 °C, its limit is 85 °C): steps take at most 25 % of the time "
            "(power.hot_duty); cool it");
  const Pace later = pace_of(judge_heat(first, zones(95, 83), config), config);
  EXPECT_EQ(later.reason, pace.reason);
  EXPECT_EQ(later.zone, "cpu");
  EXPECT_EQ(later.celsius, 95);
}

TEST(Heat, AHotMachineNeverGetsMoreThanTheConfiguredShare) {
  const PowerConfig config = {.max_duty = 0.3F, .hot_duty = 0.5F, .hot_celsius = {}};
  EXPECT_EQ(pace_of(judge_heat({}, zones(99, 99), config), config).duty, 0.3F);
}

class HeatWatchTest : public testing::Test {
 protected:
  HeatWatchTest() { write("40000"); }
  void write(const char* text) const { sys_.write("class/thermal/thermal_zone0/temp", text); }

  const test::FakeRoot sys_;
  HeatWatch watch{sys_.path()};
  const std::chrono::steady_clock::time_point now{100s};
  const PowerConfig config = {.max_duty = 1, .hot_duty = 0.5, .hot_celsius = 60};
};

TEST_F(HeatWatchTest, WhileThereAreRequestsItLooksEveryTwoSecondsOnly) {
  EXPECT_EQ(watch.pace(config, true, now).celsius, 40);
  EXPECT_EQ(watch.until_due(true, now + 500ms), 1500ms);
  write("70000");
  EXPECT_EQ(watch.pace(config, true, now + 1999ms).duty, 1);
  EXPECT_EQ(watch.pace(config, true, now + 2s).duty, 0.5);
  write("50000");
  EXPECT_EQ(watch.pace(config, true, now + 4s).duty, 1);
}

TEST_F(HeatWatchTest, WithoutRequestsItSleepsForAMinuteAndTheFirstOneFindsTheTemperatureOfNow) {
  EXPECT_EQ(watch.pace(config, false, now).celsius, 40);
  EXPECT_EQ(watch.until_due(false, now), 60s);
  write("70000");
  EXPECT_EQ(watch.pace(config, false, now + 59s).celsius, 40);
  EXPECT_EQ(watch.until_due(true, now + 59s), 0s);
  EXPECT_EQ(watch.pace(config, true, now + 59s).duty, 0.5);
  EXPECT_EQ(watch.pace(config, false, now + 119s).duty, 0.5);
}

TEST(HeatWatch, AMachineWithoutZonesHasNothingToLookAt) {
  const test::FakeRoot sys;
  HeatWatch watch(sys.path());
  EXPECT_EQ(watch.pace({}, true, {}).duty, 1);
  EXPECT_LT(watch.until_due(true, {}), 0ms);
  EXPECT_LT(watch.until_due(false, {}), 0ms);
}

}  // namespace
}  // namespace sirocco::daemon

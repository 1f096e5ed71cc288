#include "engine/base/thermal.h"

#include <gtest/gtest.h>

#include "tests/support/fake_root.h"

namespace sirocco {
namespace {

class Thermal : public testing::Test {
 protected:
  void write(int zone, const std::string& file, const std::string& text) {
    sys_.write("class/thermal/thermal_zone" + std::to_string(zone) + "/" + file, text + "\n");
  }
  test::FakeRoot sys_;
};

TEST_F(Thermal, AMachineWithoutZonesHasNone) {
  EXPECT_TRUE(thermal_zones(sys_.path()).empty());
}

TEST_F(Thermal, AZoneSlowsAtTheLowestOfItsPassiveAndHotTripPoints) {
  write(0, "type", "cpu-thermal");
  write(0, "temp", "51500");
  write(0, "trip_point_0_type", "active");
  write(0, "trip_point_0_temp", "40000");
  write(0, "trip_point_1_type", "hot");
  write(0, "trip_point_1_temp", "99500");
  write(0, "trip_point_2_type", "passive");
  write(0, "trip_point_2_temp", "97000");
  write(0, "trip_point_3_type", "critical");
  write(0, "trip_point_3_temp", "104000");
  const auto zones = thermal_zones(sys_.path());
  ASSERT_EQ(zones.size(), 1U);
  EXPECT_EQ(zones[0].name, "cpu-thermal");
  EXPECT_DOUBLE_EQ(zones[0].celsius, 51.5);
  EXPECT_EQ(zones[0].slows_at, 97.0);
}

TEST_F(Thermal, ATripPointThatIsNotSetIsNone) {
  write(0, "type", "x86_pkg_temp");
  write(0, "temp", "45000");
  write(0, "trip_point_0_type", "passive");
  write(0, "trip_point_0_temp", "0");
  write(0, "trip_point_1_type", "passive");
  write(0, "trip_point_1_temp", "-274000");
  EXPECT_EQ(thermal_zones(sys_.path()).at(0).slows_at, std::nullopt);
}

TEST_F(Thermal, WhereABatteryOrACaseGetsWarmTheProcessorIsNotSlowed) {
  write(0, "type", "TSKN");
  write(0, "temp", "48000");
  write(0, "trip_point_0_type", "passive");
  write(0, "trip_point_0_temp", "45000");
  EXPECT_EQ(thermal_zones(sys_.path()).at(0).slows_at, std::nullopt);
}

TEST_F(Thermal, SensorsThatAreOffAreLeftOutAndNumbersMayBeMissing) {
  write(0, "type", "gpu-thermal");
  write(0, "temp", "-256000");
  write(2, "type", "tj-thermal");
  write(2, "temp", "not now");
  write(5, "temp", "30000");  // a zone without a name
  const auto zones = thermal_zones(sys_.path());
  ASSERT_EQ(zones.size(), 1U);
  EXPECT_EQ(zones[0].name, "thermal_zone5");
}

}  // namespace
}  // namespace sirocco

#include "tests/unit/cuda/device.h"

#include <numeric>

namespace sirocco::test {

namespace {

TEST(Device, ABufferComesBackAsItWentUp) {
  SIROCCO_NEEDS_DEVICE();
  std::vector<int> values(1000);
  std::iota(values.begin(), values.end(), -500);
  DeviceBuffer<int> buffer(values);
  EXPECT_EQ(buffer.download(), values);
  buffer.upload(std::vector<int>{7});
  values[0] = 7;
  EXPECT_EQ(buffer.download(), values);
}

}  // namespace

}  // namespace sirocco::test

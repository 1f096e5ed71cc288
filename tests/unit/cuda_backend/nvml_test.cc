// What the driver's library tells of a GPU, and what is said where it tells nothing.
#include "engine/backend/cuda/nvml.h"

#include <cuda_emulator_control.h>

#include <cstdlib>

#include "tests/unit/cuda_backend/cuda_support.h"

namespace sirocco::cuda {
namespace {

using testing::HasSubstr;

constexpr const char* kGpu = "0000:01:00.0";

class NvmlTest : public testing::Test {
 protected:
  ~NvmlTest() override { unsetenv("FAKE_NVML"); }
  static void set(const char* what) { setenv("FAKE_NVML", what, 1); }
};

TEST_F(NvmlTest, ClocksHeatAndWhatHoldsThemDownAreKnown) {
  const auto nvml = Nvml::load(kGpu, SIROCCO_FAKE_NVML).value();
  DeviceState state;
  nvml->fill(state);
  EXPECT_EQ(state.driver, "580.65.06");
  EXPECT_EQ(state.memory, 1000U);
  EXPECT_EQ(state.used, 600U);
  EXPECT_EQ(state.clock_mhz, 1200U);
  EXPECT_EQ(state.most_mhz, 1980U);
  EXPECT_EQ(state.celsius, 83);
  EXPECT_EQ(state.throttled, "its power limit, heat");
  EXPECT_EQ(state.unknown, "");
  EXPECT_EQ(nvml->take_xid(), 79U);
  EXPECT_EQ(nvml->take_xid(), std::nullopt);
}

TEST_F(NvmlTest, WhatAGpuDoesNotTellIsSaid) {
  set("silent");
  const auto nvml = Nvml::load(kGpu, SIROCCO_FAKE_NVML).value();
  DeviceState state = {.memory = 7};
  nvml->fill(state);
  EXPECT_EQ(state.memory, 7U);
  EXPECT_FALSE(state.clock_mhz);
  EXPECT_FALSE(state.celsius);
  EXPECT_THAT(state.unknown, HasSubstr("the driver does not say"));
  EXPECT_EQ(nvml->take_xid(), std::nullopt);
}

TEST_F(NvmlTest, WithoutItTheReasonIsTold) {
  EXPECT_THAT(Nvml::load(kGpu, "no-such-library.so").error().message(), HasSubstr("no-such-library.so"));
  EXPECT_THAT(Nvml::load("0000:02:00.0", SIROCCO_FAKE_NVML).error().message(), HasSubstr("does not know the GPU"));
  set("broken");
  EXPECT_THAT(Nvml::load(kGpu, SIROCCO_FAKE_NVML).error().message(), HasSubstr("Driver Not Loaded"));
}

}  // namespace
}  // namespace sirocco::cuda

#include "engine/base/fast_cpus.h"

#include <gtest/gtest.h>

#include <fstream>
#include <string>

#include "tests/support/temporary_directory.h"

namespace sirocco {
namespace {

// A machine whose CPUs have these capacities; 0: nothing is said of one.
class Machine {
 public:
  explicit Machine(const std::vector<int>& capacities) {
    for (std::size_t cpu = 0; cpu < capacities.size(); ++cpu) {
      const auto folder = folder_.path() / ("cpu" + std::to_string(cpu));
      std::filesystem::create_directory(folder);
      if (capacities[cpu] != 0) std::ofstream(folder / "cpu_capacity") << capacities[cpu] << "\n";
    }
  }
  std::vector<int> fast(const std::vector<int>& cpus) const { return fast_cpus(cpus, folder_.path()); }

 private:
  test::TemporaryDirectory folder_;
};

TEST(FastCpus, AllWhereCoresAreEqualOrNothingIsSaid) {
  EXPECT_EQ(Machine({1024, 1024, 1024}).fast({0, 1, 2}), (std::vector{0, 1, 2}));  // Jetson Orin
  EXPECT_EQ(Machine({0, 0}).fast({0, 1}), (std::vector{0, 1}));                    // a PC
  EXPECT_EQ(Machine({1024, 0, 300}).fast({0, 1, 2}), (std::vector{0, 1, 2}));
  EXPECT_EQ(Machine({}).fast({5}), (std::vector{5}));
  EXPECT_EQ(Machine({}).fast({}), std::vector<int>{});
}

TEST(FastCpus, LittleCoresAreLeftOut) {
  const Machine rk3588({414, 414, 414, 414, 1024, 1024, 1024, 1024});
  EXPECT_EQ(rk3588.fast({0, 1, 2, 3, 4, 5, 6, 7}), (std::vector{4, 5, 6, 7}));
  EXPECT_EQ(rk3588.fast({0, 1, 4}), (std::vector{4}));
  EXPECT_EQ(rk3588.fast({0, 1, 2}), (std::vector{0, 1, 2}));  // confined to them: they are all there is
  EXPECT_EQ(Machine({600, 1024, 511}).fast({0, 1, 2}), (std::vector{0, 1}));
}

}  // namespace
}  // namespace sirocco

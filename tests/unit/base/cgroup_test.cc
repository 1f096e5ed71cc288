#include "engine/base/cgroup.h"

#include <gtest/gtest.h>

#include "engine/base/bytes.h"
#include "tests/support/fake_root.h"

namespace sirocco {
namespace {

class Cgroup : public testing::Test {
 protected:
  Cgroup() { root_.write("proc/meminfo", "MemTotal: 8388608 kB\nMemFree: 1 kB\nMemAvailable: 4194304 kB\n"); }
  CgroupView of(const std::string& process) const { return {.root = root_.path(), .process = process}; }
  test::FakeRoot root_;
};

TEST_F(Cgroup, TheTightestLimitOnTheWayUpCounts) {
  root_.write("proc/42/cgroup", "0::/system.slice/sirocco.service\n");
  root_.write("sys/fs/cgroup/cgroup.controllers", "memory\n");
  root_.write("sys/fs/cgroup/system.slice/memory.max", "1073741824\n");
  root_.write("sys/fs/cgroup/system.slice/memory.current", "500\n");
  root_.write("sys/fs/cgroup/system.slice/memory.stat", "anon 100\nfile 300\n");
  root_.write("sys/fs/cgroup/system.slice/sirocco.service/memory.max", "max\n");
  const MemoryStatus status = memory_status(of("42"));
  EXPECT_EQ(status.cgroup_limit, GiB);
  EXPECT_EQ(status.cgroup_used, 200U);
  EXPECT_EQ(status.total, 8 * GiB);
  EXPECT_EQ(status.available, 4 * GiB);
  EXPECT_EQ(status.free(), GiB - 200);
  EXPECT_EQ(memory_cgroup_version(of("42")), 2);
}

TEST_F(Cgroup, TheMemoryControllerOfVersion1Counts) {
  root_.write("proc/7/cgroup", "5:cpu,cpuacct:/\n3:memory:/docker/abc\n0::/\n");
  root_.write("sys/fs/cgroup/memory/docker/abc/memory.limit_in_bytes", "2147483648\n");
  root_.write("sys/fs/cgroup/memory/docker/abc/memory.usage_in_bytes", "1000\n");
  root_.write("sys/fs/cgroup/memory/docker/abc/memory.stat", "total_cache 400\n");
  EXPECT_EQ(memory_status(of("7")).cgroup_limit, 2 * GiB);
  EXPECT_EQ(memory_status(of("7")).cgroup_used, 600U);
  EXPECT_EQ(memory_cgroup_version(of("7")), 1);
}

TEST_F(Cgroup, WithoutGroupsTheMachineIsTheLimit) {
  const MemoryStatus status = memory_status(of("self"));
  EXPECT_FALSE(status.cgroup_limit);
  EXPECT_EQ(status.free(), 4 * GiB);
  EXPECT_EQ(memory_cgroup_version(of("self")), 0);
}

}  // namespace
}  // namespace sirocco

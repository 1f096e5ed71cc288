#include "engine/base/bytes.h"

#include <gtest/gtest.h>

#include "engine/base/cgroup.h"

namespace sirocco {
namespace {

TEST(Bytes, ReadsWhatPeopleWrite) {
  EXPECT_EQ(parse_bytes("4096").value(), 4096U);
  EXPECT_EQ(parse_bytes("6GiB").value(), 6 * GiB);
  EXPECT_EQ(parse_bytes("512 mib").value(), 512 * MiB);
  EXPECT_EQ(parse_bytes("1.5GB").value(), 1500000000U);
  EXPECT_EQ(parse_bytes("0").value(), 0U);
}

TEST(Bytes, RefusesEverythingElse) {
  for (const char* text : {"", "six", "-1", "5 apples", "GiB", "1e3", "99999999TiB", "nan", "inf"}) {
    const auto bytes = parse_bytes(text);
    ASSERT_FALSE(bytes) << text;
    EXPECT_NE(bytes.error().message().find("is not a byte size"), std::string::npos);
  }
}

TEST(Bytes, WritesThreeDigits) {
  EXPECT_EQ(format_bytes(0), "0 B");
  EXPECT_EQ(format_bytes(999), "999 B");
  EXPECT_EQ(format_bytes(1000), "0.98 KiB");
  EXPECT_EQ(format_bytes(6 * GiB), "6.00 GiB");
  EXPECT_EQ(format_bytes(52 * MiB + 500 * KiB), "52.5 MiB");
  EXPECT_EQ(format_bytes(999 * MiB), "999 MiB");
}

TEST(MemoryStatus, TellsThisMachine) {
  const MemoryStatus status = memory_status();
  EXPECT_GT(status.total, 0U);
  EXPECT_GT(status.free(), 0U);
  EXPECT_LE(status.free(), status.total);
  EXPECT_GT(resident_bytes(), 0U);
}

}  // namespace
}  // namespace sirocco

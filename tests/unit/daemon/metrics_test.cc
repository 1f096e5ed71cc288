#include "daemon/metrics.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <regex>
#include <set>
#include <sstream>

#include "tests/support/temporary_directory.h"
#include "tests/unit/wire/examples.h"

namespace sirocco::daemon {
namespace {

std::string line_of(const std::string& text, const std::string& name) {
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);)
    if (line.starts_with(name + " ")) return line;
  return "none";
}

TEST(Metrics, HaveTheValuesOfTheReport) {
  wire::StatusReport report = wire::test::example_report();
  report.uptime_ms = 1500;
  report.experts->waited_ms = 250;
  const std::string text = metrics_text(report);
  EXPECT_EQ(line_of(text, "sirocco_state{state=\"DEGRADED\"}"), "sirocco_state{state=\"DEGRADED\"} 1");
  EXPECT_EQ(line_of(text, "sirocco_state{state=\"READY\"}"), "sirocco_state{state=\"READY\"} 0");
  EXPECT_EQ(line_of(text, "sirocco_degraded_reasons"), "sirocco_degraded_reasons 2");
  EXPECT_EQ(line_of(text, "sirocco_requests_total{ending=\"error\"}"), "sirocco_requests_total{ending=\"error\"} 4");
  EXPECT_EQ(line_of(text, "sirocco_memory_budget_bytes"), "sirocco_memory_budget_bytes 1700000000");
  EXPECT_EQ(line_of(text, "sirocco_expert_wait_seconds_total"), "sirocco_expert_wait_seconds_total 0.25");
  EXPECT_EQ(line_of(text, "sirocco_uptime_seconds"), "sirocco_uptime_seconds 1.5");
  EXPECT_EQ(line_of(text, "sirocco_device_expert_misses_total"), "sirocco_device_expert_misses_total 58");
  EXPECT_EQ(line_of(text, "sirocco_device_clock_hertz"), "sirocco_device_clock_hertz 59000000");
  report.device->clock_mhz = 0;
  EXPECT_EQ(line_of(metrics_text(report), "sirocco_device_clock_hertz"), "none");
}

TEST(Metrics, EachFamilyIsDeclaredOnceAndEveryLineIsWellFormed) {
  const std::string text = metrics_text(wire::test::example_report());
  const std::regex sample(R"(sirocco_[a-z_]+(\{[a-z]+="[A-Za-z_-]+"\})? [0-9.e+-]+)");
  const std::regex help(R"(# HELP (sirocco_[a-z_]+) .+)");
  const std::regex type(R"(# TYPE (sirocco_[a-z_]+) (gauge|counter))");
  std::set<std::string> declared;
  std::istringstream lines(text);
  std::size_t samples = 0;
  for (std::string line; std::getline(lines, line);) {
    std::smatch found;
    if (std::regex_match(line, found, type)) {
      EXPECT_TRUE(declared.insert(found[1]).second) << line;
      EXPECT_EQ(found[2] == "counter", found[1].str().ends_with("_total")) << line;
    } else if (!std::regex_match(line, help)) {
      EXPECT_TRUE(std::regex_match(line, sample)) << line;
      ++samples;
    }
  }
  EXPECT_GT(samples, declared.size());
}

TEST(Metrics, TheFileIsReplacedWholeAndRemovedAtTheEnd) {
  const test::TemporaryDirectory directory;
  const std::filesystem::path path = directory.path() / "sirocco.prom";
  {
    const MetricsFile file(path.string());
    ASSERT_TRUE(file.write(wire::test::example_report()));
    ASSERT_TRUE(file.write(wire::test::example_report()));
    std::ifstream in(path);
    EXPECT_EQ(std::string(std::istreambuf_iterator<char>(in), {}), metrics_text(wire::test::example_report()));
    EXPECT_EQ(std::distance(std::filesystem::directory_iterator(directory.path()), {}), 1);
  }
  EXPECT_FALSE(std::filesystem::exists(path));
  const MetricsFile nowhere((directory.path() / "no/such/folder").string());
  const auto written = nowhere.write(wire::test::example_report());
  ASSERT_FALSE(written);
  EXPECT_NE(written.error().message().find("metrics.file"), std::string::npos);
}

}  // namespace
}  // namespace sirocco::daemon

#include "daemon/status_line.h"

#include <gtest/gtest.h>

namespace sirocco::daemon {
namespace {

std::string line(wire::State state, std::vector<std::string> reasons = {}, std::string model = "Mixtral") {
  wire::StatusReport report;
  report.state = state;
  report.reasons = std::move(reasons);
  if (!model.empty()) report.model = wire::ModelCard{.name = std::move(model)};
  return status_line(report);
}

TEST(StatusLine, SaysTheStateTheModelAndTheReasons) {
  EXPECT_EQ(line(wire::State::ready), "Ready: Mixtral");
  EXPECT_EQ(line(wire::State::degraded, {"a", "b"}), "Degraded: Mixtral: a; b");
  EXPECT_EQ(line(wire::State::draining, {"draining: 3 are left"}), "Draining: draining: 3 are left");
  EXPECT_EQ(line(wire::State::starting, {"loading m.gguf: 3.10 GiB of 12.0 GiB"}, ""),
            "Loading m.gguf: 3.10 GiB of 12.0 GiB");
  EXPECT_EQ(line(wire::State::failed, {"m.gguf: it is broken"}, ""), "Failed: m.gguf: it is broken");
  EXPECT_EQ(line(wire::State::no_model, {}, ""), "No model is configured (model.path)");
}

TEST(StatusLine, IsOneLineOfABoundedLengthWhateverAModelsNameIs) {
  EXPECT_EQ(line(wire::State::ready, {}, "a\nMAINPID=1"), "Ready: a MAINPID=1");
  EXPECT_LE(line(wire::State::ready, {}, std::string(10'000, 'x')).size(), 2000U + 3U);  // and "…"
}

}  // namespace
}  // namespace sirocco::daemon

#include "cli/status_check.h"

#include <gtest/gtest.h>

namespace sirocco {
namespace {

StatusCheck check(wire::State state, std::vector<std::string> reasons = {}) {
  wire::StatusReport report;
  report.state = state;
  report.reasons = std::move(reasons);
  if (state == wire::State::ready || state == wire::State::degraded) report.model = wire::ModelCard{.name = "Mixtral"};
  return check_status(report);
}

StatusCheck check(ClientError error) {
  return check_status(tl::unexpected(std::move(error)));
}

TEST(StatusCheck, EachStateHasTheExitCodeThatMonitoringKnows) {
  EXPECT_EQ(check(wire::State::ready).exit_code, 0);
  EXPECT_EQ(check(wire::State::degraded).exit_code, 1);
  EXPECT_EQ(check(wire::State::draining).exit_code, 1);
  EXPECT_EQ(check(wire::State::starting).exit_code, 1);
  EXPECT_EQ(check(wire::State::no_model).exit_code, 2);
  EXPECT_EQ(check(wire::State::failed).exit_code, 2);
}

TEST(StatusCheck, TheLineSaysTheStateTheModelAndAllReasons) {
  EXPECT_EQ(check(wire::State::ready).line, "READY: Mixtral");
  EXPECT_EQ(check(wire::State::degraded, {"memory is short", "no io_uring"}).line,
            "DEGRADED: Mixtral: memory is short; no io_uring");
  EXPECT_EQ(check(wire::State::starting, {"loading m.gguf: 1.00 GiB of 2.00 GiB"}).line,
            "STARTING: loading m.gguf: 1.00 GiB of 2.00 GiB");
}

TEST(StatusCheck, ItIsOneLineWhateverAModelsNameIs) {
  EXPECT_EQ(check(wire::State::failed, {"a\nb\x1b[2Jc"}).line, "FAILED: a b [2Jc");
}

TEST(StatusCheck, ADaemonThatDoesNotAnswerIsUnreachableAndOneThatCannotBeAskedIsUnknown) {
  using Kind = ClientError::Kind;
  for (const Kind kind : {Kind::no_daemon, Kind::timeout, Kind::disconnected}) {
    EXPECT_EQ(check({.kind = kind, .message = "nobody"}).exit_code, 2);
    EXPECT_EQ(check({.kind = kind, .message = "nobody"}).line, "UNREACHABLE: nobody");
  }
  for (const Kind kind : {Kind::permission, Kind::protocol, Kind::system}) {
    EXPECT_EQ(check({.kind = kind, .message = "may not"}).exit_code, 3);
    EXPECT_EQ(check({.kind = kind, .message = "may not"}).line, "UNKNOWN: may not");
  }
  EXPECT_EQ(check({.kind = Kind::refused, .message = "", .code = wire::ErrorCode::shutting_down}).exit_code, 2);
  EXPECT_EQ(check({.kind = Kind::refused, .message = "", .code = wire::ErrorCode::too_many_connections}).exit_code, 3);
}

}  // namespace
}  // namespace sirocco

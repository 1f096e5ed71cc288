#include "cli/status_check.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

namespace sirocco {
namespace {

int code_of(wire::State state) {
  switch (state) {
    case wire::State::ready:
      return 0;
    case wire::State::degraded:
    case wire::State::draining:
    case wire::State::starting:
      return 1;
    case wire::State::no_model:
    case wire::State::failed:
      break;
  }
  return 2;
}

// Whether the error says that there is no daemon that answers, and not only that this caller cannot tell.
bool unreachable(const ClientError& error) {
  switch (error.kind) {
    case ClientError::Kind::no_daemon:
    case ClientError::Kind::timeout:
    case ClientError::Kind::disconnected:
      return true;
    case ClientError::Kind::refused:
      return error.code == wire::ErrorCode::shutting_down;
    case ClientError::Kind::permission:
    case ClientError::Kind::protocol:
    case ClientError::Kind::invalid:
    case ClientError::Kind::gave_up:
    case ClientError::Kind::system:
      break;
  }
  return false;
}

// Names and reasons come out of model files and configurations.
std::string one_line(std::string text) {
  std::replace_if(
      text.begin(), text.end(), [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; }, ' ');
  return text;
}

}  // namespace

StatusCheck check_status(const ClientResult<wire::StatusReport>& report) {
  if (!report) {
    const bool known = unreachable(report.error());
    return {.exit_code = known ? 2 : 3,
            .line = one_line(fmt::format("{}: {}", known ? "UNREACHABLE" : "UNKNOWN", report.error().message))};
  }
  std::string line(wire::state_name(report->state));
  if (report->model) line += ": " + report->model->name;
  if (!report->reasons.empty()) line += fmt::format(": {}", fmt::join(report->reasons, "; "));
  return {.exit_code = code_of(report->state), .line = one_line(std::move(line))};
}

}  // namespace sirocco

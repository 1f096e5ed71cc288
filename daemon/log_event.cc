#include "daemon/log_event.h"

#include <spdlog/spdlog.h>

#include <utility>

namespace sirocco::daemon {
namespace {

// spdlog hands a line to its sinks on the thread that writes it, but has no place in it for more than text.
thread_local const LoggedEvent* being_logged = nullptr;

}  // namespace

void log_event(spdlog::level::level_enum level, const LogEvent& event, std::string_view message,
               std::vector<LogField> fields) {
  const LoggedEvent logged = {.event = event, .fields = std::move(fields)};
  being_logged = &logged;
  spdlog::log(level, "{}", message);
  being_logged = nullptr;
}

const LoggedEvent* event_being_logged() {
  return being_logged;
}

}  // namespace sirocco::daemon

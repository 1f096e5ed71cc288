#include "daemon/watchdog.h"

#include <fmt/format.h>
#include <systemd/sd-daemon.h>

#include <algorithm>
#include <utility>

#include "daemon/log_event.h"

namespace sirocco::daemon {

Watchdog::Watchdog(std::chrono::microseconds limit, std::vector<Watched> watched, std::function<void()> ping, Time now)
    : interval_(limit / 2), ping_(std::move(ping)), due_(now + interval_) {
  for (Watched& who : watched) {
    seen_.push_back({.who = std::move(who), .pulse = 0, .since = now});
    seen_.back().pulse = seen_.back().who.pulse();
    seen_.back().who.ask();
  }
}

std::optional<std::chrono::microseconds> Watchdog::limit_of_systemd() {
  std::uint64_t microseconds = 0;
  if (sd_watchdog_enabled(0, &microseconds) <= 0) return std::nullopt;
  return std::chrono::microseconds(microseconds);
}

void Watchdog::look(Time now) {
  if (now < due_) return;
  due_ = now + interval_;
  bool all = true;
  for (Seen& seen : seen_) {
    const std::uint64_t pulse = seen.who.pulse();
    if (pulse == seen.pulse) {
      all = false;
      const auto silent = std::chrono::duration_cast<std::chrono::seconds>(now - seen.since);
      log_event(spdlog::level::err, kWatchdogMissed,
                fmt::format("the {} thread has shown no sign of life for {} s: systemd's watchdog is not told that the "
                            "daemon lives",
                            seen.who.name, silent.count()),
                {{.name = "SIROCCO_THREAD", .value = seen.who.name}});
    } else {
      seen.pulse = pulse;
      seen.since = now;
    }
    seen.who.ask();
  }
  if (all) ping_();
}

std::chrono::milliseconds Watchdog::until_due(Time now) const {
  // Rounded up: a look that comes early does nothing, and would come again at once.
  return std::max(std::chrono::ceil<std::chrono::milliseconds>(due_ - now), std::chrono::milliseconds(0));
}

}  // namespace sirocco::daemon

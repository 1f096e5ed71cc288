// Tells systemd's watchdog (WatchdogSec=) that the daemon lives, at half of its interval, and only if each thread that
// matters has shown so since the last time: a process that answers signals while its engine hangs is restarted, too.
//
// The bound that follows: whatever a thread does between two signs of life (for the engine one layer of a step, or the
// wait for one arrival of experts) must take less than half of WatchdogSec=.
//
// Main thread only.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace sirocco::daemon {

class Watchdog {
 public:
  using Time = std::chrono::steady_clock::time_point;

  struct Watched {
    std::string name;                      // "engine"
    std::function<std::uint64_t()> pulse;  // another number whenever it has shown that it lives
    std::function<void()> ask;             // makes it show so soon, should it be idle; does not wait
  };

  // limit: systemd's. ping: tells it.
  Watchdog(std::chrono::microseconds limit, std::vector<Watched> watched, std::function<void()> ping, Time now);

  // systemd's limit for this process ($WATCHDOG_USEC, $WATCHDOG_PID); nothing: it does not ask.
  static std::optional<std::chrono::microseconds> limit_of_systemd();

  // Does what is due. At least until_due() later again.
  void look(Time now);
  std::chrono::milliseconds until_due(Time now) const;

 private:
  struct Seen {
    Watched who;
    std::uint64_t pulse = 0;
    Time since;  // it has been that
  };

  const std::chrono::microseconds interval_;
  std::vector<Seen> seen_;
  const std::function<void()> ping_;
  Time due_;
};

}  // namespace sirocco::daemon

// What is done when the GPU fails: it is set up again, unless that has not helped for long. A pure decision. Main
// thread only.
#pragma once

#include <chrono>
#include <optional>

#include "daemon/config.h"
#include "daemon/model_host.h"

namespace sirocco::daemon {

class DeviceRecovery {
 public:
  using Clock = std::chrono::steady_clock;
  // That it must have worked since it was set up again, to be worth that once more.
  static constexpr std::chrono::hours kTrusted{1};

  ModelHost::Recovery after_failure(Clock::time_point now, DeviceFailure otherwise) {
    const bool again = !again_ || now - *again_ >= kTrusted;
    if (again) again_ = now;
    return {.again = again, .processor = otherwise == DeviceFailure::cpu};
  }

 private:
  std::optional<Clock::time_point> again_;
};

}  // namespace sirocco::daemon

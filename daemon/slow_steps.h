// Which steps of the engine are worth a line of the log, and what it says: how slow the step was, and what it did
// meanwhile. At most one line in ten seconds, which then says how many were left out.
#pragma once

#include <chrono>
#include <mutex>
#include <optional>
#include <string>

#include "engine/engine.h"

namespace sirocco::daemon {

class SlowSteps {
 public:
  using Time = std::chrono::steady_clock::time_point;

  // factor: times what is expected; milliseconds: in any case; 0 each: off. From any thread.
  void set(double factor, std::uint32_t milliseconds);

  // The line about this step, if there is to be one.
  std::optional<std::string> line(const StepFacts& step, Time now);

 private:
  bool is_slow(const StepFacts& step) const;

  std::mutex mutex_;
  double factor_ = 0;
  double seconds_ = 0;
  std::optional<Time> last_;
  std::uint64_t left_out_ = 0;
};

}  // namespace sirocco::daemon

// How much of the time steps may take: the engine rests after a step for as long as the duty leaves free, so that what
// is computed stays the same and only when changes. For machines that are hot, and for those where something else
// computes first.
#pragma once

#include <algorithm>
#include <chrono>
#include <string>

namespace sirocco {

struct Pace {
  double duty = 1;     // share of the time that steps may take, of any backend: above 0, up to 1
  std::string reason;  // why it is less than was asked for (a heat); empty: it is not

  // What the machine's temperature is, for the status: the zone that is closest to its limit, or the warmest.
  std::string zone;  // empty: none is known
  double celsius = 0;
  double limit_celsius = 0;  // 0: none
};

// When the next step may begin. Pure.
class Rest {
 public:
  using Clock = std::chrono::steady_clock;

  // A step of `seconds` has ended. What was left of the rest before it, because somebody could not wait, is made up
  // for, up to a second.
  void after_step(Clock::time_point now, double seconds, double duty) {
    const double own = seconds * (1 / duty - 1);
    const double left = std::max(0.0, std::chrono::duration<double>(until_ - now).count()) + own;
    const double rest = std::min(left, std::max(own, kMostMadeUpFor));
    until_ = now + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(rest));
  }
  Clock::time_point until() const { return until_; }

 private:
  static constexpr double kMostMadeUpFor = 1;  // seconds

  Clock::time_point until_;
};

}  // namespace sirocco

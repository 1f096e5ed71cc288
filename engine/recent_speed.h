// Tokens per second of the last moments of work: what lies further back is forgotten exponentially, and time without
// work does not count. Owned by the engine thread.
#pragma once

#include <cmath>

namespace sirocco {

class RecentSpeed {
 public:
  void add(double tokens, double seconds) {
    const double kept = std::exp(-seconds / kMemorySeconds);
    tokens_ = tokens_ * kept + tokens;
    seconds_ = seconds_ * kept + seconds;
  }

  double tokens_per_s() const { return seconds_ > 0 ? tokens_ / seconds_ : 0; }  // 0: nothing yet

 private:
  static constexpr double kMemorySeconds = 10;  // of work; older than this counts for less than 1/e

  double tokens_ = 0;
  double seconds_ = 0;
};

}  // namespace sirocco

// The kernel's warnings that memory is getting short in this process's cgroup: events of PSI (v2) or of
// memory.pressure_level (v1), which come while it is still reclaiming, before it kills.
#pragma once

#include <poll.h>

#include <vector>

namespace sirocco {

class MemoryPressure {
 public:
  // Of what this kernel has and lets us watch; nothing may be left.
  MemoryPressure();
  MemoryPressure(const MemoryPressure&) = delete;
  MemoryPressure& operator=(const MemoryPressure&) = delete;
  ~MemoryPressure();

  // To be appended to what a thread polls.
  const std::vector<pollfd>& watched() const { return watched_; }

  // Whether poll() returned a warning in them, which is taken.
  bool warned(const pollfd* polled) const;

 private:
  void watch_v1(const char* folder);
  void watch_v2(const char* folder);

  std::vector<pollfd> watched_;
  std::vector<int> held_;  // open as long as they are watched
};

}  // namespace sirocco

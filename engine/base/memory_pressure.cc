#include "engine/base/memory_pressure.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cstdint>
#include <string>
#include <string_view>

#include "engine/base/cgroup.h"

namespace sirocco {
namespace {

// Somebody of the group waited for memory for 100 ms of 2 s: the shortest window that needs no privilege.
constexpr std::string_view kTrigger = "some 100000 2000000";

}  // namespace

MemoryPressure::MemoryPressure() {
  const std::string folder = memory_cgroup();
  if (folder.empty()) return;
  watch_v1(folder.c_str());
  watch_v2(folder.c_str());
}

MemoryPressure::~MemoryPressure() {
  for (const pollfd& entry : watched_) close(entry.fd);
  for (const int descriptor : held_) close(descriptor);
}

void MemoryPressure::watch_v1(const char* folder) {
  const int level = open(fmt::format("{}/memory.pressure_level", folder).c_str(), O_RDONLY | O_CLOEXEC);
  if (level < 0) return;
  const int control = open(fmt::format("{}/cgroup.event_control", folder).c_str(), O_WRONLY | O_CLOEXEC);
  const int events = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  const std::string line = fmt::format("{} {} medium", events, level);
  const bool registered =
      control >= 0 && events >= 0 && write(control, line.data(), line.size()) == static_cast<ssize_t>(line.size());
  if (control >= 0) close(control);
  if (!registered) {
    close(level);
    if (events >= 0) close(events);
    return;
  }
  watched_.push_back({.fd = events, .events = POLLIN, .revents = 0});
  held_.push_back(level);
}

void MemoryPressure::watch_v2(const char* folder) {
  const int file = open(fmt::format("{}/memory.pressure", folder).c_str(), O_RDWR | O_CLOEXEC | O_NONBLOCK);
  if (file < 0) return;
  // The kernel puts its zero over the last byte that is written.
  if (write(file, kTrigger.data(), kTrigger.size() + 1) < 0) {
    close(file);
    return;
  }
  watched_.push_back({.fd = file, .events = POLLPRI, .revents = 0});
}

bool MemoryPressure::warned(const pollfd* polled) const {
  bool any = false;
  for (std::size_t i = 0; i < watched_.size(); ++i) {
    if ((polled[i].revents & (POLLIN | POLLPRI)) == 0) continue;
    any = true;
    std::uint64_t count = 0;
    if ((polled[i].revents & POLLIN) != 0 && read(polled[i].fd, &count, sizeof count) < 0) any = false;
  }
  return any;
}

}  // namespace sirocco

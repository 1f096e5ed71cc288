// What the daemon's main thread does while the others work: waits for signals and for the engine's failure, and talks
// to systemd.
#pragma once

#include <chrono>
#include <functional>
#include <string>

#include "engine/base/result.h"

namespace sirocco::daemon {

class Supervisor {
 public:
  // Blocks SIGTERM, SIGINT and SIGHUP in this thread and all threads made after it; ignores SIGPIPE. The first thing a
  // program does: a signal that comes before this ends it by its default action.
  static Result<Supervisor> create();
  Supervisor(Supervisor&& other) noexcept;
  Supervisor& operator=(Supervisor&&) = delete;
  ~Supervisor();

  // Makes wait() return, and tells systemd why. From any thread.
  void fail(const std::string& reason);

  // Until SIGTERM or SIGINT (true) or fail() (false). Calls `reopen_logs` on every SIGHUP, and `look` every `interval`;
  // negative: never.
  bool wait(const std::function<void()>& reopen_logs, std::chrono::milliseconds interval,
            const std::function<void()>& look);

 private:
  Supervisor(int signals, int failure) : signals_(signals), failure_(failure) {}
  int signals_ = -1;  // signalfd
  int failure_ = -1;  // eventfd
};

// Tells systemd, where it listens ($NOTIFY_SOCKET): "READY=1", "STATUS=…".
void notify_systemd(const std::string& state);

}  // namespace sirocco::daemon

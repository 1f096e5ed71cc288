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

  // Makes wait() look at once. From any thread.
  void wake();

  struct Watch {
    std::function<void()> hangup;                         // on every SIGHUP
    std::function<bool()> look;                           // every `interval` and after wake(); false: it is time to end
    std::function<std::chrono::milliseconds()> interval;  // as it is at the moment; negative: never
  };
  // Until SIGTERM, SIGINT or the end of looking (true), or fail() (false).
  bool wait(const Watch& watch);

 private:
  Supervisor(int signals, int failure, int woken) : signals_(signals), failure_(failure), woken_(woken) {}
  int signals_ = -1;  // signalfd
  int failure_ = -1;  // eventfd
  int woken_ = -1;    // eventfd
};

// Tells systemd, where it listens ($NOTIFY_SOCKET): "READY=1", "STATUS=…".
void notify_systemd(const std::string& state);

}  // namespace sirocco::daemon

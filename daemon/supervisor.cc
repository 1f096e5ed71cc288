#include "daemon/supervisor.h"

#include <poll.h>
#include <pthread.h>
#include <spdlog/spdlog.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <utility>

#include "daemon/log_event.h"
#include "engine/base/printable.h"

namespace sirocco::daemon {

Result<Supervisor> Supervisor::create() {
  sigset_t set;
  sigemptyset(&set);
  for (const int number : {SIGTERM, SIGINT, SIGHUP}) sigaddset(&set, number);
  pthread_sigmask(SIG_BLOCK, &set, nullptr);
  std::signal(SIGPIPE, SIG_IGN);
  const int signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
  const int failure = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  const int woken = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (signals < 0 || failure < 0 || woken < 0)
    return sirocco::fail(ErrorCode::io, "signalfd or eventfd: {}", errno_message(errno));
  return Supervisor(signals, failure, woken);
}

Supervisor::Supervisor(Supervisor&& other) noexcept
    : signals_(std::exchange(other.signals_, -1)),
      failure_(std::exchange(other.failure_, -1)),
      woken_(std::exchange(other.woken_, -1)) {}

Supervisor::~Supervisor() {
  for (const int descriptor : {signals_, failure_, woken_})
    if (descriptor >= 0) close(descriptor);
}

void Supervisor::fail(const std::string& reason) {
  notify_systemd("STATUS=Failed: " + printable(reason, 2000));
  eventfd_write(failure_, 1);
}

void Supervisor::wake() {
  eventfd_write(woken_, 1);
}

bool Supervisor::wait(const Watch& watch) {
  for (;;) {
    std::array<pollfd, 3> watched = {{{.fd = signals_, .events = POLLIN, .revents = 0},
                                      {.fd = failure_, .events = POLLIN, .revents = 0},
                                      {.fd = woken_, .events = POLLIN, .revents = 0}}};
    const int events = poll(watched.data(), watched.size(), static_cast<int>(watch.interval().count()));
    if (events < 0) continue;
    eventfd_t ignored = 0;
    if (eventfd_read(woken_, &ignored) == 0 || events == 0) {
      if (!watch.look()) return true;
    }
    signalfd_siginfo signal = {};
    while (read(signals_, &signal, sizeof signal) == sizeof signal) {
      if (signal.ssi_signo == SIGHUP) {
        watch.hangup();
        continue;
      }
      log_event(
          spdlog::level::info, kStopping,
          fmt::format("{} from pid {}: stopping", signal.ssi_signo == SIGTERM ? "SIGTERM" : "SIGINT", signal.ssi_pid));
      return true;
    }
    if ((watched[1].revents & POLLIN) != 0) return false;
  }
}

void notify_systemd(const std::string& state) {
  sd_notify(0, state.c_str());
}

}  // namespace sirocco::daemon

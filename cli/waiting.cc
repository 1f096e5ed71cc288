#include "cli/waiting.h"

#include <fmt/format.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <utility>

namespace sirocco {
namespace {

constexpr std::chrono::seconds kPatience{2};  // nobody wonders before that
constexpr std::chrono::seconds kInterval{1};

}  // namespace

Waiting::Waiting(std::string what) : what_(std::move(what)) {
  if (isatty(STDERR_FILENO) == 0) return;
  // Signals are for the thread that waits: they end its waiting.
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  thread_ = std::thread([this] { write_lines(); });
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

Waiting::~Waiting() {
  done();
}

void Waiting::now_for(std::string what) {
  const std::lock_guard lock(mutex_);
  what_ = std::move(what);
}

void Waiting::done() {
  {
    const std::lock_guard lock(mutex_);
    done_ = true;
    changed_.notify_one();
  }
  if (thread_.joinable()) thread_.join();
}

void Waiting::write_lines() {
  using std::chrono::seconds;
  std::unique_lock lock(mutex_);
  for (seconds elapsed = kPatience;; elapsed += kInterval) {
    if (changed_.wait_until(lock, start_ + elapsed, [this] { return done_; })) {
      if (elapsed > kPatience) fmt::print(stderr, "\r\033[K");
      return;
    }
    fmt::print(stderr, "\r{}, {} s\033[K", what_, elapsed.count());
  }
}

}  // namespace sirocco

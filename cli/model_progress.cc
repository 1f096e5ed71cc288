#include "cli/model_progress.h"

#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <utility>

#include "engine/base/bytes.h"

namespace sirocco {
namespace {

std::atomic<bool> interrupted = false;
static_assert(std::atomic<bool>::is_always_lock_free, "set by a signal handler");

void on_interrupt(int /*signal*/) {
  interrupted = true;
}

}  // namespace

ModelProgress::ModelProgress(std::string what) : what_(std::move(what)), shows_(isatty(STDERR_FILENO) == 1) {
  interrupted = false;
  struct sigaction action {};
  action.sa_handler = on_interrupt;
  action.sa_flags = SA_RESETHAND;  // a second Ctrl-C ends the program at once
  sigemptyset(&action.sa_mask);
  for (Handled& handled : handled_) {
    sigaction(handled.signal, nullptr, &handled.before);
    if (handled.before.sa_handler != SIG_IGN) sigaction(handled.signal, &action, nullptr);
  }
}

ModelProgress::~ModelProgress() {
  for (const Handled& handled : handled_) sigaction(handled.signal, &handled.before, nullptr);
  if (has_line_) std::fputs("\r\033[K", stderr);
}

Result<void> ModelProgress::advance(std::uint64_t bytes) {
  done_ += bytes;
  if (interrupted) return fail(ErrorCode::cancelled, "{}: interrupted", what_);
  const Clock::time_point now = Clock::now();
  if (!shows_ || now < next_line_) return {};
  next_line_ = now + std::chrono::milliseconds(250);
  has_line_ = true;
  const std::chrono::duration<double> elapsed = now - start_;
  std::fputs(("\r" + progress_line(what_, done_, total_, elapsed.count()) + "\033[K").c_str(), stderr);
  return {};
}

std::string progress_line(const std::string& what, std::uint64_t done, std::uint64_t total, double seconds) {
  const double rate = static_cast<double>(done) / seconds;
  const double left = rate > 0 && total > done ? static_cast<double>(total - done) / rate : 0;
  return fmt::format("{}: {} of {}, {}/s, {:.0f} s left", what, format_bytes(done), format_bytes(total),
                     format_bytes(static_cast<std::uint64_t>(rate)), left);
}

}  // namespace sirocco

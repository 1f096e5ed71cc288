// Work on a model file that may take minutes: shows how far it is, and ends it in order on Ctrl-C, so that a partly
// written model is removed.
//
// One at a time, on the main thread: while it lives, SIGINT, SIGTERM and SIGHUP only set a flag that advance() reads,
// except for those that were ignored before (nohup). Made before the first byte is written.
#pragma once

#include <array>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <string>

#include "engine/base/result.h"

namespace sirocco {

class ModelProgress {
 public:
  // `what` begins the line ("writing model.gguf").
  explicit ModelProgress(std::string what);
  ~ModelProgress();
  ModelProgress(const ModelProgress&) = delete;
  ModelProgress& operator=(const ModelProgress&) = delete;

  void expect(std::uint64_t total) { total_ = total; }  // bytes, before the first advance()

  // So many bytes more are done. An error after Ctrl-C. From the third second on, a line on standard error that
  // rewrites itself; nothing where that is no terminal.
  Result<void> advance(std::uint64_t bytes);

 private:
  using Clock = std::chrono::steady_clock;

  std::string what_;
  std::uint64_t total_ = 0;
  std::uint64_t done_ = 0;
  Clock::time_point start_ = Clock::now();
  Clock::time_point next_line_ = start_ + std::chrono::seconds(2);
  bool shows_;
  bool has_line_ = false;
  struct Handled {
    int signal;
    struct sigaction before;
  };
  std::array<Handled, 3> handled_ = {{{SIGINT, {}}, {SIGTERM, {}}, {SIGHUP, {}}}};
};

// "writing model.gguf: 3.20 GiB of 24.5 GiB, 1.80 GiB/s, 12 s left"
std::string progress_line(const std::string& what, std::uint64_t done, std::uint64_t total, double seconds);

}  // namespace sirocco

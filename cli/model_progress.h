// Work on a model file that may take minutes: shows how far it is, and ends it in order on Ctrl-C, so that a partly
// written model is removed.
//
// One at a time, on the main thread: while it lives, SIGINT and SIGTERM only set a flag that advance() reads.
#pragma once

#include <chrono>
#include <csignal>
#include <cstdint>
#include <string>

#include "engine/base/result.h"

namespace sirocco {

class ModelProgress {
 public:
  // `what` begins the line ("writing model.gguf"); `total` is in bytes.
  ModelProgress(std::string what, std::uint64_t total);
  ~ModelProgress();
  ModelProgress(const ModelProgress&) = delete;
  ModelProgress& operator=(const ModelProgress&) = delete;

  // So many bytes more are done. An error after Ctrl-C. From the third second on, a line on standard error that
  // rewrites itself; nothing where that is no terminal.
  Result<void> advance(std::uint64_t bytes);

 private:
  using Clock = std::chrono::steady_clock;

  std::string what_;
  std::uint64_t total_;
  std::uint64_t done_ = 0;
  Clock::time_point start_ = Clock::now();
  Clock::time_point next_line_ = start_ + std::chrono::seconds(2);
  bool shows_;
  bool has_line_ = false;
  struct sigaction interrupt_before_ {};
  struct sigaction terminate_before_ {};
};

// "writing model.gguf: 3.20 GiB of 24.5 GiB, 1.80 GiB/s, 12 s left"
std::string progress_line(const std::string& what, std::uint64_t done, std::uint64_t total, double seconds);

}  // namespace sirocco

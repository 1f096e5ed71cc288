// A line that says what is being waited for, once that has taken two seconds: "waiting for the answer, 12 s". It
// rewrites itself on standard error; where that is no terminal, nothing is written. One at a time, on the main thread,
// which is free to wait: a thread writes the line.
#pragma once

#include <chrono>
#include <condition_variable>
#include <mutex>
#include <string>
#include <thread>

namespace sirocco {

class Waiting {
 public:
  explicit Waiting(std::string what);
  ~Waiting();  // done()
  Waiting(const Waiting&) = delete;
  Waiting& operator=(const Waiting&) = delete;

  // From here on it is this that is waited for.
  void now_for(std::string what);

  // Clears the line, for good: before anything else is written to the terminal. Idempotent.
  void done();

 private:
  void write_lines();

  const std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
  std::mutex mutex_;
  std::condition_variable changed_;
  std::string what_;
  bool done_ = false;
  std::thread thread_;  // where standard error is a terminal
};

}  // namespace sirocco

// How far the loading of a model is, and whether it is to go on. The thread that loads counts; any thread looks, or
// asks it to stop.
#pragma once

#include <atomic>
#include <cstdint>

namespace sirocco {

class LoadProgress {
 public:
  // What there is to be read or copied, bytes; before the first add(). 0, as at first: nobody knows, or nothing is.
  void expect(std::uint64_t bytes) { expected_ = bytes; }
  void add(std::uint64_t bytes) { done_ += bytes; }
  std::uint64_t expected() const { return expected_; }
  std::uint64_t done() const { return done_; }

  // Who loads looks between two parts, and gives up with CANCELLED.
  void stop() { stopped_ = true; }
  bool stopped() const { return stopped_; }

 private:
  std::atomic<std::uint64_t> expected_ = 0;
  std::atomic<std::uint64_t> done_ = 0;
  std::atomic<bool> stopped_ = false;
};

}  // namespace sirocco

#include "daemon/slow_steps.h"

#include <fmt/format.h>

#include <utility>

namespace sirocco::daemon {
namespace {

constexpr std::chrono::seconds kInterval(10);
constexpr double kLeastSeconds = 0.1;         // that anybody notices
constexpr std::uint64_t kLearningSteps = 32;  // before anything can be expected

}  // namespace

void SlowSteps::set(double factor, std::uint32_t milliseconds) {
  const std::lock_guard lock(mutex_);
  factor_ = factor;
  seconds_ = milliseconds / 1000.0;
}

bool SlowSteps::is_slow(const StepFacts& step) const {
  if (seconds_ > 0 && step.seconds > seconds_) return true;
  return factor_ > 0 && step.step > kLearningSteps && step.seconds >= kLeastSeconds &&
         step.seconds > factor_ * step.expected_seconds;
}

std::optional<std::string> SlowSteps::line(const StepFacts& step, Time now) {
  const std::lock_guard lock(mutex_);
  if (!is_slow(step)) return std::nullopt;
  if (last_ && now - *last_ < kInterval) {
    ++left_out_;
    return std::nullopt;
  }
  last_ = now;
  const std::uint64_t left_out = std::exchange(left_out_, 0);
  return fmt::format(
      "slow step={} ms={:.0f} expected_ms={:.0f} sequences={} decode_rows={} prompt_rows={} experts_read={} "
      "read_bytes={} disk_wait_ms={:.0f} major_faults={} preemptions={}{}",
      step.step, step.seconds * 1000, step.expected_seconds * 1000, step.sequences, step.decode_rows, step.prompt_rows,
      step.experts_read, step.bytes_read, step.disk_seconds * 1000, step.major_faults, step.preemptions,
      left_out == 0 ? "" : fmt::format(" left_out={}", left_out));
}

}  // namespace sirocco::daemon

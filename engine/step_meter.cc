#include "engine/step_meter.h"

#include <sys/resource.h>

namespace sirocco {

StepMeter::Counts StepMeter::counts() const {
  rusage usage = {};
  getrusage(RUSAGE_SELF, &usage);
  return {.experts = parts_.slotted != nullptr ? parts_.slotted->counters() : ExpertCounters(),
          .major_faults = static_cast<std::uint64_t>(usage.ru_majflt),
          .preemptions = static_cast<std::uint64_t>(usage.ru_nivcsw)};
}

void StepMeter::begin() {
  if (parts_.step_watch) before_ = counts();
}

void StepMeter::end(StepFacts facts) {
  if (!parts_.step_watch) return;
  const Counts now = counts();
  const ExpertCounters experts = now.experts - before_.experts;
  facts.step = ++steps_;
  facts.experts_read = experts.misses;
  facts.bytes_read = experts.bytes_read;
  facts.disk_seconds = static_cast<double>(experts.wait_ns) / 1e9;
  facts.major_faults = now.major_faults - before_.major_faults;
  facts.preemptions = now.preemptions - before_.preemptions;
  parts_.step_watch(facts);
}

}  // namespace sirocco

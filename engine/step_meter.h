// What a step cost beside its time: counters before it, and what they have become. Part of engine.cc: used by the
// engine thread. Does nothing where nobody watches.
#pragma once

#include "engine/engine.h"

namespace sirocco {

class StepMeter {
 public:
  explicit StepMeter(const EngineParts& parts) : parts_(parts) {}

  void begin();
  // Tells the watcher; `facts` with what the caller knows.
  void end(StepFacts facts);

 private:
  struct Counts {
    ExpertCounters experts;
    std::uint64_t major_faults = 0;
    std::uint64_t preemptions = 0;
  };
  Counts counts() const;

  const EngineParts& parts_;
  Counts before_;
  std::uint64_t steps_ = 0;
};

}  // namespace sirocco

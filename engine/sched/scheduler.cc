#include "engine/sched/scheduler.h"

#include <algorithm>

namespace sirocco {

void plan_step(std::span<const SequenceState> sequences, std::uint32_t max_rows, std::vector<StepShare>& step) {
  step.clear();
  std::uint32_t left = max_rows;
  for (const bool decoding : {true, false}) {
    for (std::size_t i = 0; i < sequences.size() && left > 0; ++i) {
      const SequenceState& sequence = sequences[i];
      if (sequence.decoding != decoding || sequence.pending == 0) continue;
      const std::uint32_t rows = std::min(sequence.pending, left);
      step.push_back({.sequence = i, .rows = rows});
      left -= rows;
    }
  }
}

}  // namespace sirocco

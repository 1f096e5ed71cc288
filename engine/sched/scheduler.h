// Which rows make up the next step: a pure function of the state of the sequences. Decode rows first, so that running
// answers stay fluent; what is left of the step goes to prompts, in order of arrival.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace sirocco {

struct SequenceState {
  std::uint32_t pending = 0;  // tokens whose keys and values are not in the cache yet: 1 while decoding
  bool decoding = false;      // the prompt is done
};

struct StepShare {
  std::size_t sequence = 0;  // index into the states
  std::uint32_t rows = 0;    // of its pending tokens, from the first
};

// `sequences` in order of arrival. At most max_rows rows in all; a prompt may be cut anywhere. Empty if nothing pends.
void plan_step(std::span<const SequenceState> sequences, std::uint32_t max_rows, std::vector<StepShare>& step);

}  // namespace sirocco

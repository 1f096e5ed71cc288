// One forward pass over rows of several sequences: what goes in, and what comes out beside the logits. Plain values and
// views of the caller's memory.
#pragma once

#include <atomic>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "engine/base/ids.h"
#include "engine/base/result.h"
#include "kernels/token_choice.h"

namespace sirocco {

enum class WantLogits : std::uint8_t { none, last, all };

// Consecutive tokens of one sequence. The keys and values of all earlier positions are in the blocks already; those of
// these rows are written by the step.
struct StepSequence {
  std::span<const TokenId> tokens;       // [rows], each within the vocabulary
  std::uint32_t position = 0;            // of the first
  std::span<const BlockId> block_table;  // covers positions 0 to position + rows - 1
  WantLogits logits = WantLogits::last;
  // With WantLogits::last: that this is how the next token will be chosen. A backend may do that itself; see
  // StepReport.
  std::optional<TokenChoice> choice = std::nullopt;

  std::size_t logit_rows() const {
    return logits == WantLogits::none ? 0 : logits == WantLogits::last ? 1 : tokens.size();
  }
};

// A sequence that an expert of could not be had: its logits and the KV entries of its rows are void.
struct SequenceFailure {
  std::size_t sequence = 0;  // index in the step
  Error error;
};

// What a step says beside its logits.
struct StepReport {
  // [sequences] that the backend has chosen: of these the logits are void. kNoToken: there are logits. Empty: there are
  // all that were asked for.
  std::vector<TokenId> tokens;
  std::vector<SequenceFailure> failures;     // sequences that failed, while the others were computed
  std::vector<std::uint64_t> lossy_experts;  // [sequences] that their rows did without; empty where no mode is lossy
};

struct Step {
  std::span<const StepSequence> sequences;
  // Counts the step's signs of life, for who wonders whether a long one goes on; null: nobody.
  std::atomic<std::uint64_t>* pulse = nullptr;

  // After each layer, and each arrival of experts.
  void beat() const {
    if (pulse != nullptr) pulse->fetch_add(1, std::memory_order_relaxed);
  }
  std::size_t rows() const {
    std::size_t sum = 0;
    for (const StepSequence& s : sequences) sum += s.tokens.size();
    return sum;
  }
  std::size_t logit_rows() const {
    std::size_t sum = 0;
    for (const StepSequence& s : sequences) sum += s.logit_rows();
    return sum;
  }
};

}  // namespace sirocco

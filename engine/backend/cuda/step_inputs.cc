#include "engine/backend/cuda/step_inputs.h"

#include <algorithm>
#include <cassert>

namespace sirocco::cuda {

std::uint32_t splits_of(std::uint32_t positions, std::uint32_t window) {
  const std::uint32_t all = (positions + kAttentionSplit - 1) / kAttentionSplit;
  // A window that begins and ends within splits.
  return window == 0 ? all : std::min(all, (window + kAttentionSplit - 2) / kAttentionSplit + 1);
}

StepInputs StepInputs::lay_out(const StepLimits& limits, std::uint32_t block_tokens, Bump& memory) {
  StepInputs inputs;
  inputs.tokens = memory.take<std::int32_t>(limits.rows);
  inputs.positions = memory.take<std::uint32_t>(limits.rows);
  inputs.sequences = memory.take<std::uint32_t>(limits.rows);
  inputs.rows_of = memory.take<std::uint32_t>(limits.logit_rows);
  inputs.choices = memory.take<RowChoice>(limits.logit_rows);
  inputs.table_stride = (limits.context + block_tokens - 1) / block_tokens;
  inputs.block_tables = memory.take<std::uint32_t>(std::size_t{limits.rows} * inputs.table_stride);
  return inputs;
}

StepRows StepInputs::step_rows() const {
  return {.tokens = tokens,
          .positions = positions,
          .sequences = sequences,
          .block_tables = block_tables,
          .table_stride = table_stride};
}

StepShape write_inputs(const Step& step, std::uint32_t block_tokens, std::uint32_t window, const StepInputs& host,
                       std::size_t& bytes) {
  StepShape shape;
  std::uint32_t longest = 0;  // positions
  std::uint32_t* table = host.block_tables;
  for (std::uint32_t i = 0; i < step.sequences.size(); ++i) {
    const StepSequence& sequence = step.sequences[i];
    const auto rows = static_cast<std::uint32_t>(sequence.tokens.size());
    const std::uint32_t end = sequence.position + rows;
    const std::uint32_t blocks = (end + block_tokens - 1) / block_tokens;
    assert(blocks <= host.table_stride && blocks <= sequence.block_table.size());
    const std::uint32_t silent = sequence.logits == WantLogits::none   ? rows
                                 : sequence.logits == WantLogits::last ? rows - 1
                                                                       : 0;
    const bool chooses = sequence.logits == WantLogits::last && sequence.choice.has_value();
    shape.chooses = shape.chooses || chooses;
    for (std::uint32_t t = 0; t < rows; ++t) {
      if (t >= silent) {
        host.choices[shape.logit_rows] = {.choice = sequence.choice.value_or(TokenChoice()),
                                          .wanted = chooses ? 1U : 0U};
        host.rows_of[shape.logit_rows++] = shape.rows;
      }
      host.tokens[shape.rows] = sequence.tokens[t];
      host.positions[shape.rows] = sequence.position + t;
      host.sequences[shape.rows++] = i;
    }
    std::copy_n(sequence.block_table.begin(), blocks, table);
    table += host.table_stride;
    longest = std::max(longest, end);
  }
  shape.splits = splits_of(longest, window);
  bytes = static_cast<std::size_t>(reinterpret_cast<std::byte*>(table) - reinterpret_cast<std::byte*>(host.tokens));
  return shape;
}

}  // namespace sirocco::cuda

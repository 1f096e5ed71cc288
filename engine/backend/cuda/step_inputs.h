// What a step tells the kernels: tokens, positions, sequences, block tables, which rows want logits, and what for.
// Written to page-locked memory, copied to the device in one piece. The arrays stand at fixed places, so that graphs
// can be replayed.
#pragma once

#include "engine/backend/cuda/cuda_api.h"
#include "engine/model/forward.h"
#include "kernels/cuda/kernels.h"

namespace sirocco::cuda {

// What fixes the kernels of a step, and their grids.
struct StepShape {
  std::uint32_t rows = 0;
  std::uint32_t logit_rows = 0;
  std::uint32_t splits = 0;  // of attention, for the row that is farthest
  bool chooses = false;      // some logits become tokens
  bool operator==(const StepShape&) const = default;
};

// Of a sequence of so many positions; window: 0 for none.
std::uint32_t splits_of(std::uint32_t positions, std::uint32_t window);

struct StepInputs {
  std::int32_t* tokens = nullptr;         // [rows]
  std::uint32_t* positions = nullptr;     // [rows]
  std::uint32_t* sequences = nullptr;     // [rows]
  std::uint32_t* rows_of = nullptr;       // [logit_rows] rows that want logits
  RowChoice* choices = nullptr;           // [logit_rows]
  std::uint32_t* block_tables = nullptr;  // [rows, table_stride]: at most as many sequences as rows
  std::uint32_t table_stride = 0;

  // The same on the host and on the device.
  static StepInputs lay_out(const StepLimits& limits, std::uint32_t block_tokens, Bump& memory);

  StepRows step_rows() const;
};

// Fills `host`, and says how many bytes from host.tokens on the device needs.
StepShape write_inputs(const Step& step, std::uint32_t block_tokens, std::uint32_t window, const StepInputs& host,
                       std::size_t& bytes);

}  // namespace sirocco::cuda

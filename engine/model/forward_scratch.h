// The memory of a forward pass; included by forward*.cc alone.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "engine/model/forward.h"

namespace sirocco {

// One product for the pool: y = x w^T. x: [rows, inputs], y: [rows, outputs].
struct Forward::LinearTask {
  const Matrix* w = nullptr;
  std::span<const float> x;
  std::size_t rows = 0;
  std::span<float> y;
};

// All memory of a step, sized for the limits. `assignments` are (row, expert) pairs: rows * used of them.
struct Forward::Scratch {
  std::vector<float> x;                  // [rows, width] the residual stream
  std::vector<float> normed;             // [rows, width]
  std::vector<float> q;                  // [rows, heads * head_dim]
  std::vector<float> k;                  // [rows, kv_heads * head_dim]
  std::vector<float> v;                  // likewise
  std::vector<float> mixed;              // [rows, heads * head_dim] attention's result
  std::vector<float> branch;             // [rows, width] what is added to x
  std::vector<float> gate;               // [rows, ffn_width] or [assignments, expert width]
  std::vector<float> up;                 // likewise
  std::vector<float> final;              // [logit_rows, width]
  std::vector<std::uint32_t> positions;  // [rows]
  std::vector<float> frequencies;        // [rotated / 2]

  std::vector<float> router;          // [rows, experts]
  std::vector<std::uint32_t> chosen;  // [rows, used] experts, ascending
  std::vector<float> weights;         // [rows, used]
  std::vector<std::uint32_t> first;   // [experts + 1] where an expert's assignments begin
  std::vector<std::uint32_t> place;   // [rows, used] where an assignment went
  std::vector<float> grouped;         // [assignments, width] inputs, by expert
  std::vector<float> grouped_out;     // [assignments, width] outputs, by expert
  std::vector<Lease> leases;          // [experts]
  std::vector<LinearTask> tasks;      // [2 * experts]

  std::vector<std::vector<float>> weight_row;  // per thread: [largest inputs] a dequantised row
  std::vector<std::vector<float>> scores;      // per thread: [context], and the experts' probabilities
};

}  // namespace sirocco

// The choice of experts for a row from its router logits.
#pragma once

#include <cstdint>
#include <span>

namespace sirocco::ref {

struct RouteParameters {
  bool softmax_before_choice = true;  // softmax over all experts, then choose; else over the chosen logits alone
  bool normalise = true;              // the chosen weights are divided by their sum (with the softmax before)
  float scale = 1;                    // multiplies the weights at the end
};

// The `used` experts with the largest logits, ties to the lower index, in ascending order of index (the order in which
// their outputs are summed), with their weights. With one expert used and weights that sum to one, the weight is
// exactly 1.
//
//   logits   [experts] f32
//   experts  [used], filled with indices, ascending
//   weights  [used], of the same experts
//   scratch  [experts] f32
void route(const RouteParameters& parameters, std::span<const float> logits, std::span<std::uint32_t> experts,
           std::span<float> weights, std::span<float> scratch);

}  // namespace sirocco::ref

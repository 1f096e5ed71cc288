// The lossy modes: a row does without experts that would have to be read from disk. Off unless they are asked for; an
// answer that they touch depends on what happened to be in memory, and says so.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace sirocco {

struct LossyOptions {
  float skip_below = 0;     // of the sum of a row's routing weights, 0 to 1: weaker experts are skipped; 0: none
  bool substitute = false;  // by resident experts of the layer

  bool on() const { return skip_below > 0 || substitute; }
};

// Experts that rows did without; an expert counts for each row.
struct LossyCounts {
  std::uint64_t skipped = 0;
  std::uint64_t substituted = 0;
};

// Changes the routing of one row. Its strongest expert always stays, resident or not. Of the others, one that is not
// resident
//   is skipped if its weight is below the share of the row's sum; those that stay are scaled to the sum there was
//   or is replaced by the resident expert of the highest logit that the row does not use, which takes over its
//   weight; the heaviest is replaced first, and one for which none is left stays.
//
//   logits    [experts] f32, of the router
//   resident  [experts], 0 or 1
//   chosen    [used], ascending before and after; a skipped expert becomes the number of experts, which is the last
//   weights   [used], of the same experts
LossyCounts do_without(const LossyOptions& options, std::span<const float> logits,
                       std::span<const std::uint8_t> resident, std::span<std::uint32_t> chosen,
                       std::span<float> weights);

// What does not work as well as it should with these options, and which key says so.
std::vector<std::string> lossy_reasons(const LossyOptions& options);

}  // namespace sirocco

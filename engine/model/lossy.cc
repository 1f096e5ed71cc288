#include "engine/model/lossy.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>
#include <utility>

namespace sirocco {
namespace {

// The place of the heaviest expert that is not resident, but for the one at `strongest`; chosen.size() if there is
// none.
std::size_t heaviest_missing(std::span<const std::uint8_t> resident, std::span<const std::uint32_t> chosen,
                             std::span<const float> weights, std::size_t strongest) {
  std::size_t heaviest = chosen.size();
  for (std::size_t i = 0; i < chosen.size(); ++i) {
    if (i == strongest || chosen[i] == resident.size() || resident[chosen[i]] != 0) continue;
    if (heaviest == chosen.size() || weights[i] > weights[heaviest]) heaviest = i;
  }
  return heaviest;
}

// The resident expert of the highest logit that is not among the chosen; the number of experts if there is none.
std::size_t best_substitute(std::span<const float> logits, std::span<const std::uint8_t> resident,
                            std::span<const std::uint32_t> chosen) {
  std::size_t best = logits.size();
  for (std::size_t e = 0; e < logits.size(); ++e) {
    if (resident[e] == 0 || std::find(chosen.begin(), chosen.end(), e) != chosen.end()) continue;
    if (best == logits.size() || logits[e] > logits[best]) best = e;
  }
  return best;
}

void sort_by_expert(std::span<std::uint32_t> chosen, std::span<float> weights) {
  for (std::size_t i = 1; i < chosen.size(); ++i) {
    for (std::size_t at = i; at > 0 && chosen[at] < chosen[at - 1]; --at) {
      std::swap(chosen[at], chosen[at - 1]);
      std::swap(weights[at], weights[at - 1]);
    }
  }
}

}  // namespace

LossyCounts do_without(const LossyOptions& options, std::span<const float> logits,
                       std::span<const std::uint8_t> resident, std::span<std::uint32_t> chosen,
                       std::span<float> weights) {
  const auto skipped = static_cast<std::uint32_t>(logits.size());
  const auto strongest = static_cast<std::size_t>(std::max_element(weights.begin(), weights.end()) - weights.begin());
  const double sum = std::accumulate(weights.begin(), weights.end(), 0.0);
  LossyCounts counts;
  double kept = 0;
  for (std::size_t i = 0; i < chosen.size(); ++i) {
    if (i != strongest && resident[chosen[i]] == 0 && weights[i] < options.skip_below * sum) {
      chosen[i] = skipped;
      ++counts.skipped;
    } else {
      kept += weights[i];
    }
  }
  if (options.substitute) {
    for (std::size_t i = heaviest_missing(resident, chosen, weights, strongest); i != chosen.size();
         i = heaviest_missing(resident, chosen, weights, strongest)) {
      const std::size_t substitute = best_substitute(logits, resident, chosen);
      if (substitute == logits.size()) break;
      chosen[i] = static_cast<std::uint32_t>(substitute);
      ++counts.substituted;
    }
  }
  if (counts.skipped != 0)
    for (float& weight : weights) weight = static_cast<float>(weight * (sum / kept));
  if (counts.skipped + counts.substituted != 0) sort_by_expert(chosen, weights);
  return counts;
}

std::vector<std::string> lossy_reasons(const LossyOptions& options) {
  std::vector<std::string> reasons;
  if (options.skip_below > 0)
    reasons.push_back(fmt::format(
        "lossy: experts with less than {} of a token's routing weight are skipped when they are not in memory "
        "(lossy.skip_below)",
        options.skip_below));
  if (options.substitute)
    reasons.emplace_back(
        "lossy: all but a token's strongest expert are replaced by others when they are not in memory "
        "(lossy.substitute)");
  return reasons;
}

}  // namespace sirocco

#include "cli/finite_logits.h"

#include <algorithm>
#include <cmath>

namespace sirocco {

Result<void> check_finite(std::span<const float> logits, std::uint32_t position, std::string_view model) {
  if (std::all_of(logits.begin(), logits.end(), [](float logit) { return std::isfinite(logit); })) return {};
  return fail(ErrorCode::corrupt, "{0}: logits of position {1} are not numbers; run `sirocco model verify {0}`", model,
              position);
}

}  // namespace sirocco

// A token from a row of logits, by sorting all of them: the definition.
#pragma once

#include <cstdint>
#include <span>

#include "kernels/token_choice.h"

namespace sirocco::ref {

// Top-k, then top-p and min-p, each of what there is after top-k; then the token at which the weights of those that are
// left, added up from the most probable on (in the order of their ids without top-k and top-p), exceed the random part
// of their sum. Equal logits stand in the order of their ids; -infinity is never chosen. kNoToken if a logit is NaN or
// +infinity, or all are -infinity.
//
//   logits   [vocabulary] f32
//   scratch  [vocabulary]
std::int32_t choose_token(const TokenChoice& choice, std::span<const float> logits, std::span<std::uint32_t> scratch);

}  // namespace sirocco::ref

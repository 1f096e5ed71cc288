// Logits that are not numbers: the commands that compute them say so instead of printing or timing nonsense.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "engine/base/result.h"

namespace sirocco {

// An error if any of the logits of `position` is infinite or not a number. `model` is the path of its file.
Result<void> check_finite(std::span<const float> logits, std::uint32_t position, std::string_view model);

}  // namespace sirocco

// What the doctor says, for people and for programs.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <span>
#include <string>

#include "cli/finding.h"

namespace sirocco {

bool has_error(std::span<const Finding> findings);

// A line for each, what to do below it, and how many there are of each level.
std::string doctor_text(std::span<const Finding> findings);
nlohmann::ordered_json doctor_json(std::span<const Finding> findings);

}  // namespace sirocco

// kernels/cpu: the tables (kernels/kernels.h) of the instruction sets.
#pragma once

#include <span>
#include <string_view>

#include "kernels/kernels.h"

namespace sirocco::cpu {

// Those that this build has and this machine can run, best first. Empty where even the last wants more than the machine
// has: kernels/ref is left.
std::span<const Kernels* const> kernels();

// By the name that Kernels::isa has. Null: unknown here.
const Kernels* find_kernels(std::string_view isa);

}  // namespace sirocco::cpu

// Activations to int8.
#pragma once

#include "kernels/cpu/activations.h"

namespace sirocco::cpu::SIROCCO_ISA {

void quantise(ActivationFormat format, const float* x, std::size_t inputs, std::byte* row);

}  // namespace sirocco::cpu::SIROCCO_ISA

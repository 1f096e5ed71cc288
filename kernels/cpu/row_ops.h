// The ops that work along one row; what they compute is in kernels/kernels.h.
#pragma once

#include <cstddef>

#include "kernels/rope_parameters.h"

namespace sirocco::cpu::SIROCCO_ISA {

void rms_norm(const float* x, const float* weight, std::size_t width, float epsilon, float* y);
void rope(float* x, std::size_t heads, std::size_t head_dim, const float* cosines, const float* sines,
          std::size_t pairs, RopeStyle style);
void swiglu(const float* gate, const float* up, std::size_t n, float* y);

}  // namespace sirocco::cpu::SIROCCO_ISA

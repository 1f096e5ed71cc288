// The tables that the families' files define, for linear.cc.
#pragma once

#include "kernels/kernels.h"

namespace sirocco::cpu::SIROCCO_ISA {

extern const LinearFunctions linear_f32, linear_f16, linear_bf16;  // linear_float.cc
extern const LinearFunctions linear_q4_0, linear_q4_1;             // linear_q4.cc
extern const LinearFunctions linear_q5_0, linear_q5_1;             // linear_q5.cc
extern const LinearFunctions linear_q8_0;                          // linear_q8.cc
extern const LinearFunctions linear_iq4_nl, linear_mxfp4;          // linear_fp4.cc
extern const LinearFunctions linear_q2_k, linear_q3_k;             // linear_q2_k.cc
extern const LinearFunctions linear_q4_k, linear_q5_k;             // linear_q4_k.cc
extern const LinearFunctions linear_q6_k;                          // linear_q6_k.cc
extern const LinearFunctions linear_iq4_xs;                        // linear_iq4_xs.cc

}  // namespace sirocco::cpu::SIROCCO_ISA

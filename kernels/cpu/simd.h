// The vectors that the kernels of this folder are written in, once for every instruction set. A vector is 64 bytes
// whatever the registers: 64 bytes, 16 int32 or 16 floats, in one register (AVX-512), two (AVX2) or four (NEON). Each
// kernel file is compiled once for each instruction set, into a namespace of its own (SIROCCO_ISA).
//
// Every function gives the same bits on every instruction set: integers are exact, and each float function is one IEEE
// operation (fma: one rounding). simd_portable.h is the definition in plain C++ and says what each function does; tests
// compare the others with it.
#pragma once

#define SIROCCO_INLINE [[gnu::always_inline]] inline

#if defined(__AVX512VNNI__)
#include "kernels/cpu/simd_avx512.h"
#elif defined(__AVX2__)
#include "kernels/cpu/simd_avx2.h"
#elif defined(__ARM_FEATURE_DOTPROD)
#include "kernels/cpu/simd_neon.h"
#else
#include "kernels/cpu/simd_portable.h"
#endif

// The vectors that the kernels of this folder are written in, once for every instruction set. A vector is 64 bytes
// whatever the registers: 64 bytes, 32 int16, 16 int32 or 16 floats, in one register (AVX-512), two (AVX2) or four
// (NEON). Each kernel file is compiled once for each instruction set, into a namespace of its own (SIROCCO_ISA).
//
// Every function gives the same bits on every instruction set: integers are exact, and each float function is one IEEE
// operation (fma: one rounding). simd_portable.h is the definition in plain C++; tests compare the others with it.
//
//   bytes    load_bytes, store_bytes, broadcast_byte, add_bytes, xor_bytes, low_nibbles, high_nibbles, shift_left,
//            nibbles_of_32, nibbles_of_2x16, join_32, pairs_of_32, or_bit_of_32, or_bits, look_up
//   integers zero_ints, broadcast_int, load_ints, add, subtract, multiply, shift_left_ints, dot, dot_signed, dot_group,
//            dot_group_signed, dot_pairs, SubScales, dot_scaled, dot_scaled_signed, sum_pairs, Sum16, Mins16
//   floats   load_floats, store_floats, broadcast, to_floats, round_to_ints, add, subtract, multiply, divide, fma,
//            maximum, minimum, absolute, square_root, load_f16, store_f16, load_bf16, strided_f16, transpose
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

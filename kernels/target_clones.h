// SIROCCO_TARGET_CLONES before a function: gcc compiles it for AVX2 and for the baseline, and the loader picks one.
// Results are the same bits: AVX2 has no fused multiply-add, and -ffp-contract=off keeps the order of every sum.
//
// Not under ThreadSanitizer: gcc instruments the function that picks, which runs before the sanitizer has started.
#pragma once

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && !defined(__SANITIZE_THREAD__)
#define SIROCCO_TARGET_CLONES [[gnu::target_clones("avx2", "default")]]
#else
#define SIROCCO_TARGET_CLONES
#endif

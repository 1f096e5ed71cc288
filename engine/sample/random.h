// Random numbers for sampling: SplitMix64 (Steele, Lea, Flood 2014, "Fast splittable pseudorandom number generators"),
// as a function of seed and counter. It has no state, so the same seed gives the same text on every machine and with
// every standard library, and a sequence can go on from any token.
#pragma once

#include <cstdint>

namespace sirocco {

// Output number `n`, from 0, of the stream that starts at `seed`.
constexpr std::uint64_t split_mix_64(std::uint64_t seed, std::uint64_t n) {
  std::uint64_t z = seed + (n + 1) * 0x9E3779B97F4A7C15;  // 2^64 / golden ratio, odd
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;               // finaliser: Stafford's variant 13
  z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
  return z ^ (z >> 31);
}

// In [0, 1), a multiple of 2^-53: all the bits that a double holds.
constexpr double uniform(std::uint64_t seed, std::uint64_t n) {
  return static_cast<double>(split_mix_64(seed, n) >> 11) * 0x1p-53;
}

}  // namespace sirocco

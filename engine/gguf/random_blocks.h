// Random weights in any computable tensor type, for models that are only there to be measured or tested: every bit
// pattern of the quants, scales of one chosen size, so that what is computed with them stays in a sane range.
//
// Pure functions on the caller's memory; the same seed gives the same bytes on every machine.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "kernels/tensor_type.h"

namespace sirocco {

// Steele, Lea & Flood 2014: fast, tiny, and the same everywhere, unlike the distributions of <random>.
class SplitMix64 {
 public:
  explicit SplitMix64(std::uint64_t seed) : state_(seed) {}

  std::uint64_t next();
  std::uint64_t below(std::uint64_t limit);  // 0 to limit - 1
  float uniform();                           // -1 to 1, with variance 1/3

 private:
  std::uint64_t state_;
};

// Fills whole blocks whose dequantised values have mean 0 (nearly) and standard deviation `deviation`.
//
//   type    one with tensor_type_info(type)->computable
//   blocks  a whole number of its blocks
void fill_random_blocks(TensorType type, float deviation, SplitMix64& random, std::span<std::byte> blocks);

}  // namespace sirocco

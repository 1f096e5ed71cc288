// How a token is chosen from a row of logits, where nothing but the row matters: the arithmetic that engine/sample, the
// reference and the kernels share, so that all choose the same token.
//
// Probabilities are not divided by their sum: the most probable token's is 1. What is added up are weights, integers:
// their sums are exact in any order, so that a thousand threads and a loop agree.
#pragma once

#include <cstdint>

#include "kernels/host_device.h"

namespace sirocco {

struct TokenChoice {
  float temperature = 0;     // 0: the largest logit, the lowest id of equal ones
  float top_p = 1;           // 1: off; of the weights' sum after top-k
  float min_p = 0;           // 0: off; of the most probable token's probability
  std::uint32_t top_k = 0;   // 0: off; the k largest logits, and all that equal the k-th
  std::uint64_t random = 0;  // uniform over all 64 bits
};

// What stands for a token that has not been chosen.
inline constexpr std::int32_t kNoToken = -1;

// Weights are probabilities in units of 2^-44, rounded down; so many tokens do not overflow 64 bits.
inline constexpr std::uint32_t kMostTokens = 1U << 19;
inline constexpr float kWeightUnits = 0x1p44F;

SIROCCO_HOST_DEVICE inline std::uint64_t token_weight(float probability) {
  return static_cast<std::uint64_t>(static_cast<std::int64_t>(probability * kWeightUnits));
}

// e^x for x up to 0, within 2e-7 of it: plain multiplications and additions, so the same on every machine and, other
// than the library's, four or more at a time. Cephes' polynomial; below 1e-37 it is 0.
SIROCCO_HOST_DEVICE inline float exponential(float x) {
  constexpr float kLog2E = 1.44269504F;
  constexpr float kLn2High = 0.693359375F;
  constexpr float kLn2Low = -2.12194440e-4F;
  constexpr float kRound = 12582912.0F;  // 1.5 * 2^23: adding it leaves no fraction
  const float kept = x < -85.0F ? -85.0F : x;
  const float n = (kept * kLog2E + kRound) - kRound;
  const float r = (kept - n * kLn2High) - n * kLn2Low;
  float p = 1.9875691500e-4F;
  p = p * r + 1.3981999507e-3F;
  p = p * r + 8.3334519073e-3F;
  p = p * r + 4.1665795894e-2F;
  p = p * r + 1.6666665459e-1F;
  p = p * r + 5.0000001201e-1F;
  p = p * (r * r) + r + 1.0F;
  const float power = __builtin_bit_cast(float, (static_cast<std::int32_t>(n) + 127) << 23);
  return x < -85.0F ? 0.0F : p * power;
}

// What differences of logits are multiplied with; finite at the lowest temperatures too, or the highest logit's own
// difference, 0, would become NaN.
SIROCCO_HOST_DEVICE inline float inverse_temperature(float temperature) {
  constexpr float kLargest = 0x1.FFFFFEp127F;
  const float inverse = 1.0F / temperature;
  return inverse < kLargest ? inverse : kLargest;
}

// The sum of weights that the most probable tokens are kept to reach; at least one token is kept.
SIROCCO_HOST_DEVICE inline std::uint64_t top_p_weight(float top_p, std::uint64_t total) {
  const auto share = static_cast<std::uint64_t>(static_cast<double>(top_p) * static_cast<double>(total));
  return share == 0 ? 1 : share;
}

// Below this probability top-p certainly leaves tokens out: all those below it together, `vocabulary` at most, weigh
// less than it may leave out.
SIROCCO_HOST_DEVICE inline float below_top_p(float top_p, std::uint64_t total, std::uint32_t vocabulary) {
  const double rest = (1 - static_cast<double>(top_p)) * static_cast<double>(total) / vocabulary;
  return static_cast<float>(rest * (0.99 / static_cast<double>(kWeightUnits)));
}

// Which part of `total` the random number points at: less than it.
SIROCCO_HOST_DEVICE inline std::uint64_t drawn_weight(std::uint64_t random, std::uint64_t total) {
#ifdef __CUDA_ARCH__
  return __umul64hi(random, total);
#else
  __extension__ using Wide = unsigned __int128;
  return static_cast<std::uint64_t>(Wide{random} * total >> 64);
#endif
}

}  // namespace sirocco

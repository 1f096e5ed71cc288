#include "engine/gguf/random_blocks.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cassert>
#include <cmath>
#include <cstring>

#include "kernels/half.h"

namespace sirocco {
namespace {

constexpr std::size_t kNone = ~std::size_t{0};

// A quantised type's blocks under uniformly random bytes.
struct RandomLayout {
  TensorType type;
  std::size_t scale;    // offset of the f16 scale
  std::size_t minimum;  // offset of the f16 minimum, or kNone
  float minimum_ratio;  // minimum / scale that makes the mean 0: the mean quant
  float deviation;      // of the values while the scale is 1: sqrt(E[sub-scale^2] * E[(quant - mean)^2])
};

// 2^b equally likely quants centred on their mean have variance (4^b - 1) / 12; those that run from -2^(b-1) to
// 2^(b-1) - 1 have a mean square 1/4 larger. Sub-scales are random too: E[s^2] is 77.5 for 4 bits, 1333.5 for 6 bits,
// 341.5 for 6 bits less 32, 5461.5 for 8 bits with sign. 4548 is the mean square of IQ4's sixteen values.
constexpr std::array kLayouts = {
    RandomLayout{TensorType::q4_0, 0, kNone, 0, 4.637F},     // sqrt(21.5)
    RandomLayout{TensorType::q4_1, 0, 2, -7.5F, 4.610F},     // sqrt(21.25)
    RandomLayout{TensorType::q5_0, 0, kNone, 0, 9.247F},     // sqrt(85.5)
    RandomLayout{TensorType::q5_1, 0, 2, -15.5F, 9.233F},    // sqrt(85.25)
    RandomLayout{TensorType::q8_0, 0, kNone, 0, 73.90F},     // sqrt(5461.5)
    RandomLayout{TensorType::q2_k, 80, 82, 1.5F, 9.843F},    // sqrt(77.5 * 1.25)
    RandomLayout{TensorType::q3_k, 108, kNone, 0, 43.34F},   // sqrt(341.5 * 5.5)
    RandomLayout{TensorType::q4_k, 0, 2, 7.5F, 168.3F},      // sqrt(1333.5 * 21.25)
    RandomLayout{TensorType::q5_k, 0, 2, 15.5F, 337.2F},     // sqrt(1333.5 * 85.25)
    RandomLayout{TensorType::q6_k, 208, kNone, 0, 1365.7F},  // sqrt(5461.5 * 341.5)
    RandomLayout{TensorType::iq4_nl, 0, kNone, 0, 67.44F},   // sqrt(4548)
    RandomLayout{TensorType::iq4_xs, 0, kNone, 0, 1246.3F},  // sqrt(341.5 * 4548)
};

template <class T>
void store(std::byte* at, T value) {
  std::memcpy(at, &value, sizeof value);
}

void fill_bytes(SplitMix64& random, std::span<std::byte> bytes) {
  while (!bytes.empty()) {
    const std::uint64_t word = random.next();
    const std::size_t count = std::min(bytes.size(), sizeof word);
    std::memcpy(bytes.data(), &word, count);
    bytes = bytes.subspan(count);
  }
}

// Types of one number per element: uniform, whose standard deviation is 1/sqrt(3) of its range.
void fill_floats(TensorType type, float deviation, SplitMix64& random, std::span<std::byte> bytes) {
  const std::size_t size = tensor_type_info(type)->block_bytes;
  for (std::size_t i = 0; i < bytes.size(); i += size) {
    const float value = random.uniform() * deviation * 1.7320508F;
    if (type == TensorType::f32) store(&bytes[i], value);
    if (type == TensorType::f16) store(&bytes[i], f32_to_f16(value));
    if (type == TensorType::bf16) store(&bytes[i], f32_to_bf16(value));
  }
}

// The lower four bits in both halves of the byte.
std::byte twice(std::byte value) {
  return (value & std::byte{15}) | value << 4;
}

// The K-quants' minimum of a sub-block is sub-minimum * minimum; equal to the sub-scale it centres every sub-block.
void pair_sub_scales(TensorType type, std::byte* block) {
  if (type == TensorType::q2_k) {  // 16 bytes, sub-scale in the lower four bits, sub-minimum in the upper
    for (std::size_t i = 0; i < 16; ++i) block[i] = twice(block[i]);
  }
  if (type == TensorType::q4_k || type == TensorType::q5_k) {
    std::byte* const packed = block + 4;  // 12 bytes: 4 scales, 4 minima, then both nibbles of 4 more of each
    for (std::size_t i = 0; i < 4; ++i) {
      packed[i + 4] = packed[i];
      packed[i + 8] = twice(packed[i + 8]);
    }
  }
}

// MXFP4: the scale is a power of two; the sixteen values (0 to 6 with sign) have a mean square of 8.5625.
void fill_mxfp4(float deviation, SplitMix64& random, std::span<std::byte> blocks) {
  fill_bytes(random, blocks);
  const int exponent = static_cast<int>(std::lround(std::log2(deviation / 2.926F)));
  for (std::size_t i = 0; i < blocks.size(); i += 17) blocks[i] = static_cast<std::byte>(127 + exponent);
}

}  // namespace

std::uint64_t SplitMix64::next() {
  std::uint64_t z = (state_ += 0x9E3779B97F4A7C15U);
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9U;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBU;
  return z ^ (z >> 31);
}

std::uint64_t SplitMix64::below(std::uint64_t limit) {
  return next() % limit;  // the bias of less than limit / 2^64 does not matter here
}

float SplitMix64::uniform() {
  return static_cast<float>(next() >> 40) * 0x1p-23F - 1.0F;
}

void fill_random_blocks(TensorType type, float deviation, SplitMix64& random, std::span<std::byte> blocks) {
  const TensorTypeInfo& info = *tensor_type_info(type);
  assert(info.computable && blocks.size() % info.block_bytes == 0);
  if (info.block_size == 1) return fill_floats(type, deviation, random, blocks);
  if (type == TensorType::mxfp4) return fill_mxfp4(deviation, random, blocks);

  const auto* const layout =
      std::find_if(kLayouts.begin(), kLayouts.end(), [&](const RandomLayout& l) { return l.type == type; });
  assert(layout != kLayouts.end());
  fill_bytes(random, blocks);
  for (std::size_t at = 0; at < blocks.size(); at += info.block_bytes) {
    std::byte* const block = &blocks[at];
    // A tenth up or down, so that blocks with other scales can be told apart.
    const float scale = deviation / layout->deviation * (1.0F + 0.1F * random.uniform());
    store(block + layout->scale, f32_to_f16(scale));
    if (layout->minimum != kNone) store(block + layout->minimum, f32_to_f16(scale * layout->minimum_ratio));
    pair_sub_scales(type, block);
  }
}

}  // namespace sirocco

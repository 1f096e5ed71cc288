#include "kernels/cpu/quantise.h"

#include <cstring>

#include "kernels/cpu/simd.h"

namespace sirocco::cpu::SIROCCO_ISA {
namespace {

// The largest magnitude of n floats (a multiple of 16), found by their bits as integers: NaN is above infinity, and
// both are above all numbers, so that they reach the scale.
SIROCCO_INLINE float largest_magnitude(const float* x, std::size_t n) {
  Ints16 largest = zero_ints();
  for (std::size_t i = 0; i < n; i += 16)
    largest = maximum(largest, bit_and(as_ints(load_floats(x + i)), broadcast_int(0x7FFFFFFF)));
  return as_largest(largest);
}

// Writes n int8 and returns their scale.
SIROCCO_INLINE float quantise_block(const float* x, std::size_t n, std::int8_t* q) {
  const float largest = largest_magnitude(x, n);
  const Floats16 factor = broadcast(largest > 0 ? 127.0F / largest : 0.0F);
  for (std::size_t i = 0; i < n; i += 16) store_narrow(q + i, round_to_ints(multiply(load_floats(x + i), factor)));
  return largest / 127.0F;
}

void quantise_32(const float* x, std::size_t blocks, std::byte* to) {
  const ActivationRow32<std::byte> row(to, blocks);
  for (std::size_t block = 0; block < blocks; ++block) {
    std::int8_t* q = row.q + 32 * block;
    row.scale[block] = quantise_block(x + 32 * block, 32, q);
    row.sum[block] = sum_bytes_16(q) + sum_bytes_16(q + 16);
    row.scaled_sum[block] = row.scale[block] * static_cast<float>(row.sum[block]);
  }
  for (std::size_t block = blocks; block < blocks + kRepeatedBlocks; ++block) {
    std::memcpy(row.q + 32 * block, row.q + 32 * (block - blocks), 32);
    row.sum[block] = row.sum[block - blocks];
  }
}

void quantise_256(const float* x, std::size_t blocks, std::byte* to) {
  const ActivationRow256<std::byte> row(to, blocks);
  for (std::size_t block = 0; block < blocks; ++block) {
    std::int8_t* q = row.q + 256 * block;
    std::int16_t* sum16 = row.sum16 + 16 * block;
    row.scale[block] = quantise_block(x + 256 * block, 256, q);
    for (std::size_t i = 0; i < 16; ++i) sum16[i] = static_cast<std::int16_t>(sum_bytes_16(q + 16 * i));
    for (std::size_t i = 0; i < 8; ++i)
      row.sum32[8 * block + i] = static_cast<std::int16_t>(sum16[2 * i] + sum16[2 * i + 1]);
  }
  for (std::size_t block = blocks; block < blocks + kRepeatedBlocks; ++block) {
    std::memcpy(row.q + 256 * block, row.q + 256 * (block - blocks), 256);
    std::memcpy(row.sum16 + 16 * block, row.sum16 + 16 * (block - blocks), 16 * sizeof(std::int16_t));
    std::memcpy(row.sum32 + 8 * block, row.sum32 + 8 * (block - blocks), 8 * sizeof(std::int16_t));
  }
}

}  // namespace

void quantise(ActivationFormat format, const float* x, std::size_t inputs, std::byte* row) {
  if (format == ActivationFormat::q8_32) {
    quantise_32(x, inputs / 32, row);
  } else {
    quantise_256(x, inputs / 256, row);
  }
}

}  // namespace sirocco::cpu::SIROCCO_ISA

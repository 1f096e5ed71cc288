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

SIROCCO_INLINE float scale_of(float largest) {
  return largest / 127.0F;
}

// n floats (a multiple of 16) of a block whose largest magnitude is known.
SIROCCO_INLINE void quantise_to(const float* x, float largest, std::size_t n, std::int8_t* q) {
  // Below 2^-100 the quotient could be infinite: such a block is as good as zero.
  const Floats16 factor = broadcast(largest > 0x1p-100F ? 127.0F / largest : 0.0F);
  for (std::size_t i = 0; i < n; i += 16) store_narrow(q + i, round_to_ints(multiply(load_floats(x + i), factor)));
}

void quantise_32(const float* x, std::size_t blocks, std::byte* to) {
  const ActivationRow32<std::byte> row(to, blocks);
  for (std::size_t block = 0; block < blocks; ++block) {
    const float largest = largest_magnitude(x + 32 * block, 32);
    row.scale[block] = scale_of(largest);
    quantise_to(x + 32 * block, largest, 16, row.low + 16 * block);
    quantise_to(x + 32 * block + 16, largest, 16, row.high + 16 * block);
    row.sum[block] = sum_bytes_16(row.low + 16 * block) + sum_bytes_16(row.high + 16 * block);
    row.scaled_sum[block] = row.scale[block] * static_cast<float>(row.sum[block]);
  }
  for (std::size_t block = blocks; block < blocks + kRepeatedBlocks; ++block) {
    std::memcpy(row.low + 16 * block, row.low + 16 * (block - blocks), 16);
    std::memcpy(row.high + 16 * block, row.high + 16 * (block - blocks), 16);
    row.sum[block] = row.sum[block - blocks];
  }
}

void quantise_256(const float* x, std::size_t blocks, std::byte* to) {
  const ActivationRow256<std::byte> row(to, blocks);
  for (std::size_t block = 0; block < blocks; ++block) {
    std::int8_t* q = row.q + 256 * block;
    std::int16_t* sum16 = row.sum16 + 16 * block;
    const float largest = largest_magnitude(x + 256 * block, 256);
    row.scale[block] = scale_of(largest);
    for (std::size_t run = 0; run < 8; ++run) {
      std::int8_t* to_run = q + 32 * run_place(run);
      quantise_to(x + 256 * block + 32 * run, largest, 32, to_run);
      sum16[2 * run] = static_cast<std::int16_t>(sum_bytes_16(to_run));
      sum16[2 * run + 1] = static_cast<std::int16_t>(sum_bytes_16(to_run + 16));
      row.sum32[8 * block + run] = static_cast<std::int16_t>(sum16[2 * run] + sum16[2 * run + 1]);
    }
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

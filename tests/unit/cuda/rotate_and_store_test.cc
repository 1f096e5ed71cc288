#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <ostream>
#include <random>

#include "kernels/cuda/kernels.h"
#include "kernels/half.h"
#include "kernels/quant_blocks.h"
#include "kernels/ref/attention.h"
#include "kernels/ref/dequantize.h"
#include "kernels/ref/rms_norm.h"
#include "kernels/ref/rope.h"
#include "tests/unit/cuda/device.h"

namespace sirocco::cuda {
namespace {

constexpr float kEpsilon = 1e-5F;
constexpr std::uint32_t kBlocks = 5;

struct RotateCase {
  std::uint32_t heads;
  std::uint32_t kv_heads;
  std::uint32_t head_dim;
  std::uint32_t pairs;
  RopeStyle style;
  bool norms;
  std::uint32_t block_tokens;
  TensorType type;
};

void PrintTo(const RotateCase& c, std::ostream* out) {
  *out << c.heads << "/" << c.kv_heads << " heads of " << c.head_dim << ", " << c.pairs << " pairs, "
       << tensor_type_info(c.type)->name;
}

std::vector<float> random_floats(std::size_t n, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> floats(n);
  for (float& value : floats) value = normal(random);
  return floats;
}

// Three rows of two sequences whose blocks stand in any order.
class RotateAndStore : public testing::TestWithParam<RotateCase> {
 protected:
  std::size_t q_width() const { return c.heads * c.head_dim; }
  std::size_t kv_width() const { return c.kv_heads * c.head_dim; }
  std::size_t block_bytes() const { return kv_block_bytes(c.type, c.block_tokens, c.kv_heads, c.head_dim); }

  void run() {
    const test::Stream stream;
    const test::DeviceBuffer<std::uint32_t> device_positions(positions);
    const test::DeviceBuffer<std::uint32_t> device_sequences(sequences);
    const test::DeviceBuffer<std::uint32_t> device_tables(tables);
    const test::DeviceBuffer<float> device_q(q);
    const test::DeviceBuffer<float> device_k(k);
    const test::DeviceBuffer<float> device_v(v);
    const test::DeviceBuffer<float> device_q_norm(q_norm);
    const test::DeviceBuffer<float> device_k_norm(k_norm);
    const test::DeviceBuffer<float> device_cosines(cosines);
    const test::DeviceBuffer<float> device_sines(sines);
    const test::DeviceBuffer<std::byte> device_keys(std::vector<std::byte>(kBlocks * block_bytes(), std::byte{0xFF}));
    const test::DeviceBuffer<std::byte> device_values(std::vector<std::byte>(kBlocks * block_bytes(), std::byte{0xFF}));
    AttentionArguments arguments;
    arguments.rows = 3;
    arguments.heads = c.heads;
    arguments.kv_heads = c.kv_heads;
    arguments.head_dim = c.head_dim;
    arguments.step.positions = device_positions.data();
    arguments.step.sequences = device_sequences.data();
    arguments.step.block_tables = device_tables.data();
    arguments.step.table_stride = 2;
    arguments.kv = {device_keys.data(), device_values.data(), block_bytes(), c.block_tokens, c.type};
    arguments.q = device_q.data();
    arguments.k = device_k.data();
    arguments.v = device_v.data();
    arguments.q_norm = c.norms ? device_q_norm.data() : nullptr;
    arguments.k_norm = c.norms ? device_k_norm.data() : nullptr;
    arguments.epsilon = kEpsilon;
    arguments.cosines = device_cosines.data();
    arguments.sines = device_sines.data();
    arguments.pairs = c.pairs;
    arguments.style = c.style;
    ASSERT_EQ(rotate_and_store(arguments, stream), cudaSuccess);
    rotated = device_q.download();
    keys = device_keys.download();
    values = device_values.download();
  }

  // By kernels/ref; width of one row of x.
  std::vector<float> expected(std::vector<float> x, const std::vector<float>& norm) const {
    if (c.norms) ref::rms_norm(x, norm, kEpsilon, x);
    const std::size_t width = x.size() / 3;
    for (std::size_t row = 0; row < 3; ++row) {
      ref::rope(std::span(x).subspan(row * width, width), c.head_dim,
                std::span(cosines).subspan(row * c.pairs, c.pairs), std::span(sines).subspan(row * c.pairs, c.pairs),
                c.style);
    }
    return x;
  }

  // A head of a row as the cache has it, in floats: kernels.h says where.
  std::vector<float> cached(const std::vector<std::byte>& cache, std::size_t row, std::size_t head) const {
    const std::uint32_t position = positions[row];
    const std::size_t block = tables[sequences[row] * 2 + position / c.block_tokens];
    const std::size_t elements = c.block_tokens * c.head_dim;
    const std::size_t first = position % c.block_tokens * c.head_dim;
    const std::byte* part = cache.data() + block * block_bytes() + head * (block_bytes() / c.kv_heads);
    std::vector<float> result(c.head_dim);
    for (std::size_t d = 0; d < c.head_dim; ++d) {
      if (c.type == TensorType::f16) {
        result[d] = f16_to_f32(load_unaligned<std::uint16_t>(part + 2 * (first + d)));
      } else {
        const float scale = f16_to_f32(load_unaligned<std::uint16_t>(part + elements + 2 * ((first + d) / 32)));
        result[d] = scale * static_cast<float>(load_unaligned<std::int8_t>(part + first + d));
      }
    }
    return result;
  }

  // As kernels/ref stores x [head_dim].
  std::vector<float> stored(std::span<const float> x) const {
    const std::size_t bytes = ref::kv_block_bytes(c.type, 1, 1, c.head_dim);
    std::vector<std::byte> ref_keys(bytes);
    std::vector<std::byte> ref_values(bytes);
    const std::vector<std::uint32_t> table = {0};
    ref::kv_write({ref_keys.data(), ref_values.data(), bytes, table, 1, c.type}, 0, c.head_dim, x, x);
    std::vector<float> result(c.head_dim);
    ref::dequantize(c.type, ref_keys.data(), result);
    return result;
  }

  const RotateCase c = GetParam();
  const std::vector<std::uint32_t> positions = {c.block_tokens - 1, c.block_tokens, 3};
  const std::vector<std::uint32_t> sequences = {1, 1, 0};
  const std::vector<std::uint32_t> tables = {2, 1, 4, 0};
  std::vector<float> q = random_floats(3 * q_width(), 1);
  std::vector<float> k = random_floats(3 * kv_width(), 2);
  std::vector<float> v = random_floats(3 * kv_width(), 3);
  const std::vector<float> q_norm = random_floats(c.head_dim, 4);
  const std::vector<float> k_norm = random_floats(c.head_dim, 5);
  // Any numbers will do: nothing asks that they be of one angle. One, so that there is memory where there are no pairs.
  const std::vector<float> cosines = random_floats(3 * c.pairs + 1, 6);
  const std::vector<float> sines = random_floats(3 * c.pairs + 1, 7);
  std::vector<float> rotated;
  std::vector<std::byte> keys;
  std::vector<std::byte> values;
};

TEST_P(RotateAndStore, QueriesAreThoseOfTheReference) {
  SIROCCO_NEEDS_DEVICE();
  run();
  const std::vector<float> of_reference = expected(q, q_norm);
  // A sum of up to 256 squares in another order, and three roundings more.
  for (std::size_t i = 0; i < q.size(); ++i) ASSERT_NEAR(rotated[i], of_reference[i], 4e-6) << i;
}

TEST_P(RotateAndStore, ValuesAreStoredAsByTheReferenceBitForBit) {
  SIROCCO_NEEDS_DEVICE();
  v[5] = 70000;  // infinity in f16
  run();
  for (std::size_t row = 0; row < 3; ++row)
    for (std::size_t head = 0; head < c.kv_heads; ++head)
      ASSERT_EQ(cached(values, row, head),
                stored(std::span(v).subspan(row * kv_width() + head * c.head_dim, c.head_dim)));
}

TEST_P(RotateAndStore, KeysAreNormedAndRotatedAndStored) {
  SIROCCO_NEEDS_DEVICE();
  run();
  const std::vector<float> of_reference = expected(k, k_norm);
  for (std::size_t row = 0; row < 3; ++row) {
    for (std::size_t head = 0; head < c.kv_heads; ++head) {
      const auto key = std::span(of_reference).subspan(row * kv_width() + head * c.head_dim, c.head_dim);
      const std::vector<float> actual = cached(keys, row, head);
      for (std::size_t d = 0; d < c.head_dim; ++d) {
        float largest = 0;  // of the 32 that share a scale
        for (std::size_t i = d / 32 * 32; i < d / 32 * 32 + 32 && i < c.head_dim; ++i)
          largest = std::max(largest, std::abs(key[i]));
        // Half a step of the stored type (and of the scale), and a little for values beside the middle of two steps.
        const float step = c.type == TensorType::f16 ? std::abs(key[d]) * 0x1p-11F : largest * (0.5F / 127 + 0x1p-11F);
        ASSERT_NEAR(actual[d], key[d], step * 1.01F + 1e-6F) << "row " << row << ", head " << head << ", " << d;
      }
    }
  }
}

TEST_P(RotateAndStore, WhatIsNoNumberIsStoredAsSuch) {
  SIROCCO_NEEDS_DEVICE();
  v[3] = std::numeric_limits<float>::quiet_NaN();
  v[kv_width() + 1] = -std::numeric_limits<float>::infinity();
  run();
  EXPECT_TRUE(std::isnan(cached(values, 0, 0)[3]));
  EXPECT_FALSE(std::isfinite(cached(values, 1, 0)[1]));
}

constexpr RotateCase kCases[] = {
    {4, 2, 64, 32, RopeStyle::normal, false, 32, TensorType::f16},
    {3, 1, 128, 64, RopeStyle::neox, true, 16, TensorType::f16},
    {8, 4, 80, 16, RopeStyle::neox, false, 32, TensorType::f16},
    {2, 2, 16, 0, RopeStyle::normal, true, 8, TensorType::f16},
    {4, 2, 96, 40, RopeStyle::normal, true, 32, TensorType::q8_0},
    {1, 1, 256, 128, RopeStyle::neox, true, 64, TensorType::q8_0},
};
INSTANTIATE_TEST_SUITE_P(Shapes, RotateAndStore, testing::ValuesIn(kCases));

}  // namespace
}  // namespace sirocco::cuda

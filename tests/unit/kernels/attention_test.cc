#include "kernels/ref/attention.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <tuple>

#include "kernels/half.h"
#include "tests/unit/kernels/implementation.h"

namespace sirocco {
namespace {

struct AttentionCase {
  std::size_t heads;
  std::size_t kv_heads;
  std::size_t head_dim;
  std::uint32_t window;
  std::uint32_t positions;  // of the sequence, all written
  std::uint32_t block_tokens;
  TensorType type;
};

void PrintTo(const AttentionCase& c, std::ostream* out) {
  *out << c.heads << "/" << c.kv_heads << " heads of " << c.head_dim << ", window " << c.window << ", " << c.positions
       << " positions in blocks of " << c.block_tokens << ", " << tensor_type_info(c.type)->name;
}

constexpr AttentionCase kCases[] = {
    {1, 1, 16, 0, 1, 16, TensorType::f32},  {4, 4, 64, 0, 20, 16, TensorType::f32},
    {8, 2, 64, 0, 33, 16, TensorType::f32}, {9, 3, 64, 0, 40, 8, TensorType::f16},
    {4, 1, 128, 0, 17, 4, TensorType::f16}, {8, 2, 32, 5, 33, 16, TensorType::f32},
    {4, 2, 20, 1, 9, 4, TensorType::f32},   {4, 2, 64, 16, 50, 16, TensorType::f16},
    {2, 1, 7, 100, 12, 1, TensorType::f32},
};

// One sequence's cache. The blocks stand in the order of `table`, and whatever is not written is NaN.
struct Cache {
  Cache(const AttentionCase& c, std::vector<std::uint32_t> table_of_blocks)
      : table(std::move(table_of_blocks)),
        stride(row_bytes(c.type, c.block_tokens * c.kv_heads * c.head_dim)),
        keys((table.size() + 1) * stride, std::byte{0xFF}),
        values(keys),
        view{keys.data(), values.data(), stride, table, c.block_tokens, c.type} {}
  Cache(Cache&&) = default;  // a moved vector keeps its memory, which `view` points to; a copy would not

  std::vector<std::uint32_t> table;
  std::size_t stride;
  std::vector<std::byte> keys;
  std::vector<std::byte> values;
  ref::KvView view;
};

class Attention : public testing::TestWithParam<std::tuple<test::Implementation, AttentionCase>> {
 protected:
  std::size_t width() const { return c.kv_heads * c.head_dim; }

  std::vector<std::uint32_t> blocks_in_order() const {
    std::vector<std::uint32_t> table((c.positions + c.block_tokens - 1) / c.block_tokens);
    std::iota(table.begin(), table.end(), 0U);
    return table;
  }

  Cache written(std::vector<std::uint32_t> table) const {
    Cache cache(c, std::move(table));
    kernels.kv_write(cache.view, 0, c.kv_heads, c.head_dim, k, v);
    return cache;
  }

  std::vector<float> attend(const Cache& cache, std::uint32_t position, std::size_t head) const {
    const std::size_t seen = c.window == 0 ? position + 1 : std::min(position + 1, c.window);
    std::vector<float> y(c.head_dim);
    std::vector<float> scratch(seen);
    kernels.attention(shape, cache.view, position, head, {&q[head * c.head_dim], c.head_dim}, y, scratch);
    return y;
  }

  // As the cache keeps it.
  double stored(float value) const { return c.type == TensorType::f16 ? f16_to_f32(f32_to_f16(value)) : value; }

  // By the definition in double precision, with the mask written out: key j is seen by i where i - W < j <= i.
  std::vector<double> naive(std::uint32_t position, std::size_t head) const {
    const std::size_t column = head / (c.heads / c.kv_heads) * c.head_dim;
    std::vector<double> y(c.head_dim);
    double total = 0;
    for (std::size_t key = 0; key < c.positions; ++key) {
      if (key > position || (c.window != 0 && key + c.window <= position)) continue;
      double score = 0;
      for (std::size_t i = 0; i < c.head_dim; ++i) {
        score += double{q[head * c.head_dim + i]} * stored(k[key * width() + column + i]);
      }
      const double share = std::exp(score * shape.scale);
      total += share;
      for (std::size_t i = 0; i < c.head_dim; ++i) y[i] += share * stored(v[key * width() + column + i]);
    }
    for (double& value : y) value /= total;
    return y;
  }

  test::Implementation kernels = std::get<0>(GetParam());
  AttentionCase c = std::get<1>(GetParam());
  ref::AttentionShape shape{c.heads, c.kv_heads, c.head_dim, 1 / std::sqrt(static_cast<float>(c.head_dim)), c.window};
  std::vector<float> q = test::random_floats(c.heads * c.head_dim, 5);
  std::vector<float> k = test::random_floats(c.positions * width(), 6);
  std::vector<float> v = test::random_floats(c.positions * width(), 7);
};

TEST_P(Attention, IsTheMaskedSoftmaxInDoublePrecisionWithinTolerance) {
  const Cache cache = written(blocks_in_order());
  for (std::uint32_t position = 0; position < c.positions; ++position) {
    for (std::size_t head = 0; head < c.heads; ++head) {
      const std::vector<float> y = attend(cache, position, head);
      const std::vector<double> expected = naive(position, head);
      for (std::size_t i = 0; i < y.size(); ++i) {
        ASSERT_NEAR(y[i], expected[i], 4 * kernels.sum_tolerance) << position << ", " << head << ", " << i;
      }
    }
  }
}

TEST_P(Attention, FirstPositionIsItsOwnValue) {
  const Cache cache = written(blocks_in_order());
  for (std::size_t head = 0; head < c.heads; ++head) {
    const std::size_t column = head / (c.heads / c.kv_heads) * c.head_dim;
    const std::vector<float> y = attend(cache, 0, head);
    for (std::size_t i = 0; i < y.size(); ++i) ASSERT_EQ(y[i], stored(v[column + i]));
  }
}

TEST_P(Attention, PlaceOfTheBlocksDoesNotMatter) {
  std::vector<std::uint32_t> table = blocks_in_order();
  const Cache ordered = written(table);
  std::reverse(table.begin(), table.end());
  table.front() = static_cast<std::uint32_t>(table.size());  // one from outside the others
  const Cache scattered = written(table);
  for (std::size_t head = 0; head < c.heads; ++head) {
    EXPECT_EQ(attend(scattered, c.positions - 1, head), attend(ordered, c.positions - 1, head));
  }
}

TEST_P(Attention, WritingRowByRowFillsTheCacheAsWritingAtOnce) {
  const Cache at_once = written(blocks_in_order());
  Cache one_by_one(c, blocks_in_order());
  for (std::uint32_t position = 0; position < c.positions; ++position) {
    kernels.kv_write(one_by_one.view, position, c.kv_heads, c.head_dim, {&k[position * width()], width()},
                     {&v[position * width()], width()});
  }
  EXPECT_EQ(one_by_one.keys, at_once.keys);
  EXPECT_EQ(one_by_one.values, at_once.values);
}

TEST_P(Attention, KeysOutsideTheMaskAreNotRead) {
  const Cache cache = written(blocks_in_order());
  const std::uint32_t position = c.positions - 1 - c.positions / 4;  // later ones are in the cache already
  std::vector<float> expected = attend(cache, position, c.heads - 1);
  const std::vector<float> nan(width(), std::numeric_limits<float>::quiet_NaN());
  for (std::uint32_t key = 0; key < c.positions; ++key) {
    const bool seen = key <= position && (c.window == 0 || key + c.window > position);
    if (!seen) kernels.kv_write(cache.view, key, c.kv_heads, c.head_dim, nan, nan);
  }
  EXPECT_EQ(attend(cache, position, c.heads - 1), expected);
}

TEST_P(Attention, EarliestKeyOfTheWindowIsRead) {
  const Cache cache = written(blocks_in_order());
  const std::uint32_t position = c.positions - 1;
  const std::uint32_t earliest = c.window == 0 || c.window > position ? 0 : position - c.window + 1;
  const std::vector<float> nan(width(), std::numeric_limits<float>::quiet_NaN());
  kernels.kv_write(cache.view, earliest, c.kv_heads, c.head_dim, nan, nan);
  EXPECT_TRUE(std::isnan(attend(cache, position, 0)[0]));
}

INSTANTIATE_TEST_SUITE_P(Kernels, Attention,
                         testing::Combine(testing::ValuesIn(test::implementations().begin(),
                                                            test::implementations().end()),
                                          testing::ValuesIn(kCases)));

}  // namespace
}  // namespace sirocco

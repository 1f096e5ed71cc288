#include "kernels/attention_shape.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <random>
#include <tuple>

#include "kernels/cpu/kernels_isa.h"
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
    {1, 1, 16, 0, 1, 32, TensorType::f32},      {4, 4, 64, 0, 20, 32, TensorType::f32},
    {8, 2, 64, 0, 33, 32, TensorType::f32},     {9, 3, 64, 0, 40, 64, TensorType::f16},
    {4, 1, 128, 0, 17, 32, TensorType::f16},    {8, 2, 32, 5, 33, 32, TensorType::f32},
    {4, 2, 20, 1, 9, 32, TensorType::f32},      {4, 2, 64, 16, 50, 32, TensorType::f16},
    {2, 1, 7, 100, 12, 32, TensorType::f32},    {8, 1, 64, 0, 530, 32, TensorType::f16},
    {6, 2, 96, 70, 530, 64, TensorType::f32},   {4, 2, 64, 0, 300, 32, TensorType::q8_0},
    {3, 3, 128, 40, 270, 32, TensorType::q8_0},
};

// One sequence's cache. The blocks stand in the order of `table`, and whatever is not written is NaN.
struct Cache {
  Cache(const Kernels& kernels, const AttentionCase& c, std::vector<std::uint32_t> table_of_blocks)
      : table(std::move(table_of_blocks)),
        stride(kernels.kv_block_bytes(c.type, c.block_tokens, c.kv_heads, c.head_dim)),
        keys((table.size() + 1) * stride, std::byte{0xFF}),
        values(keys),
        view{keys.data(), values.data(), stride, table, c.block_tokens, c.type} {}
  Cache(Cache&&) = default;  // a moved vector keeps its memory, which `view` points to; a copy would not

  std::vector<std::uint32_t> table;
  std::size_t stride;
  std::vector<std::byte> keys;
  std::vector<std::byte> values;
  KvView view;
};

class Attention : public testing::TestWithParam<std::tuple<test::Implementation, AttentionCase>> {
 protected:
  std::size_t width() const { return c.kv_heads * c.head_dim; }
  std::size_t group() const { return c.heads / c.kv_heads; }

  std::vector<std::uint32_t> blocks_in_order() const {
    std::vector<std::uint32_t> table((c.positions + c.block_tokens - 1) / c.block_tokens);
    std::iota(table.begin(), table.end(), 0U);
    return table;
  }

  void write(Cache& cache, std::uint32_t position, const float* key, const float* value) const {
    kernels.kv_write(cache.view, position, c.kv_heads, c.head_dim, key, value);
  }
  Cache written(std::vector<std::uint32_t> table) const {
    Cache cache(kernels, c, std::move(table));
    for (std::uint32_t position = 0; position < c.positions; ++position)
      write(cache, position, &k[position * width()], &v[position * width()]);
    return cache;
  }

  const float* query(std::uint32_t position, std::size_t head) const {
    return &q[(position % 3 * c.heads + head) * c.head_dim];
  }

  // Queries that read one kv head, computed together: [queries, head_dim].
  std::vector<std::vector<float>> attend(const Cache& cache, std::size_t kv_head,
                                         const std::vector<AttentionQuery>& queries) const {
    const std::size_t part = attention_part_floats(c.head_dim);
    test::Aligned<float> scratch(attention_scratch_floats(c.head_dim));
    std::vector<float> parts(queries.size() * part);
    std::vector<float> states(parts.size());
    for (std::size_t i = 0; i < queries.size(); ++i) states[i * part] = -std::numeric_limits<float>::infinity();
    for (std::uint32_t piece = 0; piece * kAttentionPiece < c.positions; ++piece) {
      kernels.attend_piece(shape, cache.view, kv_head, queries.data(), queries.size(), piece, parts.data(),
                           scratch.data());
      for (std::size_t i = 0; i < queries.size(); ++i)
        kernels.fold_piece(&parts[i * part], c.head_dim, &states[i * part]);
    }
    std::vector<std::vector<float>> results;
    for (std::size_t i = 0; i < queries.size(); ++i) {
      results.emplace_back(&states[i * part + 2], &states[i * part + 2] + c.head_dim);
      for (float& value : results.back()) value /= states[i * part + 1];
    }
    return results;
  }
  std::vector<float> attend(const Cache& cache, std::uint32_t position, std::size_t head) const {
    return attend(cache, head / group(), {{query(position, head), position}})[0];
  }

  // As the cache keeps it: element i of the row [kv_heads * head_dim].
  double stored(const float* row, std::size_t i) const {
    if (c.type == TensorType::f16) return f16_to_f32(f32_to_f16(row[i]));
    if (c.type == TensorType::f32) return row[i];
    const float* block = row + i / 32 * 32;
    float largest = 0;
    for (std::size_t j = 0; j < 32; ++j) largest = std::max(largest, std::abs(block[j]));
    const double quotient = std::nearbyint(row[i] * (127.0F / largest));
    return quotient * f16_to_f32(f32_to_f16(largest / 127.0F));
  }

  // By the definition in double precision, with the mask written out: key j is seen by i where i - W < j <= i.
  std::vector<double> naive(std::uint32_t position, std::size_t head) const {
    const std::size_t column = head / (c.heads / c.kv_heads) * c.head_dim;
    std::vector<double> y(c.head_dim);
    double total = 0;
    for (std::size_t key = 0; key < c.positions; ++key) {
      if (key > position || (c.window != 0 && key + c.window <= position)) continue;
      double score = 0;
      for (std::size_t i = 0; i < c.head_dim; ++i) {
        score += double{query(position, head)[i]} * stored(&k[key * width()], column + i);
      }
      const double share = std::exp(score * shape.scale);
      total += share;
      for (std::size_t i = 0; i < c.head_dim; ++i) y[i] += share * stored(&v[key * width()], column + i);
    }
    for (double& value : y) value /= total;
    return y;
  }

  const Kernels& kernels = *std::get<0>(GetParam()).kernels;
  AttentionCase c = std::get<1>(GetParam());
  AttentionShape shape{c.heads, c.kv_heads, c.head_dim, 1 / std::sqrt(static_cast<float>(c.head_dim)), c.window};
  std::vector<float> q = test::random_floats(3 * c.heads * c.head_dim, 5);
  std::vector<float> k = test::random_floats(c.positions * width(), 6);
  std::vector<float> v = test::random_floats(c.positions * width(), 7);
  // Every position of a short sequence, and of a long one those around the ends of pieces and blocks.
  std::vector<std::uint32_t> positions() const {
    std::vector<std::uint32_t> some;
    for (std::uint32_t p = 0; p < c.positions; ++p)
      if (p < 70 || p % kAttentionPiece < 2 || p % kAttentionPiece > 253 || p + 1 == c.positions) some.push_back(p);
    return some;
  }
};

TEST_P(Attention, IsTheMaskedSoftmaxInDoublePrecisionWithinTolerance) {
  const Cache cache = written(blocks_in_order());
  for (const std::uint32_t position : positions()) {
    for (std::size_t head = 0; head < c.heads; ++head) {
      const std::vector<float> y = attend(cache, position, head);
      const std::vector<double> expected = naive(position, head);
      for (std::size_t i = 0; i < y.size(); ++i) {
        ASSERT_NEAR(y[i], expected[i], 4 * std::get<0>(GetParam()).sum_tolerance)
            << position << ", " << head << ", " << i;
      }
    }
  }
}

TEST_P(Attention, FirstPositionIsItsOwnValue) {
  const Cache cache = written(blocks_in_order());
  for (std::size_t head = 0; head < c.heads; ++head) {
    const std::size_t column = head / (c.heads / c.kv_heads) * c.head_dim;
    const std::vector<float> y = attend(cache, 0, head);
    for (std::size_t i = 0; i < y.size(); ++i) ASSERT_EQ(y[i], static_cast<float>(stored(v.data(), column + i)));
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

// As many as a call takes, at positions that see different keys: some none of a piece, some all.
TEST_P(Attention, QueriesComputedTogetherGetWhatEachGetsAlone) {
  const Cache cache = written(blocks_in_order());
  std::mt19937 random(3);
  for (std::size_t count = 1; count <= kMaxAttentionQueries; ++count) {
    for (std::size_t kv_head = 0; kv_head < c.kv_heads; ++kv_head) {
      std::vector<AttentionQuery> queries;
      for (std::size_t i = 0; i < count; ++i) {
        const auto position = static_cast<std::uint32_t>(random() % c.positions);
        queries.push_back({query(position, kv_head * group() + i % group()), position});
      }
      const auto together = attend(cache, kv_head, queries);
      for (std::size_t i = 0; i < count; ++i) ASSERT_EQ(together[i], attend(cache, kv_head, {queries[i]})[0]) << i;
    }
  }
}

TEST_P(Attention, EveryInstructionSetGivesTheSameBits) {
  if (kernels.backend != "cpu") GTEST_SKIP() << "only the tables of kernels/cpu promise it";
  const Cache cache = written(blocks_in_order());
  const Kernels& portable = cpu::portable::kTable;
  Cache same(portable, c, blocks_in_order());
  for (std::uint32_t position = 0; position < c.positions; ++position)
    portable.kv_write(same.view, position, c.kv_heads, c.head_dim, &k[position * width()], &v[position * width()]);
  ASSERT_EQ(cache.keys, same.keys);
  ASSERT_EQ(cache.values, same.values);
  const std::size_t part = attention_part_floats(c.head_dim);
  test::Aligned<float> scratch(attention_scratch_floats(c.head_dim));
  const AttentionQuery last = {query(c.positions - 1, 0), c.positions - 1};
  std::vector<float> ours(part);
  std::vector<float> theirs(part);
  for (std::uint32_t piece = 0; piece * kAttentionPiece < c.positions; ++piece) {
    kernels.attend_piece(shape, cache.view, 0, &last, 1, piece, ours.data(), scratch.data());
    portable.attend_piece(shape, same.view, 0, &last, 1, piece, theirs.data(), scratch.data());
    ASSERT_EQ(ours, theirs) << piece;
  }
}

TEST_P(Attention, KeysOutsideTheMaskAreNotRead) {
  Cache cache = written(blocks_in_order());
  const std::uint32_t position = c.positions - 1 - c.positions / 4;  // later ones are in the cache already
  std::vector<float> expected = attend(cache, position, c.heads - 1);
  const std::vector<float> nan(width(), std::numeric_limits<float>::quiet_NaN());
  for (std::uint32_t key = 0; key < c.positions; ++key) {
    const bool seen = key <= position && (c.window == 0 || key + c.window > position);
    if (!seen) write(cache, key, nan.data(), nan.data());
  }
  EXPECT_EQ(attend(cache, position, c.heads - 1), expected);
}

TEST_P(Attention, EarliestKeyOfTheWindowIsRead) {
  Cache cache = written(blocks_in_order());
  const std::uint32_t position = c.positions - 1;
  const std::uint32_t earliest = c.window == 0 || c.window > position ? 0 : position - c.window + 1;
  const std::vector<float> nan(width(), std::numeric_limits<float>::quiet_NaN());
  write(cache, earliest, nan.data(), nan.data());
  EXPECT_TRUE(std::isnan(attend(cache, position, 0)[0]));
}

INSTANTIATE_TEST_SUITE_P(Kernels, Attention,
                         testing::Combine(testing::ValuesIn(test::implementations().begin(),
                                                            test::implementations().end()),
                                          testing::ValuesIn(kCases)));

}  // namespace
}  // namespace sirocco

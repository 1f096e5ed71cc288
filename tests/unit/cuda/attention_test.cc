#include "kernels/ref/attention.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <memory>
#include <ostream>
#include <random>

#include "kernels/cuda/kernels.h"
#include "tests/unit/cuda/device.h"

namespace sirocco::cuda {
namespace {

struct AttentionCase {
  std::uint32_t heads;
  std::uint32_t kv_heads;
  std::uint32_t head_dim;
  std::uint32_t window;
  std::uint32_t block_tokens;
  TensorType type;
};

void PrintTo(const AttentionCase& c, std::ostream* out) {
  *out << c.heads << "/" << c.kv_heads << " heads of " << c.head_dim << ", window " << c.window << ", blocks of "
       << c.block_tokens << ", " << tensor_type_info(c.type)->name;
}

struct Row {
  std::uint32_t sequence;
  std::uint32_t position;
};

// Rows of one sequence in a run.
std::vector<Row> rows_of(std::uint32_t sequence, std::uint32_t first, std::uint32_t last) {
  std::vector<Row> rows;
  for (std::uint32_t position = first; position <= last; ++position) rows.push_back({sequence, position});
  return rows;
}

std::vector<Row> operator+(std::vector<Row> a, const std::vector<Row>& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

class Attention : public testing::TestWithParam<AttentionCase> {
 protected:
  std::size_t q_width() const { return c.heads * c.head_dim; }
  std::size_t kv_width() const { return c.kv_heads * c.head_dim; }
  std::uint32_t table_stride() const { return (lengths[0] + c.block_tokens) / c.block_tokens; }

  // Of a row, normally distributed and always the same; what: 0 q, 1 k, 2 v.
  std::vector<float> random_row(Row row, unsigned what) const {
    const std::size_t width = what == 0 ? q_width() : kv_width();
    std::mt19937 random(row.position * 16 + row.sequence * 4 + what);
    std::normal_distribution<float> normal;
    std::vector<float> floats(width);
    for (float& value : floats) value = normal(random);
    if (what == 2 && row.sequence == broken.sequence && row.position == broken.position)
      floats[1] = std::numeric_limits<float>::quiet_NaN();
    return floats;
  }

  std::vector<float> random_rows(const std::vector<Row>& rows, unsigned what) const {
    std::vector<float> all;
    for (const Row row : rows) {
      const std::vector<float> one = random_row(row, what);
      all.insert(all.end(), one.begin(), one.end());
    }
    return all;
  }

  // Rows on the device, as a step has them.
  struct Step {
    Step(const Attention& test, const std::vector<Row>& rows)
        : q(test.random_rows(rows, 0)), positions(rows.size()), sequences(rows.size()) {
      std::vector<std::uint32_t> of_rows;
      for (const Row row : rows) of_rows.push_back(row.position);
      positions.upload(of_rows);
      of_rows.clear();
      for (const Row row : rows) of_rows.push_back(row.sequence);
      sequences.upload(of_rows);
    }
    test::DeviceBuffer<float> q;
    test::DeviceBuffer<std::uint32_t> positions;
    test::DeviceBuffer<std::uint32_t> sequences;
  };

  AttentionArguments arguments(const Step& step) const {
    AttentionArguments arguments;
    arguments.rows = static_cast<std::uint32_t>(step.positions.size());
    arguments.heads = c.heads;
    arguments.kv_heads = c.kv_heads;
    arguments.head_dim = c.head_dim;
    arguments.scale = 1 / std::sqrt(static_cast<float>(c.head_dim));
    arguments.window = c.window;
    arguments.step.positions = step.positions.data();
    arguments.step.sequences = step.sequences.data();
    arguments.step.block_tables = tables->data();
    arguments.step.table_stride = table_stride();
    arguments.kv = {keys->data(), values->data(), kv_block_bytes(c.type, c.block_tokens, c.kv_heads, c.head_dim),
                    c.block_tokens, c.type};
    arguments.q = step.q.data();
    return arguments;
  }

  // Keys and values of all positions. The blocks of the sequences are mixed; what is not written is NaN.
  void write_cache() {
    std::vector<std::uint32_t> blocks(3 * table_stride());
    for (std::uint32_t i = 0; i < blocks.size(); ++i) blocks[i] = i;
    std::shuffle(blocks.begin(), blocks.end(), std::mt19937(7));
    const std::size_t bytes = blocks.size() * kv_block_bytes(c.type, c.block_tokens, c.kv_heads, c.head_dim);
    tables = std::make_unique<test::DeviceBuffer<std::uint32_t>>(blocks);
    keys = std::make_unique<test::DeviceBuffer<std::byte>>(std::vector<std::byte>(bytes, std::byte{0xFF}));
    values = std::make_unique<test::DeviceBuffer<std::byte>>(std::vector<std::byte>(bytes, std::byte{0xFF}));
    std::vector<Row> rows;
    for (std::uint32_t sequence = 0; sequence < 3; ++sequence)
      rows = rows + rows_of(sequence, 0, lengths[sequence] - 1);
    const Step step(*this, rows);
    const test::DeviceBuffer<float> k(random_rows(rows, 1));
    const test::DeviceBuffer<float> v(random_rows(rows, 2));
    AttentionArguments all = arguments(step);
    all.heads = 0;  // of q
    all.k = k.data();
    all.v = v.data();
    const test::Stream stream;
    ASSERT_EQ(rotate_and_store(all, stream), cudaSuccess);
    stream.wait();
  }

  // [rows, heads * head_dim]
  std::vector<float> attend_rows(const std::vector<Row>& rows) const {
    const Step step(*this, rows);
    AttentionArguments all = arguments(step);
    std::uint32_t longest = 0;
    for (const Row row : rows) longest = std::max(longest, row.position + 1);
    if (c.window != 0) longest = std::min(longest, c.window + kAttentionSplit - 1);  // a window begins anywhere in one
    all.splits = (longest + kAttentionSplit - 1) / kAttentionSplit;
    const test::DeviceBuffer<std::byte> parts(attention_part_bytes(all.rows, c.heads, c.head_dim, all.splits));
    const test::DeviceBuffer<float> mixed(rows.size() * q_width());
    all.parts = reinterpret_cast<float*>(parts.data());
    all.mixed = mixed.data();
    const test::Stream stream;
    EXPECT_EQ(attend(all, stream), cudaSuccess);
    return mixed.download();
  }

  std::vector<float> of_row(const std::vector<float>& mixed, std::size_t row) const {
    return {mixed.begin() + static_cast<std::ptrdiff_t>(row * q_width()),
            mixed.begin() + static_cast<std::ptrdiff_t>((row + 1) * q_width())};
  }

  // A row by kernels/ref, on a cache of the same type.
  std::vector<float> expected(Row row) const {
    const std::size_t bytes = ref::kv_block_bytes(c.type, 1, c.kv_heads, c.head_dim);
    std::vector<std::byte> ref_keys((row.position + 1) * bytes);
    std::vector<std::byte> ref_values(ref_keys.size());
    std::vector<std::uint32_t> table;
    for (std::uint32_t position = 0; position <= row.position; ++position) table.push_back(position);
    const KvView kv{ref_keys.data(), ref_values.data(), bytes, table, 1, c.type};
    const AttentionShape shape{c.heads, c.kv_heads, c.head_dim, 1 / std::sqrt(static_cast<float>(c.head_dim)),
                               c.window};
    for (std::uint32_t position = shape.first_key(row.position); position <= row.position; ++position)
      ref::kv_write(kv, position, c.head_dim, random_row({row.sequence, position}, 1),
                    random_row({row.sequence, position}, 2));
    const std::vector<float> q = random_row(row, 0);
    std::vector<float> result;
    std::vector<float> part(attention_part_floats(c.head_dim));
    std::vector<float> state(part.size());
    std::vector<float> scratch(attention_scratch_floats(c.head_dim));
    for (std::size_t head = 0; head < c.heads; ++head) {
      ref::clear_part(state);
      for (std::uint32_t piece = 0; piece * kAttentionPiece <= row.position; ++piece) {
        ref::attend_piece(shape, kv, head / (c.heads / c.kv_heads), {&q[head * c.head_dim], row.position}, piece, part,
                          scratch);
        ref::fold_piece(part, state);
      }
      for (std::size_t d = 0; d < c.head_dim; ++d) result.push_back(state[2 + d] / state[1]);
    }
    return result;
  }

  const AttentionCase c = GetParam();
  // Positions of sequences 0, 1 and 2: one ends within a tile of keys, one at the end of one, one has few.
  std::uint32_t lengths[3] = {590, 320, 3};
  Row broken = {9, 0};  // whose value has a NaN in it
  std::unique_ptr<test::DeviceBuffer<std::uint32_t>> tables;
  std::unique_ptr<test::DeviceBuffer<std::byte>> keys;
  std::unique_ptr<test::DeviceBuffer<std::byte>> values;
};

// The bits: NaN is equal to itself.
bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

// q, the shares and (of q8_0) the cache's values are rounded to f16, 2^-12 of them on average. An error of a score
// is one of its share; those of hundreds of keys are independent. Values are 4 at most: half a step of f16 there.
constexpr float kTolerance = 2e-3F;

TEST_P(Attention, IsThatOfTheReference) {
  SIROCCO_NEEDS_DEVICE();
  write_cache();
  // 510 to 514: a tile of five that, with a window of 257, sees keys of three splits, and each of its rows of two.
  const std::vector<Row> few = rows_of(0, 509, 514) + std::vector<Row>{{0, 589}, {1, 63}, {1, 64}, {2, 0}};
  const std::vector<Row> many = rows_of(0, 250, 266) + rows_of(1, 319, 319) + rows_of(2, 0, 2);
  for (const std::vector<Row>& rows : {few, many}) {
    const std::vector<float> mixed = attend_rows(rows);
    for (std::size_t row = 0; row < rows.size(); ++row) {
      const std::vector<float> of_reference = expected(rows[row]);
      const std::vector<float> actual = of_row(mixed, row);
      for (std::size_t i = 0; i < actual.size(); ++i)
        ASSERT_NEAR(actual[i], of_reference[i], kTolerance) << "position " << rows[row].position << ", element " << i;
    }
  }
}

// Alone, with a few of its prompt, with many of it, cut here or there, among other sequences.
TEST_P(Attention, ARowIsTheSameBitsWhateverTheOthers) {
  SIROCCO_NEEDS_DEVICE();
  write_cache();
  const std::vector<Row> long_cut = rows_of(0, 247, 264) + rows_of(1, 319, 319);
  const std::vector<Row> other_cut = rows_of(1, 319, 319) + rows_of(2, 0, 2) + rows_of(0, 255, 275);
  const std::vector<Row> few = rows_of(0, 254, 259) + rows_of(1, 319, 319) + rows_of(2, 1, 2);
  const std::vector<float> in_long_cut = attend_rows(long_cut);
  const std::vector<float> in_other_cut = attend_rows(other_cut);
  const std::vector<float> in_few = attend_rows(few);
  const auto expect_in = [&](const std::vector<Row>& rows, const std::vector<float>& mixed, Row row,
                             const std::vector<float>& alone, const char* where) {
    for (std::size_t i = 0; i < rows.size(); ++i) {
      if (rows[i].sequence != row.sequence || rows[i].position != row.position) continue;
      EXPECT_TRUE(same_bits(of_row(mixed, i), alone)) << where << ", position " << row.position;
    }
  };
  for (const Row row : {Row{0, 255}, Row{0, 256}, Row{0, 259}, Row{0, 264}, Row{1, 319}, Row{2, 2}}) {
    const std::vector<float> alone = attend_rows({row});
    expect_in(long_cut, in_long_cut, row, alone, "long cut");
    expect_in(other_cut, in_other_cut, row, alone, "other cut");
    expect_in(few, in_few, row, alone, "few");
  }
}

// More tiles than attend() has blocks for at once: each row is one, beside a row of another sequence.
TEST_P(Attention, ManySequencesOfOneRowEachAreAsAlone) {
  SIROCCO_NEEDS_DEVICE();
  write_cache();
  std::vector<Row> rows;
  while (rows.size() < 70) rows = rows + std::vector<Row>{{1, 5}, {2, 2}};
  const std::vector<float> mixed = attend_rows(rows);
  const std::vector<float> alone[2] = {attend_rows({rows[0]}), attend_rows({rows[1]})};
  for (std::size_t row = 0; row < rows.size(); ++row) ASSERT_TRUE(same_bits(of_row(mixed, row), alone[row % 2])) << row;
}

// Position 260 has a NaN in its value. Rows before it in the same tiles do not see it.
TEST_P(Attention, AValueOfNanReachesNoRowThatDoesNotSeeIt) {
  SIROCCO_NEEDS_DEVICE();
  write_cache();
  const std::vector<Row> before = rows_of(0, 243, 259);
  const std::vector<Row> few = rows_of(0, 258, 261);
  const std::vector<float> sound = attend_rows(before);
  broken = {0, 260};
  write_cache();
  const std::vector<float> many = attend_rows(before + rows_of(0, 260, 264));
  EXPECT_TRUE(same_bits({many.begin(), many.begin() + static_cast<std::ptrdiff_t>(sound.size())}, sound));
  const std::vector<float> with_few = attend_rows(few);
  EXPECT_TRUE(same_bits(of_row(with_few, 0), of_row(sound, 15)));
  EXPECT_TRUE(same_bits(of_row(with_few, 1), of_row(sound, 16)));
  EXPECT_TRUE(std::isnan(of_row(with_few, 2)[1]));
  EXPECT_TRUE(std::isnan(of_row(many, 17)[1]));
  const bool later_see_it = c.window != 1;
  EXPECT_EQ(std::isnan(of_row(with_few, 3)[1]), later_see_it);
  EXPECT_EQ(std::isnan(of_row(many, 21)[1]), later_see_it);
}

// With or without the floats beside them; the last chunk of 256 is not whole.
TEST_P(Attention, QuantisesItsRowsAsQuantiseDoes) {
  SIROCCO_NEEDS_DEVICE();
  write_cache();
  const std::vector<Row> rows = {{1, 5}, {2, 2}};
  const auto width = static_cast<std::uint32_t>(q_width());
  const std::size_t chunks = (width + 255) / 256 * rows.size();
  struct Quantised {
    explicit Quantised(std::size_t count) : q(256 * count), sums(16 * count), scales(8 * count) {
      scales.upload(std::vector<float>(8 * count, 0));
    }
    Activations activations() const { return {q.data(), sums.data(), scales.data()}; }
    test::DeviceBuffer<std::int8_t> q;
    test::DeviceBuffer<std::int16_t> sums;
    test::DeviceBuffer<float> scales;
  };
  const std::vector<float> mixed = attend_rows(rows);
  const test::DeviceBuffer<float> device_mixed(mixed);
  const Quantised expected_32(chunks);
  const Quantised expected_256(chunks);
  const Quantised actual_32(chunks);
  const Quantised actual_256(chunks);
  const test::Stream stream;
  ASSERT_EQ(quantise(device_mixed.data(), 2, width, expected_32.activations(), expected_256.activations(), stream),
            cudaSuccess);
  const Step step(*this, rows);
  AttentionArguments all = arguments(step);
  all.splits = 1;
  const test::DeviceBuffer<std::byte> parts(attention_part_bytes(2, c.heads, c.head_dim, 1));
  all.parts = reinterpret_cast<float*>(parts.data());
  all.q8_32 = actual_32.activations();
  all.q8_256 = actual_256.activations();
  ASSERT_EQ(attend(all, stream), cudaSuccess);
  stream.wait();
  for (const auto& [actual, expected] : {std::pair(&actual_32, &expected_32), std::pair(&actual_256, &expected_256)}) {
    EXPECT_EQ(actual->q.download(), expected->q.download());
    EXPECT_EQ(actual->sums.download(), expected->sums.download());
    EXPECT_EQ(actual->scales.download(), expected->scales.download());
  }
}

constexpr AttentionCase kCases[] = {
    {4, 4, 16, 0, 32, TensorType::f16},   {8, 2, 64, 0, 32, TensorType::f16},   {9, 3, 48, 257, 16, TensorType::f16},
    {7, 1, 80, 0, 20, TensorType::f16},   {20, 1, 32, 0, 32, TensorType::f16},  {4, 2, 128, 70, 32, TensorType::f16},
    {2, 1, 256, 0, 32, TensorType::f16},  {8, 2, 64, 0, 32, TensorType::q8_0},  {6, 2, 96, 100, 64, TensorType::q8_0},
    {4, 1, 128, 0, 32, TensorType::q8_0}, {1, 1, 160, 0, 32, TensorType::q8_0}, {2, 2, 32, 1, 32, TensorType::q8_0},
};
INSTANTIATE_TEST_SUITE_P(Shapes, Attention, testing::ValuesIn(kCases));

// More splits than are read at once when they are folded.
class LongAttention : public Attention {};

TEST_P(LongAttention, ManySplitsAreFoldedInOrder) {
  SIROCCO_NEEDS_DEVICE();
  lengths[0] = 6000;
  write_cache();
  const std::vector<float> alone = attend_rows({{0, 5990}});
  const std::vector<float> of_reference = expected({0, 5990});
  for (std::size_t i = 0; i < alone.size(); ++i) ASSERT_NEAR(alone[i], of_reference[i], kTolerance) << i;
  EXPECT_TRUE(same_bits(of_row(attend_rows(rows_of(0, 5980, 5996)), 10), alone));
}

constexpr AttentionCase kLongCases[] = {{1, 1, 16, 0, 32, TensorType::f16}, {2, 1, 32, 5000, 32, TensorType::q8_0}};
INSTANTIATE_TEST_SUITE_P(Shapes, LongAttention, testing::ValuesIn(kLongCases));

}  // namespace
}  // namespace sirocco::cuda

// The integer products of kernels/cuda are those of kernels/cpu, bit for bit: every type, one row and many, tails of
// outputs and of inputs, several matrices at once, experts through lists.
#include <gtest/gtest.h>

#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "engine/gguf/random_blocks.h"
#include "kernels/cpu/kernels.h"
#include "kernels/cuda/kernels.h"
#include "kernels/ref/kernels.h"
#include "tests/unit/cuda/device.h"

namespace sirocco::cuda {
namespace {

using test::DeviceBuffer;

#ifdef CUDAEMU
constexpr bool kEmulated = true;
#else
constexpr bool kEmulated = false;
#endif

constexpr TensorType kTiled[] = {TensorType::q4_0,  TensorType::q4_1,   TensorType::q5_0,  TensorType::q5_1,
                                 TensorType::q8_0,  TensorType::iq4_nl, TensorType::mxfp4, TensorType::q2_k,
                                 TensorType::q3_k,  TensorType::q4_k,   TensorType::q5_k,  TensorType::q6_k,
                                 TensorType::iq4_xs};

struct HostMatrix {
  std::vector<std::byte> bytes;
  Matrix matrix;

  HostMatrix(TensorType type, std::size_t inputs, std::size_t outputs, SplitMix64& random)
      : bytes(outputs * row_bytes(type, inputs)), matrix{type, bytes.data(), inputs, outputs} {
    fill_random_blocks(type, 0.05F, random, bytes);
  }
};

// A matrix as the kernels want it.
struct OnDevice {
  DeviceBuffer<std::byte> memory;
  DeviceMatrix matrix;

  explicit OnDevice(const Matrix& m) : memory(tiles_of(m)) {
    matrix = {.type = m.type,
              .data = memory.data(),
              .inputs = static_cast<std::uint32_t>(m.inputs),
              .outputs = static_cast<std::uint32_t>(m.outputs)};
  }
  static std::vector<std::byte> tiles_of(const Matrix& m) {
    std::vector<std::byte> tiles(matrix_bytes(m.type, m.inputs, m.outputs));
    repack(m, 0, m.outputs, tiles.data());
    return tiles;
  }
};

struct DeviceRows {
  DeviceBuffer<float> f32;
  DeviceBuffer<std::int8_t> q[2];
  DeviceBuffer<std::int16_t> sums[2];
  DeviceBuffer<float> scales[2];
  Rows rows;

  DeviceRows(const std::vector<float>& x, std::size_t count, std::size_t inputs)
      : f32(x),
        q{DeviceBuffer<std::int8_t>(count * padded(inputs, 256)),
          DeviceBuffer<std::int8_t>(count * padded(inputs, 256))},
        sums{DeviceBuffer<std::int16_t>(count * padded(inputs, 256) / 16),
             DeviceBuffer<std::int16_t>(count * padded(inputs, 256) / 16)},
        scales{DeviceBuffer<float>(count * padded(inputs, 256) / 32),
               DeviceBuffer<float>(count * padded(inputs, 256) / 256)} {
    rows = {.f32 = f32.data(),
            .q8_32 = {.q = q[0].data(), .sums = sums[0].data(), .scales = scales[0].data()},
            .q8_256 = {.q = q[1].data(), .sums = sums[1].data(), .scales = scales[1].data()}};
  }
  void quantise(std::size_t count, std::size_t inputs, cudaStream_t stream) {
    test::must(cuda::quantise(f32.data(), static_cast<std::uint32_t>(count), static_cast<std::uint32_t>(inputs),
                              rows.q8_32, rows.q8_256, stream),
               "quantise");
  }
};

std::vector<float> random_rows(std::size_t count, std::size_t inputs, SplitMix64& random) {
  std::vector<float> x(count * inputs);
  for (float& value : x) value = random.uniform() * (random.below(50) == 0 ? 20.0F : 1.0F);
  return x;
}

// What kernels/cpu makes of one row.
std::vector<float> expected_row(const Matrix& w, const float* x) {
  const Kernels& kernels = *cpu::kernels().front();
  const ActivationFormat format = kernels.activation_format(w.type);
  std::vector<std::byte> row(kernels.activation_bytes(format, w.inputs) + 64);
  auto* aligned = row.data() + (64 - reinterpret_cast<std::uintptr_t>(row.data()) % 64) % 64;
  if (format == ActivationFormat::f32) {
    std::memcpy(aligned, x, w.inputs * sizeof(float));
  } else {
    kernels.quantise(format, x, w.inputs, aligned);
  }
  std::vector<float> scratch(row_scratch_floats(w.inputs) + 16);
  auto* aligned_scratch = scratch.data();
  while (reinterpret_cast<std::uintptr_t>(aligned_scratch) % 64 != 0) ++aligned_scratch;
  std::vector<float> y(w.outputs);
  const std::byte* const rows[] = {aligned};
  kernels.linear(w.type).rows(w, rows, 1, 0, w.outputs, y.data(), w.outputs, aligned_scratch);
  return y;
}

std::vector<float> expected_rows(const Matrix& w, const std::vector<float>& x, std::size_t count) {
  std::vector<float> y;
  for (std::size_t row = 0; row < count; ++row) {
    const std::vector<float> one = expected_row(w, x.data() + row * w.inputs);
    y.insert(y.end(), one.begin(), one.end());
  }
  return y;
}

std::size_t first_difference(const std::vector<float>& a, const std::vector<float>& b) {
  std::size_t i = 0;
  while (i < a.size() && a[i] == b[i]) ++i;
  return i;
}

#define EXPECT_SAME(got, want, row_size)                                                                            \
  do {                                                                                                              \
    const std::size_t at = first_difference(got, want);                                                             \
    EXPECT_EQ(at, (want).size()) << "row " << at / (row_size) << " output " << at % (row_size) << ": " << (got)[at] \
                                 << ", not " << (want)[at];                                                         \
  } while (false)

class LinearOf : public ::testing::TestWithParam<TensorType> {
 protected:
  void SetUp() override {
    SIROCCO_NEEDS_DEVICE();
    if (cpu::kernels().empty()) GTEST_SKIP() << "kernels/cpu has nothing for this machine to compare with";
  }
};

TEST_P(LinearOf, RowsAreThoseOfTheCpuBitForBit) {
  const TensorType type = GetParam();
  const std::size_t block = tensor_type_info(type)->block_size;
  SplitMix64 random(7 + static_cast<std::uint64_t>(type));
  const test::Stream stream;
  struct Shape {
    std::size_t inputs;
    std::size_t outputs;
  };
  for (const Shape shape : {Shape{256, 16}, Shape{block == 32 ? 576U : 768U, 40}, Shape{2560, 23}}) {
    if (kEmulated && shape.inputs > 1000) continue;
    const HostMatrix w(type, shape.inputs, shape.outputs, random);
    const OnDevice device(w.matrix);
    for (const std::size_t count : {1U, 2U, 8U, 9U, 17U, 32U, 33U, 130U}) {
      if (kEmulated && count > 33 && shape.inputs > 256) continue;
      SCOPED_TRACE(std::to_string(shape.inputs) + " inputs, " + std::to_string(count) + " rows");
      const std::vector<float> x = random_rows(count, shape.inputs, random);
      DeviceRows rows(x, count, shape.inputs);
      rows.quantise(count, shape.inputs, stream);
      const DeviceBuffer<float> y(count * shape.outputs);
      LinearArguments arguments = {.rows = static_cast<std::uint32_t>(count), .parts = 1, .part = {}, .x = rows.rows};
      arguments.part[0] = {.w = device.matrix, .y = y.data()};
      ASSERT_EQ(linear(arguments, stream), cudaSuccess);
      const std::vector<float> got = y.download();
      const std::vector<float> want = expected_rows(w.matrix, x, count);
      EXPECT_SAME(got, want, shape.outputs);
    }
  }
}

// silu(gate) * up, as kernels/cpu computes it.
std::vector<float> expected_gated(const Matrix& gate, const Matrix& up, const std::vector<float>& x,
                                  std::size_t count) {
  std::vector<float> y = expected_rows(gate, x, count);
  const std::vector<float> of_up = expected_rows(up, x, count);
  cpu::kernels().front()->swiglu(y.data(), of_up.data(), y.size(), y.data());
  return y;
}

TEST_P(LinearOf, GateAndUpAreThoseOfTheCpuBitForBit) {
  const TensorType type = GetParam();
  SplitMix64 random(70 + static_cast<std::uint64_t>(type));
  const test::Stream stream;
  const std::size_t inputs = 512;
  const std::size_t outputs = 40;
  const HostMatrix gate(type, inputs, outputs, random);
  const HostMatrix up(type, inputs, outputs, random);
  const OnDevice on_gate(gate.matrix);
  const OnDevice on_up(up.matrix);
  for (const std::size_t count : {1U, 5U, 12U, 40U}) {
    const std::vector<float> x = random_rows(count, inputs, random);
    DeviceRows rows(x, count, inputs);
    rows.quantise(count, inputs, stream);
    const DeviceBuffer<float> y(count * outputs);
    ASSERT_EQ(gated({.rows = static_cast<std::uint32_t>(count),
                     .gate = on_gate.matrix,
                     .up = on_up.matrix,
                     .x = rows.rows,
                     .y = y.data()},
                    stream),
              cudaSuccess);
    const std::vector<float> got = y.download();
    const std::vector<float> want = expected_gated(gate.matrix, up.matrix, x, count);
    EXPECT_SAME(got, want, outputs);
  }
}

// Lists as route() makes them, of a given choice.
struct Lists {
  std::vector<std::uint32_t> place, row_of, first;
  std::vector<ExpertTile> tiles;

  Lists(const std::vector<std::uint32_t>& chosen, std::size_t used, std::size_t experts, std::uint32_t tile_rows)
      : place(chosen.size()), row_of(chosen.size()), first(experts + 1) {
    std::uint32_t next = 0;
    for (std::uint32_t e = 0; e < experts; ++e) {
      first[e] = next;
      for (std::size_t a = 0; a < chosen.size(); ++a) {
        if (chosen[a] != e) continue;
        place[a] = next;
        row_of[next++] = static_cast<std::uint32_t>(a / used);
      }
      for (std::uint32_t at = first[e]; at < next; at += tile_rows)
        tiles.push_back({.expert = e, .first = at, .count = std::min(tile_rows, next - at)});
    }
    first[experts] = next;
  }
};

// Five experts, their up in `up_type`, gate and down in `type`.
void expect_experts(TensorType type, TensorType up_type, std::uint32_t width, std::uint32_t hidden) {
  SplitMix64 random(700 + static_cast<std::uint64_t>(type));
  const test::Stream stream;
  const std::uint32_t experts = 5;
  const std::uint32_t used = 2;
  std::vector<HostMatrix> gate, up, down;
  std::vector<std::unique_ptr<OnDevice>> on_device;
  std::vector<DeviceExpert> table(experts);
  for (DeviceExpert& expert : table) {
    gate.emplace_back(type, width, hidden, random);
    up.emplace_back(up_type, width, hidden, random);
    down.emplace_back(type, hidden, width, random);
    for (const HostMatrix* m : {&gate.back(), &up.back(), &down.back()})
      on_device.push_back(std::make_unique<OnDevice>(m->matrix));
    expert = {.gate = on_device[on_device.size() - 3]->matrix.data,
              .up = on_device[on_device.size() - 2]->matrix.data,
              .down = on_device.back()->matrix.data};
  }
  const DeviceBuffer<DeviceExpert> device_table(table);
  for (const std::uint32_t rows : {1U, 4U, 40U, 300U}) {
    if (kEmulated && rows > 100) continue;
    std::vector<std::uint32_t> chosen;
    for (std::uint32_t row = 0; row < rows; ++row) {
      const auto a = static_cast<std::uint32_t>(random.below(experts - 1));
      chosen.push_back(a);
      chosen.push_back(a + 1 + static_cast<std::uint32_t>(random.below(experts - 1 - a)));
    }
    const std::uint32_t tile_rows = expert_tile_rows(rows, used, experts);
    const Lists lists(chosen, used, experts, tile_rows);
    ASSERT_LE(lists.tiles.size(), max_expert_tiles(rows, used, experts, tile_rows));
    const DeviceBuffer<std::uint32_t> row_of(lists.row_of);
    const DeviceBuffer<ExpertTile> tiles(lists.tiles);
    const DeviceBuffer<std::uint32_t> tile_count(
        std::vector<std::uint32_t>{static_cast<std::uint32_t>(lists.tiles.size())});
    const std::vector<float> x = random_rows(rows, width, random);
    DeviceRows in(x, rows, width);
    in.quantise(rows, width, stream);
    const DeviceBuffer<float> h(std::size_t{rows} * used * hidden);
    const DeviceBuffer<float> of_up(h.size());
    ExpertArguments arguments = {};
    arguments.rows = rows;
    arguments.used = used;
    arguments.experts = experts;
    arguments.tile_rows = tile_rows;
    arguments.type = type;
    arguments.up_type = up_type;
    arguments.inputs = width;
    arguments.outputs = hidden;
    arguments.experts_table = device_table.data();
    arguments.lists.row_of = row_of.data();
    arguments.lists.tiles = tiles.data();
    arguments.lists.tile_count = tile_count.data();
    arguments.x = in.rows;
    arguments.y = h.data();
    arguments.of_up = of_up.data();
    ASSERT_EQ(expert_gate_up(arguments, stream), cudaSuccess);
    const std::vector<float> got_hidden = h.download();
    std::vector<float> want_hidden(got_hidden.size());
    for (std::size_t a = 0; a < chosen.size(); ++a) {
      const std::vector<float> row(x.begin() + static_cast<std::ptrdiff_t>(a / used * width),
                                   x.begin() + static_cast<std::ptrdiff_t>((a / used + 1) * width));
      const std::vector<float> y = expected_gated(gate[chosen[a]].matrix, up[chosen[a]].matrix, row, 1);
      std::copy(y.begin(), y.end(), want_hidden.begin() + static_cast<std::ptrdiff_t>(lists.place[a] * hidden));
    }
    EXPECT_SAME(got_hidden, want_hidden, hidden);

    DeviceRows middle(want_hidden, std::size_t{rows} * used, hidden);
    middle.quantise(std::size_t{rows} * used, hidden, stream);
    const DeviceBuffer<float> out(std::size_t{rows} * used * width);
    arguments.inputs = hidden;
    arguments.outputs = width;
    arguments.x = middle.rows;
    arguments.y = out.data();
    ASSERT_EQ(expert_down(arguments, stream), cudaSuccess);
    const std::vector<float> got = out.download();
    std::vector<float> want(got.size());
    for (std::size_t a = 0; a < chosen.size(); ++a) {
      const std::vector<float> y = expected_row(down[chosen[a]].matrix, want_hidden.data() + lists.place[a] * hidden);
      std::copy(y.begin(), y.end(), want.begin() + static_cast<std::ptrdiff_t>(lists.place[a] * width));
    }
    EXPECT_SAME(got, want, width);
  }
}

TEST_P(LinearOf, ExpertsAreThoseOfTheCpuBitForBit) {
  SIROCCO_NEEDS_DEVICE();
  expect_experts(GetParam(), GetParam(), 512, 256);
}

std::string name_of(const ::testing::TestParamInfo<TensorType>& info) {
  return std::string(tensor_type_info(info.param)->name);
}
INSTANTIATE_TEST_SUITE_P(Types, LinearOf, ::testing::ValuesIn(kTiled), name_of);

TEST(LinearOfFloats, FollowsTheReferenceAndDoesNotDependOnTheOtherRows) {
  SIROCCO_NEEDS_DEVICE();
  SplitMix64 random(11);
  const test::Stream stream;
  for (const TensorType type : {TensorType::f32, TensorType::f16, TensorType::bf16}) {
    for (const std::size_t outputs : {8U, 1030U}) {
      if (kEmulated && outputs > 1000) continue;
      const std::size_t inputs = 300;
      const std::size_t count = 6;
      const HostMatrix w(type, inputs, outputs, random);
      const OnDevice device(w.matrix);
      const std::vector<float> x = random_rows(count, inputs, random);
      const DeviceRows rows(x, count, inputs);
      const DeviceBuffer<float> y(count * outputs);
      const auto compute = [&](std::size_t first, std::size_t some) {
        LinearArguments arguments = {.rows = static_cast<std::uint32_t>(some), .parts = 1, .part = {}, .x = rows.rows};
        arguments.x.f32 += first * inputs;
        arguments.part[0] = {.w = device.matrix, .y = y.data()};
        EXPECT_EQ(linear(arguments, stream), cudaSuccess);
        return y.download();
      };
      const std::vector<float> all = compute(0, count);
      const std::vector<float> want = expected_rows(w.matrix, x, count);
      for (std::size_t i = 0; i < want.size(); ++i) ASSERT_NEAR(all[i], want[i], 1e-4F * (1 + std::abs(want[i])));
      for (std::size_t row = 0; row < count; ++row) {
        const std::vector<float> one = compute(row, 1);
        for (std::size_t i = 0; i < outputs; ++i) ASSERT_EQ(one[i], all[row * outputs + i]);
      }
    }
  }
}

TEST(ExpertsOfFloats, AreThoseOfTheCpuBitForBit) {
  SIROCCO_NEEDS_DEVICE();
  expect_experts(TensorType::f32, TensorType::f32, 64, 23);
  expect_experts(TensorType::f16, TensorType::f16, 40, 50);
  expect_experts(TensorType::bf16, TensorType::bf16, 96, 32);
}

TEST(ExpertsOfMixedTypes, AreThoseOfTheCpuBitForBit) {
  SIROCCO_NEEDS_DEVICE();
  expect_experts(TensorType::q8_0, TensorType::q4_0, 128, 64);
  expect_experts(TensorType::q4_k, TensorType::f16, 256, 256);
}

// --- rows between the products

TEST(Norm, AddsNormsAndGathersAsTheReferenceDoes) {
  SIROCCO_NEEDS_DEVICE();
  SplitMix64 random(13);
  const test::Stream stream;
  for (const std::size_t width : {64U, 576U, 1024U}) {
    const std::size_t count = 3;
    const std::vector<float> x = random_rows(count, width, random);
    const std::vector<float> branch = random_rows(count, width, random);
    const std::vector<float> weight = random_rows(1, width, random);
    const DeviceBuffer<float> device_x(x);
    const DeviceBuffer<float> device_branch(branch);
    const DeviceBuffer<float> device_weight(weight);
    const DeviceBuffer<float> normed(count * width);
    NormArguments arguments = {};
    arguments.rows = static_cast<std::uint32_t>(count);
    arguments.width = static_cast<std::uint32_t>(width);
    arguments.x = device_x.data();
    arguments.branch = device_branch.data();
    arguments.weight = device_weight.data();
    arguments.epsilon = 1e-5F;
    arguments.f32 = normed.data();
    ASSERT_EQ(norm(arguments, stream), cudaSuccess);
    const std::vector<float> got = normed.download();
    const std::vector<float> sum = device_x.download();
    std::vector<float> want(width);
    for (std::size_t row = 0; row < count; ++row) {
      std::vector<float> added(width);
      for (std::size_t i = 0; i < width; ++i) {
        added[i] = x[row * width + i] + branch[row * width + i];
        ASSERT_EQ(sum[row * width + i], added[i]);
      }
      ref::kernels().rms_norm(added.data(), weight.data(), width, 1e-5F, want.data());
      for (std::size_t i = 0; i < width; ++i)
        ASSERT_NEAR(got[row * width + i], want[i], 1e-5F * (1 + std::abs(want[i]))) << "row " << row << " at " << i;
    }

    // Of the last row alone, as it is now, without adding it again.
    const DeviceBuffer<std::uint32_t> rows_of(std::vector<std::uint32_t>{static_cast<std::uint32_t>(count - 1)});
    arguments.rows = 1;
    arguments.branch = nullptr;
    arguments.rows_of = rows_of.data();
    ASSERT_EQ(norm(arguments, stream), cudaSuccess);
    const std::vector<float> one = normed.download();
    for (std::size_t i = 0; i < width; ++i) ASSERT_EQ(one[i], got[(count - 1) * width + i]);
  }
}

TEST(Norm, AddsExpertsInTheOrderOfTheirIndices) {
  SIROCCO_NEEDS_DEVICE();
  SplitMix64 random(17);
  const test::Stream stream;
  const std::size_t width = 96;
  const std::size_t count = 4;
  const std::uint32_t used = 3;
  const std::vector<float> x = random_rows(count, width, random);
  const std::vector<float> out = random_rows(count * used, width, random);
  const std::vector<float> weights = random_rows(count, used, random);
  std::vector<std::uint32_t> place(count * used);
  for (std::uint32_t i = 0; i < place.size(); ++i) place[i] = (i * 5) % static_cast<std::uint32_t>(place.size());
  const DeviceBuffer<float> device_x(x);
  const DeviceBuffer<float> device_out(out);
  const DeviceBuffer<float> device_weights(weights);
  const DeviceBuffer<std::uint32_t> device_place(place);
  NormArguments arguments = {};
  arguments.rows = static_cast<std::uint32_t>(count);
  arguments.width = static_cast<std::uint32_t>(width);
  arguments.x = device_x.data();
  arguments.expert_out = device_out.data();
  arguments.place = device_place.data();
  arguments.expert_weights = device_weights.data();
  arguments.used = used;
  ASSERT_EQ(norm(arguments, stream), cudaSuccess);
  const std::vector<float> got = device_x.download();
  for (std::size_t row = 0; row < count; ++row) {
    for (std::size_t i = 0; i < width; ++i) {
      float sum = 0;
      for (std::size_t j = 0; j < used; ++j) sum += weights[row * used + j] * out[place[row * used + j] * width + i];
      ASSERT_EQ(got[row * width + i], x[row * width + i] + sum);
    }
  }
}

}  // namespace
}  // namespace sirocco::cuda

#include "kernels/ref/rope.h"

#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <sstream>
#include <string>
#include <tuple>

#include "tests/support/source_dir.h"
#include "tests/unit/kernels/implementation.h"

namespace sirocco {
namespace {

struct GoldenAngles {
  std::uint32_t position;
  std::vector<float> cosines;  // times the attention factor
  std::vector<float> sines;
};

struct GoldenRope {
  std::string name;
  ref::RopeParameters parameters;
  std::vector<float> factors;
  std::vector<float> frequencies;
  std::vector<GoldenAngles> angles;
};

std::vector<float> read_floats(std::istream& words, std::size_t n) {
  std::vector<float> values(n);
  for (float& value : values) words >> value;
  return values;
}

// The layout is in tests/golden/kernels/make_rope.py.
std::vector<GoldenRope> read_golden() {
  std::ifstream file(test::golden_dir() / "kernels" / "rope.txt");
  std::vector<GoldenRope> all;
  for (std::string line; std::getline(file, line);) {
    std::istringstream words(line);
    GoldenRope golden;
    ref::RopeParameters& p = golden.parameters;
    std::string scaling;
    std::size_t factors = 0;
    words >> golden.name >> p.rotated >> p.base >> scaling >> p.factor >> p.original_context >> p.beta_fast >>
        p.beta_slow >> p.attention_factor >> factors;
    p.scaling = scaling == "yarn"     ? ref::RopeScaling::yarn
                : scaling == "linear" ? ref::RopeScaling::linear
                                      : ref::RopeScaling::none;
    golden.factors = read_floats(words, factors);
    golden.frequencies = read_floats(words, p.rotated / 2);
    for (std::uint32_t position = 0; words >> position;) {
      GoldenAngles angles{position, read_floats(words, p.rotated / 2), {}};
      angles.sines = read_floats(words, p.rotated / 2);
      EXPECT_TRUE(words) << golden.name;
      golden.angles.push_back(std::move(angles));
    }
    all.push_back(std::move(golden));
  }
  return all;
}

// transformers raises the base to a rounded f32 exponent: its last places are not ours.
TEST(RopeFrequencies, AgreeWithTransformers) {
  const std::vector<GoldenRope> all = read_golden();
  ASSERT_EQ(all.size(), 10U);
  for (const GoldenRope& golden : all) {
    std::vector<float> frequencies(golden.frequencies.size());
    ref::rope_frequencies(golden.parameters, golden.factors, frequencies);
    for (std::size_t i = 0; i < frequencies.size(); ++i) {
      EXPECT_NEAR(frequencies[i], golden.frequencies[i], 2e-6 * golden.frequencies[i]) << golden.name << ", pair " << i;
    }
  }
}

class Rope : public testing::TestWithParam<std::tuple<test::Implementation, ref::RopeStyle>> {
 protected:
  std::size_t first_of(std::size_t pair) const { return style == ref::RopeStyle::normal ? 2 * pair : pair; }
  std::size_t second_of(std::size_t pair, std::size_t pairs) const {
    return style == ref::RopeStyle::normal ? 2 * pair + 1 : pair + pairs;
  }

  // Rotates rows [positions, heads, head_dim].
  void rope(std::vector<float>& x, std::size_t heads, std::size_t head_dim, std::span<const std::uint32_t> positions,
            std::span<const float> frequencies, float attention_factor) const {
    std::vector<float> cosines(frequencies.size());
    std::vector<float> sines(frequencies.size());
    for (std::size_t row = 0; row < positions.size(); ++row) {
      ref::rope_angles(positions[row], frequencies, attention_factor, cosines, sines);
      kernels.rope(x.data() + row * heads * head_dim, heads, head_dim, cosines.data(), sines.data(), cosines.size(),
                   style);
    }
  }

  const Kernels& kernels = *std::get<0>(GetParam()).kernels;
  ref::RopeStyle style = std::get<1>(GetParam());
};

// A head of pairs (1, 0) comes out as the cosines and sines of transformers' rotary embedding.
TEST_P(Rope, CosinesAndSinesAgreeWithTransformers) {
  for (const GoldenRope& golden : read_golden()) {
    ASSERT_EQ(golden.angles.size(), 4U);
    const std::size_t pairs = golden.frequencies.size();
    for (const GoldenAngles& angles : golden.angles) {
      std::vector<float> x(2 * pairs);
      for (std::size_t i = 0; i < pairs; ++i) x[first_of(i)] = 1;
      rope(x, 1, 2 * pairs, {&angles.position, 1}, golden.frequencies, golden.parameters.attention_factor);
      for (std::size_t i = 0; i < pairs; ++i) {
        EXPECT_NEAR(x[first_of(i)], angles.cosines[i], 3e-7) << golden.name << ", " << angles.position << ", " << i;
        EXPECT_NEAR(x[second_of(i, pairs)], angles.sines[i], 3e-7) << golden.name << ", " << angles.position;
      }
    }
  }
}

TEST_P(Rope, RotatesEachPairOfEachHeadByItsPositionAndLeavesTheRestOfTheHead) {
  constexpr std::size_t kHeads = 3;
  constexpr std::size_t kHeadDim = 20;
  const std::vector<float> frequencies = {1.0F, 0.25F, 0.0625F, 0.001F};
  const std::vector<std::uint32_t> positions = {5, 0, 1000};
  const std::vector<float> before = test::random_floats(positions.size() * kHeads * kHeadDim, 8);
  std::vector<float> expected = before;
  for (std::size_t head = 0; head < positions.size() * kHeads; ++head) {
    for (std::size_t i = 0; i < frequencies.size(); ++i) {
      const double angle = double{frequencies[i]} * positions[head / kHeads];
      const std::size_t a = head * kHeadDim + first_of(i);
      const std::size_t b = head * kHeadDim + second_of(i, frequencies.size());
      expected[a] = static_cast<float>(1.5 * (before[a] * std::cos(angle) - before[b] * std::sin(angle)));
      expected[b] = static_cast<float>(1.5 * (before[a] * std::sin(angle) + before[b] * std::cos(angle)));
    }
  }

  std::vector<float> x = before;
  rope(x, kHeads, kHeadDim, positions, frequencies, 1.5F);
  for (std::size_t i = 0; i < x.size(); ++i) {
    EXPECT_NEAR(x[i], expected[i], 1e-6) << i;
    if (i % kHeadDim >= 2 * frequencies.size()) {
      EXPECT_EQ(x[i], before[i]) << i;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Kernels, Rope,
                         testing::Combine(testing::ValuesIn(test::implementations().begin(),
                                                            test::implementations().end()),
                                          testing::Values(ref::RopeStyle::normal, ref::RopeStyle::neox)));

}  // namespace
}  // namespace sirocco

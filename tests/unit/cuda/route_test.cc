#include "kernels/ref/route.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <ostream>
#include <random>

#include "kernels/cuda/kernels.h"
#include "tests/unit/cuda/device.h"

namespace sirocco::cuda {
namespace {

struct RouteCase {
  std::uint32_t rows;
  std::uint32_t experts;
  std::uint32_t used;
  std::uint32_t tile_rows;
  bool softmax_before_choice = true;
  bool normalise = true;
  float scale = 1;
};

void PrintTo(const RouteCase& c, std::ostream* out) {
  *out << c.rows << " rows, " << c.used << " of " << c.experts << " experts, tiles of " << c.tile_rows;
}

// Device memory of ExpertLists.
struct Lists {
  explicit Lists(const RouteCase& c)
      : chosen(c.rows * c.used),
        weights(c.rows * c.used),
        place(c.rows * c.used),
        row_of(c.rows * c.used),
        first(c.experts + 1),
        tiles(max_expert_tiles(c.rows, c.used, c.experts, c.tile_rows)),
        tile_count(1) {}
  ExpertLists lists() const {
    return {chosen.data(), weights.data(), place.data(), row_of.data(), first.data(), tiles.data(), tile_count.data()};
  }

  test::DeviceBuffer<std::uint32_t> chosen;
  test::DeviceBuffer<float> weights;
  test::DeviceBuffer<std::uint32_t> place;
  test::DeviceBuffer<std::uint32_t> row_of;
  test::DeviceBuffer<std::uint32_t> first;
  test::DeviceBuffer<ExpertTile> tiles;
  test::DeviceBuffer<std::uint32_t> tile_count;
};

void run(const RouteCase& c, const std::vector<float>& logits, const Lists& lists,
         const DeviceExpert* experts_table = nullptr) {
  const test::Stream stream;
  const test::DeviceBuffer<float> device_logits(logits);
  const RouteArguments arguments{.rows = c.rows,
                                 .experts = c.experts,
                                 .used = c.used,
                                 .tile_rows = c.tile_rows,
                                 .softmax_before_choice = c.softmax_before_choice,
                                 .normalise = c.normalise,
                                 .scale = c.scale,
                                 .logits = device_logits.data(),
                                 .experts_table = experts_table,
                                 .lists = lists.lists()};
  ASSERT_EQ(route(arguments, stream), cudaSuccess);
  stream.wait();
}

// Few different values, so that there are many ties.
std::vector<float> logits_with_ties(std::size_t n, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> logits(n);
  for (float& logit : logits) logit = std::round(normal(random) * 8) / 4;
  return logits;
}

class Route : public testing::TestWithParam<RouteCase> {
 protected:
  // The choice of a row by kernels/ref.
  void expect_choice(const std::vector<float>& logits, const Lists& lists) const {
    const RouteCase c = GetParam();
    const std::vector<std::uint32_t> chosen = lists.chosen.download();
    const std::vector<float> weights = lists.weights.download();
    std::vector<std::uint32_t> expected(c.used);
    std::vector<float> expected_weights(c.used);
    std::vector<float> scratch(c.experts);
    for (std::size_t row = 0; row < c.rows; ++row) {
      ref::route({c.softmax_before_choice, c.normalise, c.scale}, std::span(logits).subspan(row * c.experts, c.experts),
                 expected, expected_weights, scratch);
      for (std::size_t i = 0; i < c.used; ++i) {
        ASSERT_EQ(chosen[row * c.used + i], expected[i]) << "row " << row;
        // Sums of up to 512 exponentials in f32, each exact to two units in the last place.
        ASSERT_NEAR(weights[row * c.used + i], expected_weights[i], 1e-6 * expected_weights[i]) << "row " << row;
      }
    }
  }

  // A stable sort of the assignments by expert, with tiles of the experts for which on_device(expert).
  template <class OnDevice>
  void expect_lists(const Lists& lists, OnDevice on_device) const {
    const RouteCase c = GetParam();
    const std::vector<std::uint32_t> chosen = lists.chosen.download();
    std::vector<std::vector<std::uint32_t>> assignments(c.experts);
    for (std::uint32_t i = 0; i < chosen.size(); ++i) assignments[chosen[i]].push_back(i);
    const std::vector<std::uint32_t> place = lists.place.download();
    const std::vector<std::uint32_t> row_of = lists.row_of.download();
    const std::vector<std::uint32_t> first = lists.first.download();
    const std::vector<ExpertTile> tiles = lists.tiles.download();
    std::uint32_t next = 0;
    std::uint32_t tile = 0;
    for (std::uint32_t expert = 0; expert < c.experts; ++expert) {
      ASSERT_EQ(first[expert], next);
      const std::uint32_t end = next + static_cast<std::uint32_t>(assignments[expert].size());
      for (std::uint32_t begin = next; on_device(expert) && begin < end; begin += c.tile_rows, ++tile) {
        ASSERT_EQ(tiles[tile].expert, expert);
        ASSERT_EQ(tiles[tile].first, begin);
        ASSERT_EQ(tiles[tile].count, std::min(c.tile_rows, end - begin));
      }
      for (const std::uint32_t assignment : assignments[expert]) {
        ASSERT_EQ(place[assignment], next);
        ASSERT_EQ(row_of[next++], assignment / c.used);
      }
    }
    EXPECT_EQ(first[c.experts], next);
    EXPECT_EQ(lists.tile_count.download()[0], tile);
  }
};

TEST_P(Route, ChoiceIsTheReferencesAndListsAreAStableSort) {
  SIROCCO_NEEDS_DEVICE();
  const RouteCase c = GetParam();
  const std::vector<float> logits = logits_with_ties(std::size_t{c.rows} * c.experts, c.rows);
  const Lists lists(c);
  run(c, logits, lists);
  expect_choice(logits, lists);
  expect_lists(lists, [](std::uint32_t) { return true; });
}

TEST_P(Route, ExpertsThatAreNotOnTheDeviceHavePlacesButNoTiles) {
  SIROCCO_NEEDS_DEVICE();
  const RouteCase c = GetParam();
  const auto on_device = [](std::uint32_t expert) { return expert * 7 % 3 == 0; };
  const std::byte weights{};
  std::vector<DeviceExpert> table(c.experts);
  for (std::uint32_t expert = 0; expert < c.experts; ++expert)
    if (on_device(expert)) table[expert] = {&weights, &weights, &weights};
  const test::DeviceBuffer<DeviceExpert> device_table(table);
  const std::vector<float> logits = logits_with_ties(std::size_t{c.rows} * c.experts, c.rows);
  const Lists lists(c);
  run(c, logits, lists, device_table.data());
  expect_choice(logits, lists);
  expect_lists(lists, on_device);
}

constexpr RouteCase kCases[] = {
    {1, 8, 2, 8, false},
    {1, 1, 1, 1},
    {1, 128, 8, 1, true, true, 2.5F},
    {1, 200, 6, 8, true, false},
    {1, 512, 10, 8},
    {2, 64, 8, 16, true, false},
    {8, 128, 8, 8},
    {7, 33, 33 - 2, 4},
    {9, 128, 8, 16},
    {65, 160, 6, 8, true, false, 16},
    {150, 8, 2, 64, false},
    {200, 512, 10, 16},
};
INSTANTIATE_TEST_SUITE_P(Shapes, Route, testing::ValuesIn(kCases));

TEST(RouteWeights, AreTheSameBitsWhateverTheOtherRows) {
  SIROCCO_NEEDS_DEVICE();
  constexpr RouteCase kMany{.rows = 20, .experts = 100, .used = 7, .tile_rows = 8};
  constexpr RouteCase kOne{.rows = 1, .experts = 100, .used = 7, .tile_rows = 8};
  const std::vector<float> logits = logits_with_ties(2000, 3);
  const Lists many(kMany);
  run(kMany, logits, many);
  const std::vector<float> all = many.weights.download();
  for (const std::uint32_t row : {0U, 13U, 19U}) {
    const Lists one(kOne);
    run(kOne, {logits.begin() + row * 100, logits.begin() + (row + 1) * 100}, one);
    EXPECT_EQ(one.weights.download(), std::vector<float>(all.begin() + row * 7, all.begin() + (row + 1) * 7));
  }
}

TEST(RouteWeights, OfOneExpertAreExactlyOne) {
  SIROCCO_NEEDS_DEVICE();
  for (const bool before : {true, false}) {
    const RouteCase c{.rows = 9, .experts = 60, .used = 1, .tile_rows = 8, .softmax_before_choice = before};
    const Lists lists(c);
    run(c, logits_with_ties(540, 1), lists);
    EXPECT_EQ(lists.weights.download(), std::vector<float>(9, 1));
  }
}

TEST(RouteWeights, ALogitOfNanIsChosenAndShows) {
  SIROCCO_NEEDS_DEVICE();
  const RouteCase c{.rows = 1, .experts = 40, .used = 2, .tile_rows = 8};
  std::vector<float> logits = logits_with_ties(40, 1);
  logits[38] = std::numeric_limits<float>::quiet_NaN();
  logits[3] = std::numeric_limits<float>::infinity();
  const Lists lists(c);
  run(c, logits, lists);
  EXPECT_EQ(lists.chosen.download(), (std::vector<std::uint32_t>{3, 38}));
  for (const float weight : lists.weights.download()) EXPECT_TRUE(std::isnan(weight));
}

TEST(RouteChoice, ZeroesOfBothSignsAreATie) {
  SIROCCO_NEEDS_DEVICE();
  const RouteCase c{.rows = 1, .experts = 4, .used = 2, .tile_rows = 8};
  const Lists lists(c);
  run(c, {-0.0F, 0.0F, -0.0F, 0.0F}, lists);
  EXPECT_EQ(lists.chosen.download(), (std::vector<std::uint32_t>{0, 1}));
}

}  // namespace
}  // namespace sirocco::cuda

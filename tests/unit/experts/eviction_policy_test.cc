#include "engine/experts/eviction_policy.h"

#include <gtest/gtest.h>

#include <vector>

namespace sirocco {
namespace {

EvictionMoment moment(std::uint64_t token, std::uint32_t layer, const std::vector<std::uint32_t>& in_layer) {
  return {.token = token,
          .layer = layer,
          .layers = static_cast<std::uint32_t>(in_layer.size()),
          .used = 1,
          .slots = 8,
          .in_layer = in_layer};
}

ExpertUse use(std::uint32_t layer, std::uint32_t index, std::initializer_list<std::uint64_t> tokens) {
  ExpertUse result;
  result.expert = {.layer = layer, .index = index};
  for (const std::uint64_t token : tokens) count_use(result, token, 1);
  return result;
}

TEST(EvictionPolicy, EveryNameMakesAPolicyOfThatName) {
  for (const std::string_view name : policy_names()) EXPECT_EQ(make_policy(name).value()->name(), name);
  EXPECT_EQ(make_policy("fifo").error().message(),
            "\"fifo\" is no eviction policy; there are: lfru, lru, layer-lru, class-lru");
}

TEST(EvictionPolicy, TheOnlyCandidateLeaves) {
  const std::vector<ExpertUse> uses = {use(1, 3, {9})};
  for (const std::string_view name : policy_names())
    EXPECT_EQ(make_policy(name).value()->choose(uses, moment(9, 1, {4, 4})), 0U) << name;
}

TEST(EvictionPolicy, LruTakesTheOldest) {
  const std::vector<ExpertUse> uses = {use(0, 1, {5}), use(1, 1, {3}), use(0, 2, {4})};
  for (const std::string_view name : {"lru", "class-lru"})
    EXPECT_EQ(make_policy(name).value()->choose(uses, moment(6, 0, {2, 2})), 1U) << name;
}

// In the middle of token 6, layer 1 is about to be computed: of the same age, what was just computed is needed last.
TEST(EvictionPolicy, TiesGoToTheLayerThatIsNeededLast) {
  const std::vector<ExpertUse> uses = {use(1, 0, {5}), use(2, 0, {5}), use(0, 0, {5}), use(3, 0, {5})};
  for (const std::string_view name : {"class-lru", "layer-lru"})
    EXPECT_EQ(make_policy(name).value()->choose(uses, moment(6, 0, {1, 1, 1, 1})), 2U) << name;
}

TEST(EvictionPolicy, ClassLruLeavesALayerWhatATokenUses) {
  const std::vector<ExpertUse> uses = {use(0, 0, {1}), use(1, 0, {9}), use(1, 1, {8})};
  const auto policy = make_policy("class-lru").value();
  EXPECT_EQ(policy->choose(uses, moment(9, 1, {2, 2})), 0U);
  EXPECT_EQ(policy->choose(uses, moment(9, 1, {1, 2})), 2U);  // layer 0 would have none
  EXPECT_EQ(policy->choose(uses, moment(9, 1, {1, 1})), 0U);  // nor layer 1
}

TEST(EvictionPolicy, LayerLruKeepsToItsShare) {
  const std::vector<ExpertUse> uses = {use(0, 0, {1}), use(1, 0, {9}), use(1, 1, {8})};
  const auto policy = make_policy("layer-lru").value();
  EXPECT_EQ(policy->choose(uses, moment(9, 1, {4, 4})), 2U);  // layer 1 has its four
  EXPECT_EQ(policy->choose(uses, moment(9, 1, {5, 3})), 0U);
}

TEST(EvictionPolicy, LfruKeepsWhatIsUsedOften) {
  const auto policy = make_policy("lfru").value();
  // Used in every token until 8 against once in 9.
  const std::vector<ExpertUse> uses = {use(0, 0, {1, 2, 3, 4, 5, 6, 7, 8}), use(0, 1, {9})};
  EXPECT_EQ(policy->choose(uses, moment(10, 0, {2, 2})), 1U);
  EXPECT_EQ(policy->choose(uses, moment(10, 0, {2, 2})), 1U);
  // What was used often long ago has had its time.
  const std::vector<ExpertUse> old = {use(0, 0, {1, 2, 3, 4, 5, 6, 7, 8}), use(0, 1, {999})};
  EXPECT_EQ(policy->choose(old, moment(1000, 0, {2, 2})), 0U);
}

TEST(EvictionPolicy, BeladyTakesTheLatestNextUse) {
  std::vector<ExpertUse> uses = {use(0, 0, {1}), use(0, 1, {1}), use(1, 0, {1})};
  uses[0].next = 7;
  uses[1].next = 9;
  uses[2].next = 8;
  EXPECT_EQ(make_policy("belady").value()->choose(uses, moment(2, 1, {2, 1})), 1U);
}

}  // namespace
}  // namespace sirocco

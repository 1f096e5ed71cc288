// Lossy modes over slots: what they change, what they may not, and that it is told.
#include "engine/model/lossy.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <thread>

#include "tests/support/serving_model.h"

namespace sirocco {
namespace {

using test::open_model;
using test::Serving;
using test::text_of;

constexpr LossyOptions kSkipAll = {.skip_below = 1, .substitute = false};
constexpr LossyOptions kSubstitute = {.skip_below = 0, .substitute = true};
constexpr std::array<LossyOptions, 3> kModes = {kSkipAll, kSubstitute, {.skip_below = 0.2F, .substitute = true}};

std::size_t experts_of(const Model& model) {
  return model.spec().layers * std::size_t{model.spec().moe->experts};
}

class LossyModels : public testing::TestWithParam<const char*> {};

TEST_P(LossyModels, ChangeNothingWhereEverythingIsInMemory) {
  const auto model = open_model(GetParam());
  const std::vector<TokenId> text = text_of(*model, 40, 1);
  const std::vector<float> expected = Serving(model, {}).logits(text, 20);
  std::vector<ExpertId> all;
  for (std::uint32_t layer = 0; layer < model->spec().layers; ++layer)
    for (std::uint32_t e = 0; e < model->spec().moe->experts; ++e) all.push_back({.layer = layer, .index = e});
  for (const LossyOptions& mode : kModes) {
    Serving mapped(model, {}, mode);
    EXPECT_EQ(mapped.logits(text, 20), expected);
    EXPECT_EQ(mapped.lossy_experts(), 0U);
    Serving slots(model, {.slots = all.size(), .queue = nullptr}, mode);
    slots.slotted()->preload(all);
    while (slots.slotted()->pump()) std::this_thread::yield();
    EXPECT_EQ(slots.logits(text, 20), expected);
    EXPECT_EQ(slots.lossy_experts(), 0U);
  }
}

TEST_P(LossyModels, TellWhatTheyChange) {
  const auto model = open_model(GetParam());
  const std::vector<TokenId> text = text_of(*model, 40, 2);
  const std::vector<float> expected = Serving(model, {}).logits(text, 20);
  for (const std::size_t slots : {experts_of(*model) / 3 + 1, experts_of(*model) / 2}) {
    Serving off(model, {.slots = slots, .queue = nullptr}, LossyOptions());
    EXPECT_EQ(off.logits(text, 20), expected);
    EXPECT_EQ(off.lossy_experts(), 0U);
    for (const LossyOptions& mode : kModes) {
      Serving run(model, {.slots = slots, .queue = nullptr}, mode);
      const std::vector<float> logits = run.logits(text, 20);
      EXPECT_NE(logits, expected);
      EXPECT_TRUE(std::all_of(logits.begin(), logits.end(), [](float x) { return std::isfinite(x); }));
      const ExpertCounters counters = run.slotted()->counters();
      EXPECT_GT(run.lossy_experts(), 0U);
      EXPECT_EQ(run.lossy_experts(), counters.skipped + counters.substituted);
      EXPECT_EQ(counters.skipped == 0, mode.skip_below == 0);
      EXPECT_TRUE(mode.substitute || counters.substituted == 0);
    }
  }
}

// The first token finds no expert in memory: of each layer the strongest is read and nothing else.
TEST_P(LossyModels, OfEachLayerTheStrongestIsAlwaysComputedWith) {
  const auto model = open_model(GetParam());
  const MoeSpec& moe = *model->spec().moe;
  for (const std::size_t slots : {std::size_t{2}, experts_of(*model)}) {
    Serving run(model, {.slots = slots, .queue = nullptr}, kSkipAll);
    run.logits(text_of(*model, 1, 3), 1);
    const ExpertCounters counters = run.slotted()->counters();
    EXPECT_EQ(counters.misses, model->spec().layers);
    EXPECT_EQ(counters.hits, 0U);
    EXPECT_EQ(counters.skipped, std::uint64_t{model->spec().layers} * (moe.used - 1));
  }
}

// Everything is in memory but one expert of each layer: nothing is read but where it is the strongest.
TEST_P(LossyModels, ASubstituteIsNeverRead) {
  const auto model = open_model(GetParam());
  const MoeSpec& moe = *model->spec().moe;
  std::vector<ExpertId> most;
  for (std::uint32_t layer = 0; layer < model->spec().layers; ++layer)
    for (std::uint32_t e = 1; e < moe.experts; ++e) most.push_back({.layer = layer, .index = e});
  std::uint64_t substituted = 0;
  for (unsigned seed = 0; seed < 20; ++seed) {
    Serving run(model, {.slots = experts_of(*model), .queue = nullptr}, kSubstitute);
    run.slotted()->preload(most);
    while (run.slotted()->pump()) std::this_thread::yield();
    run.logits(text_of(*model, 1, 10 + seed), 1);
    const ExpertCounters counters = run.slotted()->counters();
    EXPECT_EQ(counters.hits + counters.misses, std::uint64_t{model->spec().layers} * moe.used);
    EXPECT_LE(counters.misses + counters.substituted, model->spec().layers);
    substituted += counters.substituted;
  }
  EXPECT_GT(substituted, 0U);
}

INSTANTIATE_TEST_SUITE_P(Models, LossyModels, testing::Values("tiny-mixtral.gguf", "tiny-qwen3moe.gguf"),
                         [](const auto& parameter) {
                           return std::string(parameter.param).substr(5, std::string(parameter.param).find('.') - 5);
                         });

// The same experts are in memory, but one backend has computed with all of them before.
TEST(Lossy, NothingOfEarlierStepsStandsInForASkippedExpert) {
  const auto model = open_model("tiny-mixtral.gguf");
  const std::size_t slots = experts_of(*model);
  std::vector<ExpertId> all;
  for (std::uint32_t layer = 0; layer < model->spec().layers; ++layer)
    for (std::uint32_t e = 0; e < model->spec().moe->experts; ++e) all.push_back({.layer = layer, .index = e});
  const auto load = [](Serving& run, std::span<const ExpertId> experts) {
    run.slotted()->preload(experts);
    while (run.slotted()->pump()) std::this_thread::yield();
  };
  Serving used(model, {.slots = slots, .queue = nullptr}, kSkipAll);
  load(used, all);
  used.logits(text_of(*model, 40, 5), 40);
  for (const std::size_t left : {std::size_t{2}, slots}) {
    used.slotted()->set_slots(left);
    while (used.slotted()->pump()) std::this_thread::yield();
  }
  Serving fresh(model, {.slots = slots, .queue = nullptr}, kSkipAll);
  load(fresh, used.slotted()->hot_set());
  const std::vector<TokenId> text = text_of(*model, 1, 6);
  EXPECT_EQ(used.logits(text, 1), fresh.logits(text, 1));
  EXPECT_EQ(used.lossy_experts(), fresh.lossy_experts());
  EXPECT_GT(fresh.lossy_experts(), 0U);
}

TEST(Lossy, WhatHasArrivedIsInMemoryBeforeAnyoneHasLooked) {
  const auto model = open_model("tiny-mixtral.gguf");
  const std::vector<ExpertId> two = {{.layer = 0, .index = 0}, {.layer = 0, .index = 1}};
  std::uint64_t hits = 0;
  for (unsigned seed = 0; seed < 20; ++seed) {
    test::TestingQueue::Control control;
    Serving run(model, {.slots = experts_of(*model), .queue = test::testing_queue(control)}, kSkipAll);
    run.slotted()->preload(two);
    run.slotted()->pump();  // asks for both, and does not wait
    run.logits(text_of(*model, 1, 50 + seed), 1);
    hits += run.slotted()->counters().hits;
  }
  EXPECT_GT(hits, 0U);
}

// Two sequences, with one row and with two: what one does without is not told of the other.
TEST(Lossy, EachSequenceIsToldOfItsOwnRows) {
  const auto model = open_model("tiny-mixtral.gguf");
  const MoeSpec& moe = *model->spec().moe;
  Serving run(model, {.slots = experts_of(*model), .queue = nullptr}, kSkipAll);
  const std::vector<TokenId> text = text_of(*model, 3, 4);
  const std::vector<std::vector<BlockId>> tables = {{0, 1}, {2, 3}};
  const std::vector<StepSequence> sequences = {
      {.tokens = std::span(text).first(1), .position = 0, .block_table = tables[0], .logits = WantLogits::last},
      {.tokens = std::span(text).last(2), .position = 0, .block_table = tables[1], .logits = WantLogits::last}};
  std::vector<float> logits(2 * model->spec().vocabulary);
  StepReport report;
  ASSERT_TRUE(run.backend().step({.sequences = sequences}, logits, report));
  const std::uint64_t of_a_row = std::uint64_t{model->spec().layers} * (moe.used - 1);
  EXPECT_EQ(report.lossy_experts, (std::vector<std::uint64_t>{of_a_row, 2 * of_a_row}));
}

}  // namespace
}  // namespace sirocco

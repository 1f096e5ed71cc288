// A model in fewer slots than it has experts: the same logits, bit for bit, whatever happens around them.
#include "engine/experts/slotted_experts.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cctype>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <random>
#include <thread>

#include "engine/experts/hot_set.h"
#include "engine/experts/resident_weights.h"
#include "tests/support/serving_model.h"
#include "tests/support/source_dir.h"
#include "tests/support/temporary_directory.h"

namespace sirocco {
namespace {

using test::open_model;
using test::Serving;
using test::testing_queue;
using test::text_of;

class SlottedModels : public testing::TestWithParam<const char*> {};

TEST_P(SlottedModels, LogitsDoNotDependOnTheNumberOfSlotsOrThePolicy) {
  const auto model = open_model(GetParam());
  const std::vector<TokenId> text = text_of(*model, 48, 1);
  const std::vector<float> expected = Serving(model, {}).logits(text, 20);
  const std::size_t all = model->spec().layers * std::size_t{model->spec().moe->experts};
  for (const std::size_t slots : {std::size_t{2}, std::size_t{3}, all / 10 + 2, all / 2, all, all + 5}) {
    for (const std::string_view policy : {"lfru", "lru", "layer-lru", "class-lru"}) {
      Serving run(model, {.slots = slots, .policy = policy, .queue = nullptr});
      EXPECT_EQ(run.logits(text, 20), expected) << slots << " slots, " << policy;
      EXPECT_EQ(run.slotted()->slots(), std::min(slots, all));
      const ExpertCounters counters = run.slotted()->counters();
      EXPECT_GT(counters.misses, 0U);
      EXPECT_GT(counters.bytes_read, 0U);
      EXPECT_EQ(counters.failures, 0U);
      if (slots >= all) {
        EXPECT_EQ(counters.evictions, 0U);
      }
    }
  }
}

TEST_P(SlottedModels, NorOnTheOrderOfArrival) {
  const auto model = open_model(GetParam());
  const std::vector<TokenId> text = text_of(*model, 40, 2);
  const std::vector<float> expected = Serving(model, {}).logits(text, 17);
  for (unsigned seed = 0; seed < 8; ++seed) {
    std::mt19937 random(seed);
    test::TestingQueue::Control control = {
        .error = nullptr, .shuffle = &random, .all_at_once = seed % 2 == 0, .transfers = 0};
    Serving run(model, {.slots = 2 + seed, .queue = testing_queue(control)});
    EXPECT_EQ(run.logits(text, 17), expected) << "seed " << seed;
    EXPECT_GT(control.transfers, 0U);
  }
}

TEST_P(SlottedModels, AnyReadMayFailTwice) {
  const auto model = open_model(GetParam());
  const std::vector<TokenId> text = text_of(*model, 30, 3);
  const std::vector<float> expected = Serving(model, {}).logits(text, 10);
  std::mt19937 random(5);
  std::map<std::byte*, int> failed;
  bool dense = true;  // the dense weights are read first, and fail at once
  test::TestingQueue::Control control;
  control.shuffle = &random;
  control.all_at_once = false;
  control.error = [&](const Transfer& transfer) {
    int& times = failed[transfer.to];
    if (!dense && times < SlottedExperts::kTries - 1 && random() % 3 == 0) {
      ++times;
      return EIO;
    }
    times = 0;
    return 0;
  };
  Serving run(model, {.slots = 4, .queue = testing_queue(control)});
  dense = false;
  EXPECT_EQ(run.logits(text, 10), expected);
  EXPECT_EQ(run.slotted()->counters().failures, 0U);
}

INSTANTIATE_TEST_SUITE_P(Models, SlottedModels,
                         testing::Values("tiny-mixtral.gguf", "tiny-mixtral-fused.gguf", "tiny-mixtral-per-expert.gguf",
                                         "tiny-qwen3moe.gguf", "quant-moe-q4_0-q5_1.gguf"),
                         [](const auto& parameter) {
                           std::string name = parameter.param;
                           std::replace_if(
                               name.begin(), name.end(), [](char c) { return !std::isalnum(c); }, '_');
                           return name;
                         });

// Two sequences in a step; every read of one expert fails, which only one of them needs.
TEST(SlottedExperts, AReadThatFailsFailsTheSequencesThatNeedItAndNoOther) {
  const auto model = open_model("tiny-mixtral.gguf");
  const std::size_t vocabulary = model->spec().vocabulary;
  const auto files = ModelFiles::open(model->shared_file()).value();
  std::size_t told = 0;
  std::size_t spared = 0;
  for (unsigned seed = 0; seed < 12; ++seed) {
    const std::vector<std::vector<TokenId>> texts = {text_of(*model, 1, 100 + seed), text_of(*model, 1, 200 + seed)};
    const std::vector<std::vector<float>> expected = {Serving(model, {}).logits(texts[0], 1),
                                                      Serving(model, {}).logits(texts[1], 1)};
    const std::uint32_t layer = seed % model->spec().layers;
    const ExpertId broken = {.layer = layer, .index = seed % model->spec().moe->experts};
    const FilePlace bad = files->place(model->weights().layers[broken.layer].experts[broken.index].down);
    bool failing = true;
    test::TestingQueue::Control control;
    control.error = [&](const Transfer& transfer) {
      const bool hit = transfer.offset <= bad.offset && bad.offset < transfer.offset + transfer.wanted &&
                       transfer.offset + transfer.wanted == bad.offset + bad.bytes;
      return failing && hit ? EIO : 0;
    };
    Serving run(model, {.slots = 3, .queue = testing_queue(control)});
    const std::vector<std::vector<BlockId>> tables = {{0, 1}, {2, 3}};
    std::vector<StepSequence> sequences;
    for (std::size_t i = 0; i < 2; ++i)
      sequences.push_back({.tokens = texts[i], .position = 0, .block_table = tables[i], .logits = WantLogits::all});
    for (const bool now : {true, false}) {
      failing = now;
      std::vector<float> logits(2 * vocabulary);
      StepReport report;
      ASSERT_TRUE(run.backend().step({.sequences = sequences}, logits, report));
      const std::vector<SequenceFailure>& failures = report.failures;
      EXPECT_TRUE(now || failures.empty());  // the next to want it tries again
      for (std::size_t i = 0; i < 2; ++i) {
        const auto failure =
            std::find_if(failures.begin(), failures.end(), [&](const SequenceFailure& f) { return f.sequence == i; });
        if (failure != failures.end()) {
          ++told;
          EXPECT_EQ(failure->error.code(), ErrorCode::io);
          EXPECT_EQ(failure->error.message(),
                    fmt::format("expert {} of layer {} could not be read from {}: Input/output error", broken.index,
                                broken.layer, model->file().path().string()));
          continue;
        }
        ++spared;
        EXPECT_TRUE(
            std::equal(expected[i].begin(), expected[i].end(), logits.begin() + static_cast<long>(i * vocabulary)));
      }
      EXPECT_EQ(failures.empty(), run.slotted()->counters().failures == 0 || !now);
    }
  }
  EXPECT_GT(told, 0U);
  EXPECT_GT(spared, 24U);  // at least all of the second steps, and some of the first
}

TEST(SlottedExperts, AFileCutShortFailsTheRequestAndNotTheProcess) {
  const test::TemporaryDirectory folder;
  const auto path = folder.path() / "m.gguf";
  std::filesystem::copy_file(test::golden_dir() / "model" / "tiny-mixtral.gguf", path);
  const auto model = Model::open(path).value();
  const std::vector<TokenId> text = text_of(*model, 1, 4);
  Serving run(model, {.slots = 2, .queue = nullptr});
  std::filesystem::resize_file(path, std::filesystem::file_size(path) / 8);
  std::vector<float> logits(model->spec().vocabulary);
  const StepSequence sequence = {.tokens = text, .position = 0, .block_table = run.blocks(), .logits = WantLogits::all};
  const auto done = run.backend().step_all({.sequences = std::span(&sequence, 1)}, logits);
  ASSERT_FALSE(done);
  EXPECT_EQ(done.error().code(), ErrorCode::io);
  EXPECT_NE(done.error().message().find("could not be read from " + path.string()), std::string::npos);
}

TEST(SlottedExperts, APromptLeavesMostOfTheSlotsAlone) {
  const auto model = open_model("tiny-qwen3moe.gguf");
  const std::size_t all = model->spec().layers * std::size_t{model->spec().moe->experts};
  Serving run(model, {.slots = all / 2, .queue = nullptr});
  const std::vector<TokenId> answer = text_of(*model, 30, 6);
  run.logits(answer, 1);  // token by token: the slots fill with what answers want
  const ExpertCounters before = run.slotted()->counters();
  run.logits(answer, 1);
  const ExpertCounters again = run.slotted()->counters() - before;
  run.logits(text_of(*model, 64, 7), 64);  // one step that wants nearly everything
  const ExpertCounters prompt = run.slotted()->counters();
  run.logits(answer, 1);
  const ExpertCounters after = run.slotted()->counters() - prompt;
  // Of what the answer found there before, nearly all is still there.
  EXPECT_LE(after.misses, again.misses + std::max<std::size_t>(all / 32, 4) * 2);
}

TEST(SlottedExperts, SlotsComeAndGoBetweenSteps) {
  const auto model = open_model("tiny-qwen3moe.gguf");
  const std::vector<TokenId> text = text_of(*model, 8, 10);
  const std::vector<float> expected = Serving(model, {}).logits(text, 1);
  const std::size_t all = model->spec().layers * std::size_t{model->spec().moe->experts};
  Serving run(model, {.slots = all / 2, .queue = nullptr});
  std::mt19937 random(4);
  for (int round = 0; round < 30; ++round) {
    EXPECT_EQ(run.logits(text, 1), expected);
    const std::size_t slots = random() % (all + 10);
    run.slotted()->set_slots(slots);
    EXPECT_EQ(run.slotted()->slots(), std::clamp(slots, SlottedExperts::kLeastSlots, all));
    EXPECT_LE(run.slotted()->hot_set().size(), run.slotted()->slots());
  }
}

TEST(SlottedExperts, MemoryGivenBackIsGivenBack) {
  const auto model = open_model("tiny-qwen3moe.gguf");
  const std::size_t all = model->spec().layers * std::size_t{model->spec().moe->experts};
  Serving run(model, {.slots = all, .queue = nullptr});
  std::vector<ExpertId> experts;
  for (std::uint32_t i = 0; i < all; ++i)
    experts.push_back({.layer = i / model->spec().moe->experts, .index = i % model->spec().moe->experts});
  run.slotted()->preload(experts);
  while (run.slotted()->pump()) std::this_thread::yield();
  const std::uint64_t full = run.slotted()->resident_slot_bytes();
  EXPECT_GE(full,
            all * run.slotted()->slot_bytes() / 2);  // blocks that enclose less than the largest expert's are not used
  run.slotted()->set_slots(2);
  EXPECT_LE(run.slotted()->resident_slot_bytes(), 2 * run.slotted()->slot_bytes());
}

TEST(SlotsFor, ShrinksWhenMemoryIsShortAndGrowsBackToThePlan) {
  constexpr std::uint64_t kReserve = 100 * MiB;
  constexpr std::uint64_t kSlot = 10 * MiB;
  EXPECT_EQ(slots_for(100 * MiB, kReserve, kSlot, 50, 50), 50U);
  EXPECT_EQ(slots_for(60 * MiB, kReserve, kSlot, 50, 50), 50U);  // not yet
  EXPECT_EQ(slots_for(45 * MiB, kReserve, kSlot, 50, 50), 44U);
  EXPECT_EQ(slots_for(0, kReserve, kSlot, 50, 50), 40U);
  EXPECT_EQ(slots_for(0, kReserve, kSlot, 6, 50), 2U);
  EXPECT_EQ(slots_for(0, kReserve, kSlot, 2, 50), 2U);
  EXPECT_EQ(slots_for(109 * MiB, kReserve, kSlot, 44, 50), 44U);
  EXPECT_EQ(slots_for(131 * MiB, kReserve, kSlot, 44, 50), 47U);
  EXPECT_EQ(slots_for(10 * GiB, kReserve, kSlot, 44, 50), 50U);
  // What it gave is not taken back at once.
  EXPECT_EQ(slots_for(45 * MiB + 6 * kSlot, kReserve, kSlot, 44, 50), 44U);
}

TEST(SlottedExperts, TheHotSetIsThereAgainBeforeAnyoneAsks) {
  const auto model = open_model("tiny-qwen3moe.gguf");
  const std::vector<TokenId> text = text_of(*model, 20, 8);
  std::vector<ExpertId> hot;
  std::vector<float> expected;
  const std::size_t slots = model->spec().layers * std::size_t{model->spec().moe->experts} / 2;
  {
    Serving run(model, {.slots = slots, .queue = nullptr});
    expected = run.logits(text, 1);
    hot = run.slotted()->hot_set();
    EXPECT_GT(hot.size(), model->spec().moe->used);
  }
  Serving run(model, {.slots = slots, .queue = nullptr});
  run.slotted()->preload(hot);
  while (run.slotted()->pump()) std::this_thread::yield();
  std::vector<ExpertId> there = run.slotted()->hot_set();
  std::sort(there.begin(), there.end());
  std::sort(hot.begin(), hot.end());
  EXPECT_EQ(there, hot);
  EXPECT_EQ(run.logits(std::span(text).last(1), 1).size(), model->spec().vocabulary);
  const ExpertCounters last = run.slotted()->counters();
  EXPECT_GT(last.hits, 0U);
  EXPECT_EQ(run.logits(text, 1), expected);
}

TEST(SlottedExperts, PreloadingGivesWayAtAnyMoment) {
  const auto model = open_model("tiny-qwen3moe.gguf");
  const std::vector<TokenId> text = text_of(*model, 12, 9);
  const std::vector<float> expected = Serving(model, {}).logits(text, 4);
  std::vector<ExpertId> all;
  for (std::uint32_t layer = 0; layer < model->spec().layers; ++layer)
    for (std::uint32_t e = 0; e < model->spec().moe->experts; ++e) all.push_back({.layer = layer, .index = e});
  for (const std::size_t slots : {std::size_t{2}, std::size_t{9}, all.size()}) {
    std::mt19937 random(3);
    test::TestingQueue::Control control;
    control.shuffle = &random;
    control.all_at_once = false;
    Serving run(model, {.slots = slots, .queue = testing_queue(control)});
    run.slotted()->preload(all);
    run.slotted()->pump();  // some are under way now
    EXPECT_EQ(run.logits(text, 4), expected) << slots;
    for (int i = 0; i < 1000 && run.slotted()->pump(); ++i) {
    }
    EXPECT_EQ(run.logits(text, 4), expected) << slots;
  }
}

TEST(HotSet, ComesBackAsItWasSaved) {
  const auto model = open_model("tiny-mixtral.gguf");
  const test::TemporaryDirectory folder;
  const auto file = folder.path() / "hot-set";
  EXPECT_TRUE(load_hot_set(file, *model).value().empty());
  const std::vector<ExpertId> experts = {{1, 3}, {0, 2}, {1, 0}};
  ASSERT_TRUE(save_hot_set(file, *model, experts));
  EXPECT_EQ(load_hot_set(file, *model).value(), experts);
  ASSERT_TRUE(save_hot_set(file, *model, {}));
  EXPECT_TRUE(load_hot_set(file, *model).value().empty());
}

TEST(HotSet, WhatIsNotOfThisModelOrNotWholeIsSaid) {
  const auto model = open_model("tiny-mixtral.gguf");
  const test::TemporaryDirectory folder;
  const auto file = folder.path() / "hot-set";
  ASSERT_TRUE(save_hot_set(file, *open_model("tiny-qwen3moe.gguf"), {}));
  EXPECT_EQ(load_hot_set(file, *model).error().code(), ErrorCode::not_found);
  ASSERT_TRUE(save_hot_set(file, *model, std::vector<ExpertId>{{0, 1}, {1, 1}}));
  std::ifstream in(file);
  const std::string whole(std::istreambuf_iterator<char>(in), {});
  const auto load = [&](const std::string& text) {
    std::ofstream(file) << text;
    return load_hot_set(file, *model);
  };
  EXPECT_TRUE(load(whole));
  for (std::size_t length = 0; length + 2 < whole.size(); ++length)
    EXPECT_FALSE(load(whole.substr(0, length))) << length;
  for (const char* expert : {"99 1", "0 99", "-1 0", "x", "0 4294967297"}) {
    EXPECT_EQ(load(whole.substr(0, whole.size() - 8) + expert + "\n").error().code(), ErrorCode::corrupt) << expert;
  }
  EXPECT_EQ(save_hot_set(folder.path() / "none" / "hot-set", *model, {}).error().code(), ErrorCode::not_found);
}

// --- the plan

MemoryPlan plan_of(std::uint64_t budget, std::uint64_t others) {
  MemoryPlan plan;
  plan.budget = budget;
  plan.lines.push_back({.name = "others", .bytes = others, .note = ""});
  return plan;
}

TEST(Residency, AModelThatFitsStaysMapped) {
  const auto model = open_model("tiny-mixtral.gguf");
  const Model::Sizes& sizes = model->sizes();
  MemoryPlan plan = plan_of(1000 + sizes.dense_bytes + sizes.expert_bytes, 1000);
  EXPECT_EQ(plan_residency(model, plan).value().slots, 0U);
  EXPECT_EQ(plan.charged(), 1000U);
  const Residency residency = make_residency(model, {}).value();
  EXPECT_EQ(residency.model, model);
  EXPECT_EQ(residency.slotted, nullptr);
}

TEST(Residency, TheRestOfTheBudgetIsSlots) {
  const auto model = open_model("tiny-mixtral.gguf");
  const Model::Sizes& sizes = model->sizes();
  MemoryPlan plan = plan_of(sizes.dense_bytes + sizes.expert_bytes, 1000);
  const std::size_t slots = plan_residency(model, plan).value().slots;
  const std::size_t all = model->spec().layers * std::size_t{model->spec().moe->experts};
  EXPECT_GT(slots, 1U);
  EXPECT_LT(slots, all);
  EXPECT_LE(plan.charged(), plan.budget);
  const Residency residency = make_residency(model, {.slots = slots, .queue = nullptr}).value();
  EXPECT_EQ(residency.slotted->slots(), slots);
  EXPECT_LT(plan.budget - plan.charged(), residency.slotted->slot_bytes());
  // Its dense weights are copies, its experts are not.
  EXPECT_NE(residency.model->weights().output.data, model->weights().output.data);
  EXPECT_EQ(residency.model->weights().layers[0].experts[0].gate.data, model->weights().layers[0].experts[0].gate.data);
}

TEST(Residency, ABudgetTooSmallIsRefusedWithTheSmallestThatWorks) {
  const auto model = open_model("tiny-mixtral.gguf");
  const auto files = ModelFiles::open(model->shared_file()).value();
  const std::uint64_t slot = ExpertStore::create(model, files).value()->slot_bytes();
  MemoryPlan plan = plan_of(2 * slot, 1000);
  const auto refused = plan_residency(model, plan);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code(), ErrorCode::out_of_memory);
  EXPECT_NE(refused.error().message().find("this model needs at least"), std::string::npos);
  // One byte less than enough is refused, enough is not.
  const std::uint64_t least = 1000 + resident_weights_bytes(*model, *files) + 2 * slot;
  if (least < 1000 + model->sizes().dense_bytes + model->sizes().expert_bytes) {
    MemoryPlan enough = plan_of(least, 1000);
    EXPECT_EQ(plan_residency(model, enough).value().slots, 2U);
    MemoryPlan less = plan_of(least - 1, 1000);
    EXPECT_FALSE(plan_residency(model, less));
  }
}

}  // namespace
}  // namespace sirocco

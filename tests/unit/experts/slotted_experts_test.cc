// A model in fewer slots than it has experts: the same logits, bit for bit, whatever happens around them.
#include "engine/experts/slotted_experts.h"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <random>
#include <set>
#include <thread>

#include "engine/experts/hot_set.h"
#include "engine/experts/resident_weights.h"
#include "tests/support/refuse_system_call.h"
#include "tests/support/serving_model.h"
#include "tests/support/source_dir.h"
#include "tests/support/temporary_directory.h"

namespace sirocco {
namespace {

constexpr HostWeights kOnTheHost = {.dense = true, .experts = true};

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
TEST_P(SlottedModels, NorOnATimelineWhichHoldsEveryReadAndWait) {
  const auto model = open_model(GetParam());
  const std::vector<TokenId> text = text_of(*model, 30, 4);
  const std::vector<float> expected = Serving(model, {}).logits(text, 20);
  Timeline timeline(100'000);
  test::TestingQueue::Control late;  // a disk that is quicker than a slow processor is never waited for
  late.all_at_once = false;
  Serving run(model, {.slots = 4, .timeline = &timeline, .queue = testing_queue(late)});
  timeline.start();
  EXPECT_EQ(run.logits(text, 20), expected);
  run.slotted()->pump();
  std::uint64_t bytes = 0;
  std::size_t waits = 0;
  for (const Timeline::Event& event : timeline.events()) {
    EXPECT_LE(event.begin_ns, event.end_ns);
    if (event.kind == Timeline::Kind::wait) ++waits;
    if (event.kind != Timeline::Kind::read) continue;
    EXPECT_LT(event.layer, model->spec().layers);
    EXPECT_LT(event.expert, model->spec().moe->experts);
    EXPECT_FALSE(event.failed);
    bytes += event.bytes;
  }
  EXPECT_GT(waits, 0U);
  EXPECT_EQ(bytes, timeline.totals().bytes_read);
  // Guesses for the prompt may still be under way.
  EXPECT_GT(bytes, 0U);
  EXPECT_LE(bytes, run.slotted()->counters().bytes_read);
}

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

TEST(SlottedExperts, AStalledReadIsWaitedForAndHoldsUpNoOther) {
  const auto model = open_model("tiny-qwen3moe.gguf");
  test::TestingQueue::Control control;
  Serving run(model, {.slots = 6, .queue = testing_queue(control)});
  SlottedExperts& experts = *run.slotted();
  const auto files = ModelFiles::open(model->shared_file()).value();
  const FilePlace up = files->place(model->weights().layers[0].experts[1].up);
  bool stalled = true;
  std::vector<ExpertNews> news;
  control.held = [&](const Transfer& transfer) {
    return stalled && transfer.offset <= up.offset && up.offset < transfer.offset + transfer.wanted;
  };
  std::set<std::uint32_t> here;  // complete
  int silences = 0;
  control.silence = [&] {
    ++silences;
    EXPECT_EQ(here, (std::set<std::uint32_t>{0, 2}));
    EXPECT_GT(experts.waiting_for_disk().count(), 0);
    stalled = false;
  };
  const std::vector<WantedExpert> wanted = {{.index = 0, .rows = 1}, {.index = 1, .rows = 1}, {.index = 2, .rows = 1}};
  experts.request(0, wanted, 1);
  while (here.size() < wanted.size()) {
    news.clear();
    experts.wait(news);
    ASSERT_FALSE(news.empty());
    for (const ExpertNews& one : news) {
      ASSERT_NE(one.what, ExpertNews::What::failed);
      if (one.what == ExpertNews::What::down) here.insert(one.index);
    }
  }
  EXPECT_EQ(silences, 1);
  EXPECT_EQ(experts.waiting_for_disk().count(), 0);
  for (const WantedExpert& one : wanted) {
    const Lease lease = experts.lease({.layer = 0, .index = one.index});
    const Matrix& mapped = model->weights().layers[0].experts[one.index].up;
    EXPECT_EQ(std::memcmp(lease.weights().up.data, mapped.data, mapped.outputs * row_bytes(mapped.type, mapped.inputs)),
              0);
  }
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

TEST(SlottedExperts, SlotsComeAndGo) {
  const auto model = open_model("tiny-qwen3moe.gguf");
  const std::vector<TokenId> text = text_of(*model, 8, 10);
  const std::vector<float> expected = Serving(model, {}).logits(text, 1);
  const std::size_t all = model->spec().layers * std::size_t{model->spec().moe->experts};
  test::TestingQueue::Control control;
  std::mt19937 random(4);
  Serving run(model, {.slots = all / 2, .queue = testing_queue(control)});
  // Asked for while a layer's experts are being read.
  std::size_t asked = 0;
  control.error = [&](const Transfer&) {
    if (random() % 4 == 0) {
      run.slotted()->set_slots(random() % (all + 10));
      ++asked;
    }
    return 0;
  };
  for (int round = 0; round < 30; ++round) {
    EXPECT_EQ(run.logits(text, 1), expected);
    const std::size_t slots = random() % (all + 10);
    run.slotted()->set_slots(slots);
    while (run.slotted()->pump()) std::this_thread::yield();
    EXPECT_EQ(run.slotted()->slots(), std::clamp(slots, SlottedExperts::kLeastSlots, all));
    EXPECT_LE(run.slotted()->hot_set().size(), run.slotted()->slots());
  }
  EXPECT_GT(asked, 20U);
}

TEST(SlottedExperts, ALayerAwayFewerSlotsAreInUse) {
  const auto model = open_model("tiny-qwen3moe.gguf");
  const std::vector<TokenId> text = text_of(*model, 2, 10);
  const std::size_t all = model->spec().layers * std::size_t{model->spec().moe->experts};
  test::TestingQueue::Control control;
  Serving run(model, {.slots = all, .queue = testing_queue(control)});
  run.logits(text, 2);
  std::vector<std::size_t> seen;  // slots after each transfer of one step
  control.error = [&](const Transfer&) {
    if (seen.empty()) run.slotted()->set_slots(2);
    seen.push_back(run.slotted()->slots());
    return 0;
  };
  const std::vector<TokenId> other = text_of(*model, 40, 11);
  run.logits(other, 40);
  ASSERT_FALSE(seen.empty());
  EXPECT_EQ(seen.front(), all);
  EXPECT_EQ(seen.back(), 2U);
}

TEST(SlottedExperts, MemoryGivenBackIsGivenBack) {
  const auto model = open_model("tiny-qwen3moe.gguf");
  const std::size_t all = model->spec().layers * std::size_t{model->spec().moe->experts};
  test::TestingQueue::Control control;
  std::map<std::byte*, std::uint64_t> places;  // where experts were read to, and how many bytes
  control.error = [&](const Transfer& transfer) {
    places[transfer.to] = transfer.bytes;
    return 0;
  };
  Serving run(model, {.slots = all, .queue = testing_queue(control)});
  places.clear();  // but the dense weights
  std::vector<ExpertId> experts;
  for (std::uint32_t i = 0; i < all; ++i)
    experts.push_back({.layer = i / model->spec().moe->experts, .index = i % model->spec().moe->experts});
  run.slotted()->preload(experts);
  while (run.slotted()->pump()) std::this_thread::yield();
  const auto resident_places = [&] {
    const auto page = static_cast<std::uintptr_t>(sysconf(_SC_PAGESIZE));
    return std::count_if(places.begin(), places.end(), [&](const auto& place) {
      unsigned char resident = 0;
      auto* const first = reinterpret_cast<std::byte*>(reinterpret_cast<std::uintptr_t>(place.first) / page * page);
      EXPECT_EQ(mincore(first, 1, &resident), 0);
      return (resident & 1U) != 0;
    });
  };
  EXPECT_EQ(resident_places(), static_cast<std::ptrdiff_t>(places.size()));
  run.slotted()->set_slots(2);
  while (run.slotted()->pump()) std::this_thread::yield();
  EXPECT_LE(resident_places(), static_cast<std::ptrdiff_t>(2 * places.size() / all));
}

TEST(SlottedExperts, LayersCountWhatTheyWant) {
  const auto model = open_model("tiny-qwen3moe.gguf");
  const std::vector<TokenId> text = text_of(*model, 30, 12);
  Serving run(model, {.slots = 12, .queue = nullptr});
  run.logits(text, 10);
  const SlottedExperts& experts = *run.slotted();
  ExpertCounters sum;
  std::size_t slots = 0;
  for (std::uint32_t layer = 0; layer < experts.layers(); ++layer) {
    const ExpertCounters of = experts.counters(layer);
    EXPECT_GE(of.hits + of.misses, 20 * model->spec().moe->used) << layer;
    EXPECT_GT(of.bytes_read, 0U) << layer;
    sum = sum + of;
    slots += experts.slots_of(layer);
  }
  const ExpertCounters all = experts.counters();
  EXPECT_EQ(sum.misses, all.misses);
  EXPECT_EQ(sum.evictions, all.evictions);
  EXPECT_EQ(slots, 12U);
  EXPECT_GT(all.misses, all.evictions);
  EXPECT_GT(experts.reading_ns(), 0U);
}

std::uint64_t locked_bytes() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);)
    if (line.starts_with("VmLck:")) return std::stoull(line.substr(6)) * KiB;
  return 0;
}

TEST(SlottedExperts, SlotsAreLockedInMemoryWhilePermitted) {
  const auto model = open_model("tiny-qwen3moe.gguf");
  const std::uint64_t before = locked_bytes();
  Serving run(model, {.slots = 20, .queue = nullptr});
  if (!run.slotted()->locked()) GTEST_SKIP() << "locking memory is not permitted here";
  EXPECT_TRUE(run.residency().degraded.empty());
  const std::uint64_t with_20 = locked_bytes();
  const std::uint64_t slot = run.slotted()->slot_bytes();
  EXPECT_GE(with_20, before + 20 * slot);
  run.slotted()->set_slots(5);
  while (run.slotted()->pump()) std::this_thread::yield();
  EXPECT_EQ(locked_bytes(), with_20 - 15 * slot);
  run.slotted()->set_slots(12);
  while (run.slotted()->pump()) std::this_thread::yield();
  EXPECT_EQ(locked_bytes(), with_20 - 8 * slot);
}

// In a process of its own.
TEST(SlottedExpertsDeathTest, SlotsThatMayNotBeLockedAreSaid) {
  const auto without_locks = [] {
    test::refuse_system_call(__NR_mlock2);
    const Residency residency =
        make_residency(open_model("tiny-qwen3moe.gguf"), {.slots = 8, .queue = nullptr}).value();
    const bool said = std::any_of(residency.degraded.begin(), residency.degraded.end(), [](const std::string& reason) {
      return reason ==
             "experts in memory may be swapped out: locking all of them in memory is not permitted (LimitMEMLOCK, "
             "ulimit -l)";
    });
    std::_Exit(said ? 0 : 3);
  };
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_EXIT(without_locks(), testing::ExitedWithCode(0), "");
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

TEST(SlottedExperts, WhatIsReadForNobodyGivesWayToWhatIsWaitedFor) {
  const auto model = open_model("tiny-qwen3moe.gguf");
  std::map<std::byte*, bool> background;  // of each transfer, by where it goes
  test::TestingQueue::Control control;
  control.held = [&](const Transfer& transfer) {
    background[transfer.to] = transfer.background;
    return false;
  };
  Serving run(model, {.slots = 6, .queue = testing_queue(control)});
  const auto all_are = [&](bool expected) {
    return !background.empty() &&
           std::all_of(background.begin(), background.end(), [&](const auto& one) { return one.second == expected; });
  };
  background.clear();  // the dense weights
  run.slotted()->preload(std::vector<ExpertId>{{0, 1}, {1, 2}});
  while (run.slotted()->pump()) {
  }
  EXPECT_TRUE(all_are(true));
  background.clear();
  run.slotted()->request(0, std::vector<WantedExpert>{{.index = 3, .rows = 1}, {.index = 5, .rows = 1}}, 1);
  std::vector<ExpertNews> news;
  run.slotted()->wait(news);
  EXPECT_TRUE(all_are(false));
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
  EXPECT_EQ(plan_residency(model, kOnTheHost, plan).value().slots, 0U);
  EXPECT_EQ(plan.charged(), 1000U);
  const Residency residency = make_residency(model, {}).value();
  EXPECT_EQ(residency.model, model);
  EXPECT_EQ(residency.slotted, nullptr);
}

TEST(Residency, TheRestOfTheBudgetIsSlots) {
  const auto model = open_model("tiny-mixtral.gguf");
  const Model::Sizes& sizes = model->sizes();
  MemoryPlan plan = plan_of(sizes.dense_bytes + sizes.expert_bytes, 1000);
  const std::size_t slots = plan_residency(model, kOnTheHost, plan).value().slots;
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
  const auto refused = plan_residency(model, kOnTheHost, plan);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code(), ErrorCode::out_of_memory);
  EXPECT_NE(refused.error().message().find("this model needs at least"), std::string::npos);
  // One byte less than enough is refused, enough is not.
  const std::uint64_t least = 1000 + resident_weights_bytes(*model, *files) + 2 * slot;
  if (least < 1000 + model->sizes().dense_bytes + model->sizes().expert_bytes) {
    MemoryPlan enough = plan_of(least, 1000);
    EXPECT_EQ(plan_residency(model, kOnTheHost, enough).value().slots, 2U);
    MemoryPlan less = plan_of(least - 1, 1000);
    EXPECT_FALSE(plan_residency(model, kOnTheHost, less));
  }
}

}  // namespace
}  // namespace sirocco

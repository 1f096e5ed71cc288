// Answers with the prefix cache against those without, in an engine whose answers follow from every token that the
// blocks hold, and in one of a real model.
#include <gtest/gtest.h>

#include <random>

#include "tests/support/fake_engine.h"
#include "tests/support/source_dir.h"
#include "tests/support/workloads.h"

namespace sirocco {
namespace {

using test::ask;
using test::FakeEngine;
using test::random_requests;
using test::RealEngine;

void remember(EngineParts& parts) {
  static_cast<test::FakeBackend&>(*parts.backend).remembers = true;
}

TEST(PrefixCache, RandomWorkloadsAreAnsweredAsWithoutIt) {
  std::uint64_t hits = 0;
  std::uint64_t evictions = 0;
  for (std::uint32_t seed = 0; seed < 60; ++seed) {
    std::mt19937 random(seed);
    const std::vector<GenerateRequest> requests = random_requests(random, 30, test::kVocabulary, 50);
    const auto change = [&](EngineParts& parts) {
      remember(parts);
      parts.kv_blocks = 16 + seed % 40;
      parts.max_queued = parts.max_queued_per_uid = 100;
    };
    FakeEngine without([&](EngineParts& parts) {
      change(parts);
      parts.cache_share = CacheShare::off;
    });
    FakeEngine with([&](EngineParts& parts) {
      change(parts);
      parts.cache_share = seed % 2 == 0 ? CacheShare::uid : CacheShare::all;
    });
    std::vector<RequestId> ids;
    std::vector<RequestId> ids_without;
    for (const GenerateRequest& request : requests) {
      ids.push_back(with.engine->submit(request).value().id);
      ids_without.push_back(without.engine->submit(request).value().id);
      if (random() % 4 == 0) with.events.wait(ids.back());
    }
    for (std::size_t i = 0; i < ids.size(); ++i)
      ASSERT_EQ(with.events.wait(ids[i]).ids, without.events.wait(ids_without[i]).ids) << "seed " << seed;
    with.engine->close();
    const KvCounters counters = with.engine->status().kv;
    EXPECT_EQ(counters.available, counters.blocks);
    EXPECT_EQ(without.engine->status().kv.cached, 0U);
    EXPECT_LE(with.backend->rows() + counters.hit_tokens, without.backend->rows());
    hits += counters.hit_tokens;
    evictions += counters.evicted_blocks;
  }
  EXPECT_GT(hits, 1000U);
  EXPECT_GT(evictions, 1000U);
}

TEST(PrefixCache, OfAPromptThatIsThereOnlyTheLastTokenIsComputed) {
  FakeEngine fake(remember);
  const std::vector<TokenId> prompt(32, 5);  // eight whole blocks
  const auto first = fake.events.wait(fake.engine->submit(ask(prompt, 4)).value().id);
  const std::uint64_t before = fake.backend->rows();
  const auto second = fake.events.wait(fake.engine->submit(ask(prompt, 4)).value().id);
  EXPECT_EQ(second.ids, first.ids);
  EXPECT_EQ(first.done->cached_tokens, 0U);
  EXPECT_EQ(second.done->cached_tokens, 31U);
  EXPECT_EQ(fake.backend->rows() - before, 1U + 3U);
}

TEST(PrefixCache, APromptIsFoundWhileTheRequestThatComputedItGoesOn) {
  test::Gate gate;
  FakeEngine fake(remember);
  fake.backend->before = [&](const Step&) -> Result<void> {
    gate.pass();
    return {};
  };
  std::vector<TokenId> prompt(8, 5);
  const RequestId first = fake.engine->submit(ask(prompt, 40)).value().id;
  gate.let_through(3);
  gate.wait_for_arrivals(4);
  prompt.push_back(6);
  const RequestId second = fake.engine->submit(ask(prompt, 1)).value().id;
  gate.open();
  EXPECT_EQ(fake.events.wait(second).done->cached_tokens, 8U);
  EXPECT_EQ(fake.events.wait(first).ids.size(), 40U);
}

TEST(PrefixCache, UsersFindTheirOwnTextsUnlessTheyShare) {
  const std::vector<TokenId> prompt(9, 5);
  const auto second_users_hits = [&](CacheShare share) {
    FakeEngine fake([&](EngineParts& parts) {
      remember(parts);
      parts.cache_share = share;
    });
    fake.events.wait(fake.engine->submit(ask(prompt, 1, 1000)).value().id);
    return fake.events.wait(fake.engine->submit(ask(prompt, 1, 1001)).value().id).done->cached_tokens;
  };
  EXPECT_EQ(second_users_hits(CacheShare::uid), 0U);
  EXPECT_EQ(second_users_hits(CacheShare::all), 8U);
  EXPECT_EQ(second_users_hits(CacheShare::off), 0U);
}

TEST(PrefixCache, WhatAFailedOrALossyRequestComputedIsNotFound) {
  const std::vector<TokenId> prompt(9, 5);
  for (const bool lossy : {false, true}) {
    FakeEngine fake(remember);
    bool first = true;
    fake.backend->tell = [&](const Step& step, StepReport& report) {
      if (!std::exchange(first, false)) return report.lossy_experts.assign(step.sequences.size(), 0);
      if (lossy) return report.lossy_experts.assign(step.sequences.size(), 1);
      report.failures.push_back({.sequence = 0, .error = Error(ErrorCode::io, "an expert could not be read")});
    };
    fake.events.wait(fake.engine->submit(ask(prompt, 3)).value().id);
    EXPECT_EQ(fake.events.wait(fake.engine->submit(ask(prompt, 3)).value().id).done->cached_tokens, 0U) << lossy;
  }
}

TEST(PrefixCache, ARealModelAnswersAsWithoutIt) {
  std::uint64_t hits = 0;
  for (const std::string name : {"tiny-qwen3moe.gguf", "tiny-mistral.gguf", "tiny-llama.gguf"}) {
    for (const TensorType type : {TensorType::f16, TensorType::f32, TensorType::q8_0}) {
      const auto model = Model::open(test::golden_dir() / "model" / name).value();
      if (type == TensorType::q8_0 && model->spec().head_dim % 32 != 0) continue;
      RealEngine with(name, type, CacheShare::all);
      RealEngine without(name, type, CacheShare::off);
      std::mt19937 random(7);
      std::vector<RequestId> ids;
      std::vector<RequestId> ids_without;
      for (const GenerateRequest& request :
           random_requests(random, 40, static_cast<TokenId>(model->spec().vocabulary), 140)) {
        ids.push_back(with.engine->submit(request).value().id);
        ids_without.push_back(without.engine->submit(request).value().id);
      }
      for (std::size_t i = 0; i < ids.size(); ++i)
        ASSERT_EQ(with.events.wait(ids[i]).ids, without.events.wait(ids_without[i]).ids) << name << ", request " << i;
      hits += with.engine->status().kv.hit_tokens;
    }
  }
  EXPECT_GT(hits, 1000U);
}

}  // namespace
}  // namespace sirocco

// Batch requests whose KV makes room for realtime ones: their answers against those that they get alone, in an engine
// whose answers follow from every token that the blocks hold.
#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "tests/support/fake_engine.h"
#include "tests/support/temporary_directory.h"

namespace sirocco {
namespace {

using test::FakeBackend;
using test::FakeEngine;
using test::Gate;

GenerateRequest ask(std::vector<TokenId> prompt, std::uint32_t max_tokens, RequestClass request_class) {
  GenerateRequest request;
  request.prompt = std::move(prompt);
  request.max_tokens = max_tokens;
  request.request_class = request_class;
  return request;
}

std::vector<TokenId> alone(const GenerateRequest& request) {
  FakeEngine fake([](EngineParts& parts) { static_cast<FakeBackend&>(*parts.backend).remembers = true; });
  return fake.events.wait(fake.engine->submit(request).value().id).ids;
}

// 16 blocks of 4 tokens; steps of at most 8 rows, let through one by one.
class KvSwapping : public testing::Test {
 protected:
  void start(CacheShare share, std::uint64_t slots = 64) {
    gate.emplace();
    fake.emplace([&](EngineParts& parts) {
      static_cast<FakeBackend&>(*parts.backend).remembers = true;
      parts.kv_blocks = 16;
      parts.cache_share = share;
      const std::size_t bytes = parts.backend->block_bytes();
      parts.swap_file = SwapFile::create(folder.path(), slots * bytes, bytes).value();
    });
    fake->backend->before = [this](const Step&) -> Result<void> {
      gate->pass();
      return {};
    };
  }
  ~KvSwapping() override {
    if (gate) gate->open();
  }

  // A batch request is in the middle of its answer, with kFilled tokens of KV, when a realtime request comes that needs
  // its blocks, and has its first step.
  RequestId batch_makes_room() {
    const RequestId id = fake->engine->submit(batch).value().id;
    gate->wait_for_arrivals(1);
    step(kFilled - 9);  // the prompt takes two steps
    realtime_id = fake->engine->submit(realtime).value().id;
    before_move();
    step(1);
    return id;
  }
  void step(int count) {
    const int before = gate->arrivals();
    gate->let_through(count);
    gate->wait_for_arrivals(before + count);
  }
  SchedRequestState state_of(RequestId id) {
    const auto requests = fake->engine->status().requests;
    const auto at = std::find_if(requests.begin(), requests.end(), [&](const auto& r) { return r.id == id; });
    return at == requests.end() ? SchedRequestState::queued : at->state;
  }
  // All blocks are free in the end, and nothing is out.
  void expect_nothing_left() {
    fake->engine->close();
    const EngineStatus status = fake->engine->status();
    EXPECT_EQ(status.kv.available, status.kv.blocks);
    EXPECT_EQ(status.kv_swap.bytes_now, 0U);
  }

  // Rows of both, each computed once.
  static constexpr std::uint64_t kRows = 10 + 39 + 6 + 13;
  static constexpr int kFilled = 17;  // tokens in five blocks

  const GenerateRequest batch = ask({3, 4, 5, 6, 7, 8, 9, 10, 11, 12}, 40, RequestClass::batch);  // 13 blocks
  const GenerateRequest realtime = ask({20, 21, 22, 23, 24, 25}, 14, RequestClass::realtime);     // 5 blocks
  test::TemporaryDirectory folder;
  std::optional<Gate> gate;
  std::function<void()> before_move = [] {};
  std::optional<FakeEngine> fake;
  RequestId realtime_id = 0;
};

TEST_F(KvSwapping, ABatchRequestMakesRoomForARealtimeOneAndGoesOnWithTheSameAnswer) {
  for (const CacheShare share : {CacheShare::off, CacheShare::uid}) {
    start(share);
    const RequestId id = batch_makes_room();
    EXPECT_EQ(state_of(id), SchedRequestState::swapped);
    EXPECT_EQ(state_of(realtime_id), SchedRequestState::running);
    const KvSwapCounters out = fake->engine->status().kv_swap;
    EXPECT_EQ(out.requests_out, 1U);
    EXPECT_EQ(out.bytes_out, 5 * fake->backend->block_bytes());
    EXPECT_EQ(out.bytes_now, out.bytes_out);
    gate->open();
    EXPECT_EQ(fake->events.wait(realtime_id).ids, alone(realtime));
    EXPECT_EQ(fake->events.wait(id).ids, alone(batch));
    EXPECT_EQ(fake->backend->rows(), kRows);
    // What stays in the prefix cache is not read: whole blocks.
    const std::size_t blocks_in = share == CacheShare::off ? 5 : 1;
    EXPECT_EQ(fake->engine->status().kv_swap.bytes_in, blocks_in * fake->backend->block_bytes());
    expect_nothing_left();
  }
}

TEST_F(KvSwapping, WhatCannotBeMovedOutOrInIsComputedAgain) {
  for (const bool out : {true, false}) {
    start(CacheShare::off);
    before_move = [this, out] { fake->backend->blocks_fail = out; };
    const RequestId id = batch_makes_room();
    EXPECT_EQ(state_of(realtime_id), SchedRequestState::running);  // it does not wait for a disk
    EXPECT_EQ(fake->engine->status().kv_swap.bytes_now == 0, out);
    fake->backend->blocks_fail = true;
    gate->open();
    EXPECT_EQ(fake->events.wait(realtime_id).ids, alone(realtime));
    EXPECT_EQ(fake->events.wait(id).ids, alone(batch));
    EXPECT_EQ(fake->backend->rows(), kRows + kFilled);
    EXPECT_EQ(fake->engine->status().degraded, std::vector<std::string>{"the device has failed"});
    expect_nothing_left();
  }
}

TEST_F(KvSwapping, WhereThereIsNoRoomToMoveToTheRealtimeRequestWaits) {
  start(CacheShare::off, 4);
  const RequestId id = batch_makes_room();
  EXPECT_EQ(state_of(id), SchedRequestState::running);
  EXPECT_EQ(state_of(realtime_id), SchedRequestState::queued);
  gate->open();
  EXPECT_EQ(fake->events.wait(id).ids, alone(batch));
  EXPECT_EQ(fake->events.wait(realtime_id).ids, alone(realtime));
  EXPECT_EQ(fake->engine->status().kv_swap.requests_out, 0U);
}

TEST_F(KvSwapping, ARequestThatEndsWhileItIsOutLeavesNothingBehind) {
  start(CacheShare::off);
  const RequestId id = batch_makes_room();
  fake->engine->cancel(id);
  step(1);
  EXPECT_EQ(fake->events.now(id).done->reason, FinishReason::cancelled);
  EXPECT_EQ(fake->engine->status().kv_swap.bytes_now, 0U);
  gate->open();
  EXPECT_EQ(fake->events.wait(realtime_id).ids, alone(realtime));
  expect_nothing_left();
}

TEST(KvSwap, RandomWorkloadsAreAnsweredAsAlone) {
  std::uint64_t moved = 0;
  std::uint64_t in = 0;
  for (std::uint32_t seed = 0; seed < 100; ++seed) {
    std::mt19937 random(seed);
    const test::TemporaryDirectory folder;
    FakeEngine fake([&](EngineParts& parts) {
      auto& backend = static_cast<FakeBackend&>(*parts.backend);
      backend.remembers = true;
      parts.kv_blocks = 16 + seed % 20;
      parts.cache_share = seed % 2 == 0 ? CacheShare::uid : CacheShare::off;
      parts.max_queued = parts.max_queued_per_uid = 100;
      parts.swap_file = SwapFile::create(folder.path(), MiB, backend.block_bytes()).value();
    });
    FakeEngine roomy([](EngineParts& parts) {
      static_cast<FakeBackend&>(*parts.backend).remembers = true;
      parts.cache_share = CacheShare::off;
      parts.max_queued = parts.max_queued_per_uid = 100;
    });
    std::vector<std::pair<RequestId, RequestId>> ids;
    std::vector<RequestId> cancelled;
    for (int i = 0; i < 40; ++i) {
      std::vector<TokenId> prompt(1 + random() % 30, static_cast<TokenId>(3 + i % 4));
      prompt.back() = static_cast<TokenId>(3 + random() % 20);
      const bool realtime = random() % 3 == 0;
      const GenerateRequest request = ask(prompt, static_cast<std::uint32_t>(1 + random() % 30),
                                          realtime ? RequestClass::realtime : RequestClass::batch);
      const RequestId id = fake.engine->submit(request).value().id;
      if (random() % 6 == 0) {
        fake.engine->cancel(id);
        cancelled.push_back(id);
      } else {
        ids.emplace_back(id, roomy.engine->submit(request).value().id);
      }
      if (realtime) fake.events.wait(id);
    }
    for (const auto& [id, other] : ids)
      ASSERT_EQ(fake.events.wait(id).ids, roomy.events.wait(other).ids) << "seed " << seed << ", request " << id;
    for (const RequestId id : cancelled) fake.events.wait(id);
    fake.engine->close();
    const EngineStatus status = fake.engine->status();
    EXPECT_EQ(status.kv.available, status.kv.blocks);
    EXPECT_EQ(status.kv_swap.bytes_now, 0U);
    moved += status.kv_swap.requests_out;
    in += status.kv_swap.bytes_in;
  }
  EXPECT_GT(moved, 20U);
  EXPECT_GT(in, 100U);
}

}  // namespace
}  // namespace sirocco

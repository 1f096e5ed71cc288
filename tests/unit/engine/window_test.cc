// Models with a sliding window: what lies behind it is released, and answers are those of an engine that keeps all.
#include <gtest/gtest.h>

#include <random>

#include "tests/support/fake_engine.h"
#include "tests/support/source_dir.h"
#include "tests/support/temporary_directory.h"
#include "tests/support/window_logits.h"
#include "tests/support/workloads.h"

namespace sirocco {
namespace {

using test::ask;
using test::FakeBackend;
using test::FakeEngine;
using test::random_requests;
using test::RealEngine;

constexpr std::uint32_t kWindow = 6;

void with_window(EngineParts& parts) {
  auto& backend = static_cast<FakeBackend&>(*parts.backend);
  backend.remembers = true;
  backend.window = kWindow;
  parts.max_queued = parts.max_queued_per_uid = 100;
}

TEST(Window, OfWhatIsBehindItNothingIsHeld) {
  // Six tokens and a step of eight rows: at most five blocks of four.
  FakeEngine fake([](EngineParts& parts) {
    with_window(parts);
    parts.window = kWindow;
    parts.kv_blocks = 5;
    parts.cache_share = CacheShare::off;
  });
  FakeEngine whole(with_window);
  std::uint32_t least = 5;
  fake.backend->before = [&](const Step&) -> Result<void> {
    least = std::min(least, fake.engine->status().kv.available);
    return {};
  };
  const GenerateRequest request = ask(std::vector<TokenId>(40, 5), 24);  // 16 blocks in all
  const auto answer = fake.events.wait(fake.engine->submit(request).value().id);
  ASSERT_TRUE(answer.done);
  EXPECT_EQ(answer.ids.size(), 24U);
  EXPECT_EQ(answer.ids, whole.events.wait(whole.engine->submit(request).value().id).ids);
  EXPECT_LE(least, 1U);
  EXPECT_EQ(fake.engine->status().kv.available, 5U);
}

TEST(Window, MoreRequestsRunAtTheSameTime) {
  test::Gate gate;
  FakeEngine fake([](EngineParts& parts) {
    with_window(parts);
    parts.window = kWindow;
    parts.kv_blocks = 20;
  });
  fake.backend->before = [&](const Step&) -> Result<void> {
    gate.pass();
    return {};
  };
  std::vector<RequestId> ids;
  for (int i = 0; i < 4; ++i) ids.push_back(fake.engine->submit(ask({3, 4, 5}, 60)).value().id);  // 16 blocks each
  gate.let_through(3);
  gate.wait_for_arrivals(4);
  for (const EngineStatus::Request& r : fake.engine->status().requests)
    EXPECT_EQ(r.state, SchedRequestState::running) << r.id;
  gate.open();
  for (const RequestId id : ids) EXPECT_EQ(fake.events.wait(id).ids.size(), 60U);
}

// With the prefix cache, and with KV that is moved out, now and then in vain.
TEST(Window, RandomWorkloadsAreAnsweredAsWhenAllIsKept) {
  std::uint64_t hits = 0;
  std::uint64_t evictions = 0;
  std::uint64_t moved = 0;
  for (std::uint32_t seed = 0; seed < 80; ++seed) {
    std::mt19937 random(seed);
    const test::TemporaryDirectory folder;
    std::vector<GenerateRequest> requests = random_requests(random, 30, test::kVocabulary, 50);
    FakeEngine whole([&](EngineParts& parts) {
      with_window(parts);
      parts.cache_share = CacheShare::off;
    });
    FakeEngine fake([&](EngineParts& parts) {
      with_window(parts);
      parts.window = kWindow;
      parts.kv_blocks = 5 + seed % 30;
      parts.cache_share = seed % 3 == 0 ? CacheShare::off : CacheShare::all;
      parts.swap_file = SwapFile::create(folder.path(), MiB, parts.backend->block_bytes()).value();
    });
    fake.backend->blocks_fail = seed % 8 == 7;
    std::vector<std::pair<RequestId, RequestId>> ids;
    for (GenerateRequest& request : requests) {
      request.max_tokens = std::min<std::uint32_t>(3 * request.max_tokens, 12);
      request.request_class = random() % 3 == 0 ? RequestClass::realtime : RequestClass::batch;
      const RequestId id = fake.engine->submit(request).value().id;
      ids.emplace_back(id, whole.engine->submit(request).value().id);
      if (random() % 4 == 0) fake.events.wait(id);
    }
    for (const auto& [id, other] : ids)
      ASSERT_EQ(fake.events.wait(id).ids, whole.events.wait(other).ids) << "seed " << seed << ", request " << id;
    fake.engine->close();
    const EngineStatus status = fake.engine->status();
    EXPECT_EQ(status.kv.available, status.kv.blocks) << "seed " << seed;
    hits += status.kv.hit_tokens;
    evictions += status.kv.evicted_blocks;
    moved += status.kv_swap.requests_out;
  }
  EXPECT_GT(hits, 1000U);
  EXPECT_GT(evictions, 500U);
  EXPECT_GT(moved, 10U);
}

TEST(Window, AConversationMayBeLongerThanTheCacheIfThatHoldsTheWindowAndAStep) {
  const auto model = Model::open(test::golden_dir() / "model" / "tiny-mistral.gguf").value();
  const auto context = [&](std::uint64_t kv_tokens) {
    return plan_engine(model, {.max_rows_per_step = 64, .kv_tokens = kv_tokens})->backend.limits.context;
  };
  EXPECT_EQ(context(4 * 32), 256U);  // 7 and 64 tokens touch four blocks at most
  EXPECT_EQ(context(3 * 32), 96U);
}

TEST(Window, NoKernelReadsBehindIt) {
  const auto model = test::open_golden("tiny-mistral.gguf");
  std::vector<TokenId> tokens(test::kWindowTexts);
  for (std::size_t i = 0; i < tokens.size(); ++i) tokens[i] = static_cast<TokenId>((17 * i + 3) % 300);
  std::vector<BackendOptions> implementations = {{.backend = "ref", .threads = 2, .limits = {}}};
  for (const std::string_view isa : isa_names())
    implementations.push_back({.backend = "cpu", .isa = std::string(isa), .threads = 2, .limits = {}});
  for (BackendOptions& options : implementations) {
    for (const TensorType type : {TensorType::f16, TensorType::f32}) {
      options.kv_type = type;
      const std::vector<float> whole = test::window_logits(model, options, tokens, 16, true);
      for (const std::uint32_t rows : {1U, 5U, 16U, 64U})
        EXPECT_EQ(test::window_logits(model, options, tokens, rows, false), whole)
            << options.backend << " " << options.isa << ", " << rows << " rows";
    }
  }
}

TEST(Window, ARealModelAnswersAsWhenAllIsKept) {
  const std::string name = "tiny-mistral.gguf";
  const auto model = Model::open(test::golden_dir() / "model" / name).value();
  ASSERT_EQ(model->spec().window, 7U);
  for (const TensorType type : {TensorType::f16, TensorType::f32}) {
    for (const CacheShare share : {CacheShare::off, CacheShare::all}) {
      RealEngine whole(name, type, CacheShare::off);
      RealEngine fake(name, type, share, [](EngineParts& parts) {
        parts.window = 7;
        parts.kv_blocks = 5;  // of 32 tokens: each request holds two at most, and needs up to five
      });
      std::mt19937 random(7);
      std::vector<std::pair<RequestId, RequestId>> ids;
      for (GenerateRequest& request :
           random_requests(random, 40, static_cast<TokenId>(model->spec().vocabulary), 120)) {
        request.max_tokens += 25;
        ids.emplace_back(fake.engine->submit(request).value().id, whole.engine->submit(request).value().id);
      }
      for (const auto& [id, other] : ids)
        ASSERT_EQ(fake.events.wait(id).ids, whole.events.wait(other).ids) << "request " << id;
      fake.engine->close();
      EXPECT_EQ(fake.engine->status().kv.available, 5U);
    }
  }
}

}  // namespace
}  // namespace sirocco

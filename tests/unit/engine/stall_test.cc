// A disk that does not answer for a while: requests wait, everything else goes on, and the answers stay the same.
#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "engine/engine.h"
#include "tests/support/fake_engine.h"
#include "tests/support/source_dir.h"
#include "tests/support/testing_queue.h"

namespace sirocco {
namespace {

constexpr std::uint32_t kContext = 64;

// The engine of a tiny model, in the memory of so many slots; 0: all of it.
std::unique_ptr<Engine> start_engine(std::size_t slots, std::unique_ptr<TransferQueue> queue, EventSink sink) {
  EngineParts parts;
  const auto model = Model::open(test::golden_dir() / "model" / "tiny-qwen3moe.gguf").value();
  parts.tokenizer = Tokenizer::from_metadata(model->file().metadata()).value();
  parts.chat_error = Error(ErrorCode::unsupported, "the tiny model has no chat format");
  Residency residency = make_residency(model, {.slots = slots, .queue = std::move(queue)}).value();
  parts.model = residency.model;
  parts.experts = std::move(residency.experts);
  parts.slotted = residency.slotted;
  parts.backend =
      make_backend(parts.model, *parts.experts,
                   {.threads = 2, .limits = {.rows = 8, .logit_rows = 8, .context = kContext}, .kv_blocks = 4})
          .value();
  parts.context = kContext;
  parts.kv_blocks = 4;
  parts.max_rows_per_step = 8;
  return Engine::start(std::move(parts), std::move(sink), {});
}

GenerateRequest ask(std::vector<TokenId> prompt) {
  GenerateRequest request;
  request.prompt = std::move(prompt);
  request.sampling.temperature = 0;
  request.max_tokens = 12;
  return request;
}

TEST(Stall, RequestsWaitForTheDiskAndNobodyElseDoes) {
  const GenerateRequest first = ask({1, 200, 92, 68});
  const GenerateRequest second = ask({1, 5, 9, 13, 77});
  std::vector<TokenId> expected;
  {
    test::Events events;
    const auto engine = start_engine(0, nullptr, events.sink());
    expected = events.wait(engine->submit(second).value().id).ids;
  }
  ASSERT_FALSE(expected.empty());

  test::Gate gate;  // at which the engine thread waits for the disk
  std::atomic<bool> stalled = false;
  test::TestingQueue::Control control;
  control.held = [&](const Transfer&) { return stalled.load(); };
  control.silence = [&] {
    gate.pass();
    stalled = false;
  };
  test::Events events;
  const auto engine = start_engine(4, std::make_unique<test::TestingQueue>(control), events.sink());
  const SlottedExperts& slotted = *engine->parts().slotted;
  EXPECT_EQ(slotted.waiting_for_disk().count(), 0);
  stalled = true;
  const RequestId cancelled = engine->submit(first).value().id;
  gate.wait_for_arrivals(1);
  const RequestId waiting = engine->submit(second).value().id;
  engine->cancel(cancelled);
  EXPECT_EQ(engine->status().requests.size(), 2U);
  const auto waited = slotted.waiting_for_disk();
  EXPECT_GT(waited.count(), 0);
  EXPECT_GE(slotted.waiting_for_disk(), waited);
  EXPECT_EQ(events.now(cancelled).endings, 0);  // with the step, which ends when the disk answers
  gate.open();
  EXPECT_EQ(events.wait(cancelled).done->reason, FinishReason::cancelled);
  EXPECT_EQ(events.wait(waiting).ids, expected);
  engine->close();
  EXPECT_EQ(slotted.waiting_for_disk().count(), 0);
}

// So that a watchdog can tell a long step from a stuck one.
TEST(Stall, AStepShowsThatItLivesWithEachLayerAndArrivalAndNotWhileTheDiskIsSilent) {
  test::Gate gate;
  std::atomic<bool> stalled = false;
  test::TestingQueue::Control control;
  control.held = [&](const Transfer&) { return stalled.load(); };
  control.silence = [&] {
    gate.pass();
    stalled = false;
  };
  test::Events events;
  const auto engine = start_engine(4, std::make_unique<test::TestingQueue>(control), events.sink());
  stalled = true;
  GenerateRequest request = ask({1, 200, 92, 68});
  request.max_tokens = 1;
  const RequestId id = engine->submit(request).value().id;
  gate.wait_for_arrivals(1);
  const std::uint64_t silent = engine->pulse();
  engine->ask_for_pulse();
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  EXPECT_EQ(engine->pulse(), silent);
  gate.open();
  events.wait(id);
  EXPECT_GE(engine->pulse(), silent + 2 * engine->parts().model->spec().layers);  // each layer wants experts, too
}

TEST(Stall, ClosingEndsTheRequestsWhenTheDiskAnswers) {
  test::Gate gate;
  std::atomic<bool> stalled = false;
  test::TestingQueue::Control control;
  control.held = [&](const Transfer&) { return stalled.load(); };
  control.silence = [&] {
    gate.pass();
    stalled = false;
  };
  test::Events events;
  const auto engine = start_engine(4, std::make_unique<test::TestingQueue>(control), events.sink());
  stalled = true;
  const RequestId id = engine->submit(ask({1, 200, 92, 68})).value().id;
  gate.wait_for_arrivals(1);
  std::thread closing([&] { engine->close(); });
  while (engine->submit(ask({1})).has_value()) std::this_thread::yield();  // until it closes
  gate.open();
  closing.join();
  EXPECT_EQ(events.now(id).error->code(), ErrorCode::shutting_down);
}

}  // namespace
}  // namespace sirocco

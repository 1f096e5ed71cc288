// Classes, deadlines and keys of requests, in an engine whose steps are let through one by one.
#include <gtest/gtest.h>

#include <algorithm>
#include <condition_variable>
#include <mutex>
#include <thread>

#include "engine/engine.h"
#include "tests/support/fake_engine.h"

namespace sirocco {
namespace {

using test::FakeEngine;
using test::Gate;

GenerateRequest ask(std::size_t prompt, std::uint32_t max_tokens, RequestClass request_class) {
  GenerateRequest request;
  request.prompt = TextPrompt{.text = std::string(prompt, 'b')};
  request.max_tokens = max_tokens;
  request.request_class = request_class;
  return request;
}

class Scheduling : public testing::Test {
 protected:
  // Steps of at most 8 rows.
  void start(const std::function<void(EngineParts&)>& change = {}) {
    fake.emplace(change);
    fake->backend->before = [this](const Step& step) -> Result<void> {
      std::vector<std::uint32_t> rows;
      for (const StepSequence& s : step.sequences) rows.push_back(static_cast<std::uint32_t>(s.tokens.size()));
      {
        const std::lock_guard lock(mutex);
        steps.push_back(rows);
      }
      gate.pass();
      return {};
    };
  }
  ~Scheduling() override { gate.open(); }

  RequestId submit(const GenerateRequest& request) { return fake->engine->submit(request).value().id; }
  void let_through_and_wait(int count) {
    const int before = gate.arrivals();
    gate.let_through(count);
    gate.wait_for_arrivals(before + count);
  }
  std::vector<std::uint32_t> last_step() {
    const std::lock_guard lock(mutex);
    return steps.back();
  }
  SchedRequestState state_of(RequestId id) {
    for (const EngineStatus::Request& r : fake->engine->status().requests)
      if (r.id == id) return r.state;
    ADD_FAILURE() << "request " << id << " is not there";
    return SchedRequestState::queued;
  }

  Gate gate;
  std::mutex mutex;
  std::vector<std::vector<std::uint32_t>> steps;  // rows of each sequence
  std::optional<FakeEngine> fake;
};

TEST_F(Scheduling, ARealtimeRequestIsInTheNextStepWhateverElseIsThere) {
  start([](EngineParts& parts) { parts.max_running = 2; });
  const RequestId prompt = submit(ask(60, 2, RequestClass::interactive));
  gate.wait_for_arrivals(1);
  const RequestId batch = submit(ask(4, 50, RequestClass::batch));
  let_through_and_wait(1);
  const RequestId realtime = submit(ask(3, 1, RequestClass::realtime));
  let_through_and_wait(1);
  // Its prompt, beside which no other is read.
  EXPECT_EQ(last_step(), (std::vector<std::uint32_t>{3}));
  EXPECT_EQ(state_of(batch), SchedRequestState::paused);
  EXPECT_EQ(state_of(prompt), SchedRequestState::paused);
  gate.open();
  EXPECT_EQ(fake->events.wait(realtime).done->generated_tokens, 1U);
  EXPECT_EQ(fake->events.wait(prompt).done->generated_tokens, 2U);
  EXPECT_EQ(fake->events.wait(batch).done->generated_tokens, 50U);
}

TEST_F(Scheduling, ANewerRequestWithTheKeyEndsTheOlderOneOfTheSameUserOnly) {
  start();
  GenerateRequest request = ask(1, 50, RequestClass::realtime);
  request.latest_wins_key = "left arm";
  request.uid = 1000;
  const RequestId first = submit(request);
  request.uid = 1001;
  const RequestId of_another = submit(request);
  request.uid = 1000;
  request.latest_wins_key = "right arm";
  const RequestId other_key = submit(request);
  gate.wait_for_arrivals(1);
  let_through_and_wait(2);
  request.latest_wins_key = "left arm";
  const RequestId second = submit(request);
  const RequestId third = submit(request);  // before the engine has come by
  gate.open();
  EXPECT_EQ(fake->events.wait(first).done->reason, FinishReason::superseded);
  EXPECT_GE(fake->events.now(first).done->generated_tokens, 1U);
  EXPECT_EQ(fake->events.wait(second).done->reason, FinishReason::superseded);
  EXPECT_EQ(fake->events.wait(third).done->generated_tokens, 50U);
  EXPECT_EQ(fake->events.wait(of_another).done->generated_tokens, 50U);
  EXPECT_EQ(fake->events.wait(other_key).done->generated_tokens, 50U);
}

TEST_F(Scheduling, ADeadlineEndsARequestWithAnErrorOrWithWhatThereIs) {
  start();
  GenerateRequest request = ask(2, 50, RequestClass::interactive);
  request.deadline_ms = 2000;
  const RequestId strict = submit(request);
  request.partial = true;
  const RequestId partial = submit(request);
  const RequestId endless = submit(ask(2, 50, RequestClass::interactive));
  gate.wait_for_arrivals(1);
  let_through_and_wait(3);
  std::this_thread::sleep_for(std::chrono::milliseconds(2100));
  gate.open();
  EXPECT_EQ(fake->events.wait(strict).error->code(), ErrorCode::deadline);
  const auto answer = fake->events.wait(partial);
  ASSERT_TRUE(answer.done);
  EXPECT_EQ(answer.done->reason, FinishReason::deadline);
  EXPECT_GE(answer.ids.size(), 3U);
  EXPECT_EQ(answer.ids.size(), answer.done->generated_tokens);
  EXPECT_EQ(fake->events.wait(endless).done->generated_tokens, 50U);
}

TEST_F(Scheduling, ADeadlineThatCannotBeMetIsRefusedWithTheEstimate) {
  start();
  GenerateRequest request = ask(60, 1, RequestClass::interactive);  // 8 steps, of which each is thought to take 20 ms
  request.deadline_ms = 1;
  const auto refused = fake->engine->submit(request);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code(), ErrorCode::deadline);
  EXPECT_NE(refused.error().message().find("the first token would take 0."), std::string::npos)
      << refused.error().message();
  request.partial = true;
  gate.open();
  EXPECT_TRUE(fake->events.wait(submit(request)).done);
}

TEST_F(Scheduling, ARequestThatWaitsTooLongForItsFirstStepEndsWithAnError) {
  start([](EngineParts& parts) { parts.max_running = 1; });
  const RequestId first = submit(ask(1, 50, RequestClass::interactive));
  gate.wait_for_arrivals(1);
  GenerateRequest request = ask(1, 1, RequestClass::interactive);
  request.max_queue_ms = 20;
  const RequestId late = submit(request);
  std::this_thread::sleep_for(std::chrono::milliseconds(30));
  let_through_and_wait(1);
  EXPECT_EQ(fake->events.wait(late).error->code(), ErrorCode::deadline);
  gate.open();
  EXPECT_TRUE(fake->events.wait(first).done);
}

TEST_F(Scheduling, AFullQueueSaysWhenToTryAgain) {
  start([](EngineParts& parts) {
    parts.max_running = 1;
    parts.max_queued = 3;
    parts.max_queued_per_uid = 2;
  });
  GenerateRequest request = ask(1, 2, RequestClass::interactive);
  std::vector<RequestId> ids = {submit(request)};
  gate.wait_for_arrivals(1);
  for (int i = 0; i < 2; ++i) ids.push_back(submit(request));
  const auto refused = fake->engine->submit(request);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code(), ErrorCode::busy);
  EXPECT_GT(refused.error().retry_after_ms(), 0U);
  request.uid = 7;  // somebody else's queue is not full
  ids.push_back(submit(request));
  EXPECT_FALSE(fake->engine->submit(request));  // but all together is
  gate.open();
  for (const RequestId id : ids) EXPECT_TRUE(fake->events.wait(id).done);
}

TEST(Fairness, UsersOfOneClassGetTheSameHoweverManyRequestsTheyHave) {
  std::mutex mutex;
  std::condition_variable changed;
  std::vector<RequestId> ended;  // in this order
  Gate gate;
  FakeEngine fake(
      [](EngineParts& parts) {
        parts.max_running = 2;
        parts.max_queued = parts.max_queued_per_uid = 20;
      },
      [&](RequestId id, Event&& event) {
        if (std::holds_alternative<TokensEvent>(event)) return;
        const std::lock_guard lock(mutex);
        ended.push_back(id);
        changed.notify_one();
      });
  fake.backend->before = [&](const Step&) -> Result<void> {
    gate.pass();
    return {};
  };
  GenerateRequest request = ask(1, 8, RequestClass::interactive);
  request.uid = 1;
  for (int i = 0; i < 10; ++i) ASSERT_TRUE(fake.engine->submit(request));
  request.uid = 2;
  const RequestId alone = fake.engine->submit(request).value().id;
  gate.open();
  std::unique_lock lock(mutex);
  changed.wait(lock, [&] { return ended.size() == 11; });
  // It did not have to wait for the ten.
  EXPECT_LE(std::find(ended.begin(), ended.end(), alone) - ended.begin(), 4);
}

}  // namespace
}  // namespace sirocco

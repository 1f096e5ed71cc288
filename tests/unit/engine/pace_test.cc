#include "engine/pace.h"

#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "tests/support/fake_engine.h"

namespace sirocco {
namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

GenerateRequest ask(std::string text, std::uint32_t max_tokens) {
  GenerateRequest request;
  request.prompt = TextPrompt{.text = std::move(text)};
  request.max_tokens = max_tokens;
  return request;
}

TEST(Rest, AFullDutyNeedsNone) {
  Rest rest;
  rest.after_step(Clock::time_point(10s), 3, 1);
  EXPECT_EQ(rest.until(), Clock::time_point(10s));
}

TEST(Rest, LastsAsLongAsTheDutyLeavesFree) {
  Rest rest;
  rest.after_step(Clock::time_point(10s), 3, 0.25);
  EXPECT_EQ(rest.until(), Clock::time_point(19s));
}

TEST(Rest, WhatWasInterruptedIsMadeUpForButNotForever) {
  Rest rest;
  rest.after_step(Clock::time_point(10s), 0.1, 0.5);
  rest.after_step(Clock::time_point(10s), 0.1, 0.5);
  EXPECT_NEAR(std::chrono::duration<double>(rest.until() - Clock::time_point(10s)).count(), 0.2, 1e-6);
  for (int i = 0; i < 100; ++i) rest.after_step(Clock::time_point(10s), 0.1, 0.5);
  EXPECT_EQ(rest.until(), Clock::time_point(11s));
}

TEST(Rest, TimeInWhichNobodyAskedCounts) {
  Rest rest;
  rest.after_step(Clock::time_point(10s), 1, 0.5);
  rest.after_step(Clock::time_point(20s), 1, 0.5);
  EXPECT_EQ(rest.until(), Clock::time_point(21s));
}

// An engine whose steps take `step` and that rests 19 times as long after each.
struct Slow {
  test::FakeEngine fake;
  std::atomic<int> steps = 0;

  explicit Slow(std::chrono::milliseconds step) {
    fake.backend->before = [this, step](const Step&) -> Result<void> {
      ++steps;
      std::this_thread::sleep_for(step);
      return {};
    };
    fake.engine->set_pace({.duty = 0.05, .reason = {}, .zone = {}, .celsius = 0, .limit_celsius = 0});
  }
  // Its first step is over, and the engine rests.
  RequestId resting(const GenerateRequest& request) {
    const RequestId id = fake.engine->submit(request).value().id;
    while (fake.events.now(id).ids.empty()) std::this_thread::sleep_for(1ms);
    std::this_thread::sleep_for(50ms);
    return id;
  }
};

constexpr auto kStep = 500ms;
constexpr auto kLongRest = 9s;  // a little less than what follows such a step

TEST(Pace, StepsLeaveTheRestOfTheTimeFreeAndTheAnswerIsTheSame) {
  const auto began = Clock::now();
  Slow slow(10ms);
  const auto answer = slow.fake.events.wait(slow.fake.engine->submit(ask("a", 4)).value().id);
  test::FakeEngine usual;
  EXPECT_EQ(answer.text, usual.events.wait(usual.engine->submit(ask("a", 4)).value().id).text);
  ASSERT_EQ(slow.steps, 4);
  EXPECT_GE(Clock::now() - began, 3 * 190ms);
}

TEST(Pace, ACancelDoesNotWaitForTheRest) {
  Slow slow(kStep);
  const RequestId id = slow.resting(ask("a", 40));
  const auto began = Clock::now();
  slow.fake.engine->cancel(id);
  EXPECT_EQ(slow.fake.events.wait(id).done->reason, FinishReason::cancelled);
  EXPECT_LT(Clock::now() - began, kLongRest);
}

TEST(Pace, ARealtimeRequestStartsWithoutWaitingForTheRest) {
  Slow slow(kStep);
  slow.resting(ask("a", 40));
  const auto began = Clock::now();
  GenerateRequest urgent = ask("b", 1);
  urgent.request_class = RequestClass::realtime;
  EXPECT_TRUE(slow.fake.events.wait(slow.fake.engine->submit(urgent).value().id).done);
  EXPECT_LT(Clock::now() - began, kLongRest);
}

TEST(Pace, ADeadlineIsKeptDuringTheRest) {
  Slow slow(kStep);
  GenerateRequest request = ask("a", 40);
  request.deadline_ms = 700;
  request.partial = true;
  const auto began = Clock::now();
  const auto answer = slow.fake.events.wait(slow.resting(request));
  EXPECT_EQ(answer.done->reason, FinishReason::deadline);
  EXPECT_LT(Clock::now() - began, kLongRest);
}

TEST(Pace, ADeadlineOfALaterRequestIsKeptDuringTheRest) {
  Slow slow(kStep);
  slow.resting(ask("a", 40));
  GenerateRequest request = ask("b", 40);
  request.max_queue_ms = 100;
  const auto began = Clock::now();
  EXPECT_EQ(slow.fake.events.wait(slow.fake.engine->submit(request).value().id).error->code(), ErrorCode::deadline);
  EXPECT_LT(Clock::now() - began, kLongRest);
}

TEST(Pace, TheEndDoesNotWaitForTheRest) {
  Slow slow(kStep);
  slow.resting(ask("a", 40));
  const auto began = Clock::now();
  slow.fake.engine->close();
  EXPECT_LT(Clock::now() - began, kLongRest);
}

TEST(Pace, AFasterPaceBeginsAtOnce) {
  Slow slow(kStep);
  const RequestId id = slow.resting(ask("a", 2));
  const auto began = Clock::now();
  slow.fake.engine->set_pace({});
  EXPECT_TRUE(slow.fake.events.wait(id).done);
  EXPECT_LT(Clock::now() - began, kLongRest);
}

TEST(Pace, ItsReasonIsOneOfThoseWhyTheEngineIsDegraded) {
  test::FakeEngine fake;
  fake.engine->set_pace({.duty = 0.5, .reason = "it is hot", .zone = "cpu", .celsius = 91, .limit_celsius = 90});
  EXPECT_EQ(fake.engine->status().degraded, std::vector<std::string>{"it is hot"});
  EXPECT_EQ(fake.engine->status().pace.zone, "cpu");
  fake.engine->set_pace({});
  EXPECT_TRUE(fake.engine->status().degraded.empty());
}

}  // namespace
}  // namespace sirocco

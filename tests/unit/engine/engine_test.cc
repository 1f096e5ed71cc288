#include "engine/engine.h"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdio>
#include <future>
#include <limits>
#include <thread>

#include "engine/gguf/mapping_guard.h"
#include "tests/support/fake_engine.h"

namespace sirocco {
namespace {

using test::FakeEngine;
using test::Gate;

GenerateRequest ask(std::string text, std::uint32_t max_tokens) {
  GenerateRequest request;
  request.prompt = TextPrompt{.text = std::move(text)};
  request.max_tokens = max_tokens;
  return request;
}

std::string expected(char last, std::size_t count) {
  const test::FakeTokenizer tokenizer;
  std::string text;
  TokenId token = last - 'a';
  while (text.size() < count && (token = test::next_token(token)) != test::kEnd) text += tokenizer.token(token);
  return text;
}

TEST(Engine, AnswersWithTheTokensOfTheModel) {
  FakeEngine fake;
  const Submitted submitted = fake.engine->submit(ask("hello", 5)).value();
  EXPECT_EQ(submitted.prompt_tokens, 5U);
  const auto answer = fake.events.wait(submitted.id);
  ASSERT_TRUE(answer.done);
  EXPECT_EQ(answer.text, expected('o', 5));
  EXPECT_EQ(answer.done->reason, FinishReason::max_tokens);
  EXPECT_EQ(answer.done->generated_tokens, 5U);
  EXPECT_EQ(answer.done->prompt_tokens, 5U);
}

TEST(Engine, ManyRequestsGetWhatEachGetsAloneAndOneEnding) {
  FakeEngine fake([](EngineParts& parts) { parts.max_queued = parts.max_queued_per_uid = 100; });
  std::vector<std::pair<RequestId, std::string>> sent;
  for (int i = 0; i < 60; ++i) {
    const std::string prompt(static_cast<std::size_t>(1 + i % 23), static_cast<char>('a' + (i * 5) % 24));
    const auto tokens = static_cast<std::uint32_t>(1 + i % 17);
    sent.emplace_back(fake.engine->submit(ask(prompt, tokens)).value().id, expected(prompt.back(), tokens));
  }
  for (const auto& [id, text] : sent) {
    const auto answer = fake.events.wait(id);
    EXPECT_EQ(answer.text, text);
    EXPECT_TRUE(answer.done);
  }
  fake.engine->close();
  for (const auto& [id, text] : sent) EXPECT_EQ(fake.events.now(id).endings, 1);
  const EngineStatus status = fake.engine->status();
  EXPECT_EQ(status.kv.available, status.kv.blocks);
  EXPECT_TRUE(status.requests.empty());
}

TEST(Engine, TheEndTokenEndsTheAnswerAndIsNotShown) {
  FakeEngine fake;
  const auto answer = fake.events.wait(fake.engine->submit(ask("y", 9)).value().id);
  ASSERT_TRUE(answer.done);
  EXPECT_EQ(answer.done->reason, FinishReason::end_token);
  EXPECT_EQ(answer.text, "");
  EXPECT_TRUE(answer.ids.empty());
}

TEST(Engine, AFullContextEndsTheAnswer) {
  FakeEngine fake([](EngineParts& parts) { parts.context = 10; });
  const auto answer = fake.events.wait(fake.engine->submit(ask("aaaaaaa", 50)).value().id);
  ASSERT_TRUE(answer.done);
  EXPECT_EQ(answer.done->reason, FinishReason::context_full);
  EXPECT_EQ(answer.done->generated_tokens, 3U);
}

TEST(Engine, WithoutALimitTheAnswerGoesOnUntilTheContextIsFull) {
  FakeEngine fake([](EngineParts& parts) {
    parts.context = 3000;
    parts.kv_blocks = 750;
  });
  const auto answer = fake.events.wait(fake.engine->submit(ask("a", 0)).value().id);
  ASSERT_TRUE(answer.done);
  EXPECT_EQ(answer.done->reason, FinishReason::context_full);
  EXPECT_EQ(answer.done->generated_tokens, 2999U);
}

TEST(Engine, AStopStringAcrossTokensIsNeverShown) {
  FakeEngine fake;
  const std::string whole = expected('a', 10);
  GenerateRequest request = ask("a", 10);
  request.stops = {whole.substr(4, 3)};
  const auto answer = fake.events.wait(fake.engine->submit(request).value().id);
  ASSERT_TRUE(answer.done);
  EXPECT_EQ(answer.text, whole.substr(0, 4));
  EXPECT_EQ(answer.done->reason, FinishReason::stop_string);
  EXPECT_EQ(answer.done->stop, whole.substr(4, 3));
  EXPECT_EQ(answer.done->generated_tokens, 7U);
}

TEST(Engine, CancelDuringPrefillEndsWithinOneStepAndFreesTheBlocks) {
  FakeEngine fake;
  Gate gate;
  fake.backend->before = [&](const Step&) -> Result<void> {
    gate.pass();
    return {};
  };
  const RequestId id = fake.engine->submit(ask(std::string(40, 'b'), 4)).value().id;  // five steps of prefill
  gate.let_through(1);
  gate.wait_for_arrivals(2);  // the second step has begun
  fake.engine->cancel(id);
  fake.engine->cancel(id);
  gate.let_through(1);
  const auto answer = fake.events.wait(id);
  ASSERT_TRUE(answer.done);
  EXPECT_EQ(answer.done->reason, FinishReason::cancelled);
  EXPECT_EQ(answer.done->generated_tokens, 0U);
  EXPECT_EQ(gate.arrivals(), 2);
  gate.open();
  EXPECT_TRUE(fake.events.wait(fake.engine->submit(ask("a", 1)).value().id).done);
  fake.engine->close();
  EXPECT_EQ(fake.engine->status().kv.available, 64U);
  EXPECT_EQ(fake.events.now(id).endings, 1);
}

TEST(Engine, ACancelledRequestInTheQueueNeverRuns) {
  FakeEngine fake([](EngineParts& parts) { parts.max_running = 1; });
  Gate gate;
  fake.backend->before = [&](const Step&) -> Result<void> {
    gate.pass();
    return {};
  };
  const RequestId first = fake.engine->submit(ask("a", 2)).value().id;
  gate.wait_for_arrivals(1);
  const RequestId second = fake.engine->submit(ask("b", 2)).value().id;
  fake.engine->cancel(second);
  gate.open();
  EXPECT_EQ(fake.events.wait(second).done->reason, FinishReason::cancelled);
  EXPECT_TRUE(fake.events.wait(first).done);
}

TEST(Engine, AFullQueueIsBusyAndNothingIsLost) {
  FakeEngine fake([](EngineParts& parts) {
    parts.max_running = 1;
    parts.max_queued = 2;
  });
  Gate gate;
  fake.backend->before = [&](const Step&) -> Result<void> {
    gate.pass();
    return {};
  };
  std::vector<RequestId> ids = {fake.engine->submit(ask("a", 2)).value().id};
  gate.wait_for_arrivals(1);
  for (int i = 0; i < 2; ++i) ids.push_back(fake.engine->submit(ask("b", 2)).value().id);
  const auto refused = fake.engine->submit(ask("c", 2));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code(), ErrorCode::busy);
  gate.open();
  for (const RequestId id : ids) EXPECT_TRUE(fake.events.wait(id).done);
}

TEST(Engine, LogitsThatAreNoNumbersFailOnlyTheRequestTheyBelongTo) {
  FakeEngine fake;
  fake.backend->spoil = [](std::span<float> logits) {
    if (logits[static_cast<std::size_t>(test::next_token('q' - 'a'))] == 1)
      logits[3] = std::numeric_limits<float>::quiet_NaN();
  };
  const RequestId spoilt = fake.engine->submit(ask("q", 3)).value().id;
  const RequestId healthy = fake.engine->submit(ask("a", 3)).value().id;
  const auto answer = fake.events.wait(spoilt);
  ASSERT_TRUE(answer.error);
  EXPECT_EQ(answer.error->code(), ErrorCode::corrupt);
  EXPECT_TRUE(fake.events.wait(healthy).done);
}

TEST(Engine, AFailedStepEndsItsRequestsAndTheEngineGoesOn) {
  FakeEngine fake;
  int failures = 1;
  fake.backend->before = [&](const Step&) -> Result<void> {
    if (failures-- > 0) return fail(ErrorCode::io, "expert 1 of layer 0: read failed");
    return {};
  };
  const auto answer = fake.events.wait(fake.engine->submit(ask("a", 3)).value().id);
  ASSERT_TRUE(answer.error);
  EXPECT_EQ(answer.error->message(), "expert 1 of layer 0: read failed");
  EXPECT_TRUE(fake.events.wait(fake.engine->submit(ask("a", 3)).value().id).done);
}

TEST(Engine, ASequenceThatFailsEndsItsRequestAndNoOtherOfTheStep) {
  FakeEngine fake;
  std::atomic<bool> failing = true;
  fake.backend->tell = [&](const Step& step, StepReport& report) {
    // Whoever stands at 'q', which is where one of them begins.
    for (std::size_t i = 0; i < step.sequences.size(); ++i)
      if (failing && step.sequences[i].tokens.back() == 'q' - 'a')
        report.failures.push_back(
            {.sequence = i, .error = Error(ErrorCode::io, "expert 1 of layer 0 could not be read")});
  };
  const RequestId hit = fake.engine->submit(ask("q", 3)).value().id;
  const RequestId spared = fake.engine->submit(ask("a", 3)).value().id;
  const auto answer = fake.events.wait(hit);
  ASSERT_TRUE(answer.error);
  EXPECT_EQ(answer.error->message(), "expert 1 of layer 0 could not be read");
  EXPECT_TRUE(answer.ids.empty());
  EXPECT_EQ(answer.endings, 1);
  const auto whole = fake.events.wait(spared);
  ASSERT_TRUE(whole.done);
  EXPECT_EQ(whole.ids.size(), 3U);
  failing = false;
  EXPECT_TRUE(fake.events.wait(fake.engine->submit(ask("q", 3)).value().id).done);
  EXPECT_EQ(fake.engine->status().kv.available, fake.engine->status().kv.blocks);
}

// One lossy expert for each row of the sequence that began with 'q'.
TEST(Engine, WhatARequestDidWithoutIsSummedInItsEndingAndInNoOther) {
  FakeEngine fake;
  std::optional<BlockId> touched;
  fake.backend->tell = [&](const Step& step, StepReport& report) {
    for (const StepSequence& sequence : step.sequences) {
      const BlockId block = sequence.block_table.front();
      if (sequence.position == 0 && block == touched) touched.reset();  // a later sequence's
      if (sequence.position == 0 && sequence.tokens.front() == 'q' - 'a') touched = block;
      report.lossy_experts.push_back(block == touched ? sequence.tokens.size() : 0);
    }
  };
  const RequestId lossy = fake.engine->submit(ask("qrstuvwxabc", 3)).value().id;  // more rows than one step has
  const RequestId exact = fake.engine->submit(ask("a", 3)).value().id;
  EXPECT_EQ(fake.events.wait(lossy).done.value().lossy_experts, 11U + 2U);
  EXPECT_EQ(fake.events.wait(exact).done.value().lossy_experts, 0U);
}

TEST(Engine, ARequestIsShownAsRunningDuringItsFirstStep) {
  Gate gate;
  FakeEngine fake;
  fake.backend->before = [&](const Step&) -> Result<void> {
    gate.pass();
    return {};
  };
  const RequestId id = fake.engine->submit(ask("a", 2)).value().id;
  gate.wait_for_arrivals(1);
  const EngineStatus status = fake.engine->status();
  gate.open();
  ASSERT_EQ(status.requests.size(), 1U);
  EXPECT_EQ(status.requests[0].id, id);
  EXPECT_EQ(status.requests[0].state, SchedRequestState::running);
}

TEST(Engine, ARequestThatHasEndedIsNoLongerShown) {
  FakeEngine fake;
  for (int i = 0; i < 200; ++i) {
    fake.events.wait(fake.engine->submit(ask("a", 1)).value().id);
    const EngineStatus status = fake.engine->status();
    EXPECT_TRUE(status.requests.empty());
    EXPECT_EQ(status.kv.available, status.kv.blocks);
  }
}

TEST(Engine, ATextThatCannotFitIsRefusedWithoutTokenisingIt) {
  FakeEngine fake;  // of one-letter tokens: 64 bytes fit at most
  const auto refusal = [&](std::size_t bytes) { return fake.engine->submit(ask(std::string(bytes, 'a'), 1)).error(); };
  EXPECT_EQ(refusal(65).message(), "the prompt has 65 bytes, more than the context of 64 tokens can hold");
  EXPECT_EQ(refusal(65).code(), ErrorCode::context_overflow);
  EXPECT_EQ(refusal(64).message(), "the prompt has 64 tokens, the context holds 64 with the answer");
}

TEST(Engine, CloseEndsEverythingAndRefusesMore) {
  FakeEngine fake([](EngineParts& parts) { parts.max_running = 1; });
  std::vector<RequestId> ids;
  for (int i = 0; i < 5; ++i) ids.push_back(fake.engine->submit(ask("a", 60)).value().id);
  fake.engine->close();
  for (const RequestId id : ids) {
    const auto answer = fake.events.now(id);
    EXPECT_EQ(answer.endings, 1);
    EXPECT_TRUE(answer.done || answer.error->code() == ErrorCode::shutting_down);
  }
  EXPECT_EQ(fake.engine->submit(ask("a", 1)).error().code(), ErrorCode::shutting_down);
  fake.engine->close();
}

// In a child process: a lost mapping is remembered for good. Exits with 0 if all went as promised.
[[noreturn]] void lose_the_model_while_three_requests_are_there() {
  install_mapping_guard();
  std::FILE* const file = std::tmpfile();
  if (file == nullptr || ftruncate(fileno(file), 4096) != 0) _exit(10);
  const auto* const weights = static_cast<std::byte*>(mmap(nullptr, 4096, PROT_READ, MAP_SHARED, fileno(file), 0));
  guard_mapping(Bytes(weights, 4096), -1, "m.gguf");
  if (ftruncate(fileno(file), 0) != 0) _exit(11);

  std::promise<int> told;  // how many had ended when the failure was told
  test::Events events;
  std::vector<RequestId> ids;
  FakeEngine fake([](EngineParts& parts) { parts.max_running = 2; }, events.sink(),
                  [&](const Error& error) {
                    int ended = 0;
                    for (const RequestId id : ids) {
                      const auto answer = events.now(id);
                      ended += answer.error && answer.error->code() == ErrorCode::io ? answer.endings : 0;
                    }
                    std::fprintf(stderr, "%s\n", error.message().c_str());
                    told.set_value(ended);
                  });
  Gate gate;
  fake.backend->before = [&](const Step&) -> Result<void> {
    gate.pass();
    return std::to_integer<int>(*static_cast<const volatile std::byte*>(weights)) == 0
               ? Result<void>()
               : fail(ErrorCode::internal, "no zeros where the file was");
  };
  for (int i = 0; i < 3; ++i) ids.push_back(fake.engine->submit(ask("a", 60)).value().id);
  gate.open();
  const bool all_ended = told.get_future().get() == 3;
  const bool refused = fake.engine->submit(ask("a", 1)).error().code() == ErrorCode::io;
  _exit(all_ended && refused ? 0 : 12);
}

TEST(EngineDeathTest, ALostModelEndsEveryRequestWithTheReasonBeforeTheFailureIsTold) {
  EXPECT_EXIT(lose_the_model_while_three_requests_are_there(), testing::ExitedWithCode(0), "m.gguf: the file was cut");
}

TEST(Engine, ImpossibleRequestsAreRefusedWithTheReason) {
  FakeEngine fake;
  const auto code = [&](const GenerateRequest& request) { return fake.engine->submit(request).error().code(); };
  EXPECT_EQ(code(ask("", 1)), ErrorCode::invalid_argument);
  EXPECT_EQ(code(ask(std::string(64, 'a'), 1)), ErrorCode::context_overflow);
  GenerateRequest request;
  request.prompt = std::vector<TokenId>{1, 32};
  EXPECT_EQ(code(request), ErrorCode::invalid_argument);
  request.prompt = std::vector<TokenId>{-1};
  EXPECT_EQ(code(request), ErrorCode::invalid_argument);
  Conversation conversation;
  conversation.messages.emplace_back().content = "a";
  request.prompt = conversation;
  EXPECT_EQ(code(request), ErrorCode::unsupported);
  request = ask("a", 1);
  request.sampling.top_p = 2;
  EXPECT_EQ(code(request), ErrorCode::invalid_argument);
}

TEST(Engine, MemoryIsReleasedAfterIdleAfterAndTakenBackWithTheNextRequest) {
  FakeEngine fake([](EngineParts& parts) { parts.idle_after = std::chrono::milliseconds(20); });
  const auto released = [&] { return fake.engine->status().memory_released; };
  const auto until_released = [&] {
    while (!released()) std::this_thread::yield();
  };
  until_released();
  bool in_step = true;
  fake.backend->before = [&](const Step&) -> Result<void> {
    in_step = released();
    return {};
  };
  EXPECT_TRUE(fake.events.wait(fake.engine->submit(ask("a", 3)).value().id).done);
  EXPECT_FALSE(in_step);
  until_released();
  fake.engine->set_idle_after(std::chrono::milliseconds(0));
  EXPECT_TRUE(fake.events.wait(fake.engine->submit(ask("a", 3)).value().id).done);
  std::this_thread::sleep_for(std::chrono::milliseconds(60));
  EXPECT_FALSE(released());
}

TEST(Engine, MemoryIsReleasedBetweenStepsWhenThatIsAskedFor) {
  FakeEngine fake;
  Gate gate;
  fake.backend->before = [&](const Step&) -> Result<void> {
    gate.pass();
    return {};
  };
  const RequestId id = fake.engine->submit(ask("a", 5)).value().id;
  gate.wait_for_arrivals(1);
  std::promise<void> done;
  ASSERT_TRUE(fake.engine->release_memory([&](const ReleasedMemory&) { done.set_value(); }));
  gate.open();
  done.get_future().wait();
  const auto answer = fake.events.wait(id);
  EXPECT_EQ(answer.text, expected('a', 5));
  fake.engine->close();
  EXPECT_FALSE(fake.engine->release_memory([](const ReleasedMemory&) {}));
}

TEST(Engine, StepsAreToldToWhoeverWatches) {
  std::vector<StepFacts> steps;
  FakeEngine fake(
      [&](EngineParts& parts) { parts.step_watch = [&](const StepFacts& step) { steps.push_back(step); }; });
  EXPECT_TRUE(fake.events.wait(fake.engine->submit(ask(std::string(12, 'a'), 3)).value().id).done);
  fake.engine->close();
  ASSERT_EQ(steps.size(), 4U);  // 8 and 4 rows of the prompt, and two of the answer
  EXPECT_EQ(steps[0].step, 1U);
  EXPECT_EQ(steps[0].prompt_rows, 8U);
  EXPECT_EQ(steps[1].prompt_rows, 4U);
  EXPECT_EQ(steps[3].decode_rows, 1U);
  EXPECT_EQ(steps[3].sequences, 1U);
  EXPECT_GT(steps[3].expected_seconds, 0);
  EXPECT_GE(steps[3].seconds, 0);
}

TEST(Engine, ADeadlineCountsFromTheArrivalOfTheRequest) {
  FakeEngine fake;
  GenerateRequest request = ask("a", 3);
  request.deadline_ms = 60'000;
  EXPECT_TRUE(fake.engine->submit(request));
  request.arrived -= std::chrono::minutes(2);  // it has waited to be tokenised
  EXPECT_EQ(fake.engine->submit(request).error().code(), ErrorCode::deadline);
}

}  // namespace
}  // namespace sirocco

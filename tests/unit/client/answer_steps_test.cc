// An answer taken piece by piece, by start() and next().
#include <poll.h>

#include <thread>

#include "tests/unit/server/serving.h"

namespace sirocco {
namespace {

using namespace std::chrono_literals;
using test::kPatience;
using wire::Done;
using wire::DoneReason;
using wire::TokenBatch;
using Kind = ClientError::Kind;

class AnswerSteps : public test::Serving {
 protected:
  static bool readable(const Client& client, std::chrono::milliseconds wait = 0ms) {
    pollfd polled{.fd = client.poll_descriptor(), .events = POLLIN, .revents = 0};
    return ::poll(&polled, 1, static_cast<int>(wait.count())) == 1;
  }
  // The next event, which must be a T.
  template <class T>
  static T next(Client& client) {
    auto event = client.next(kPatience);
    EXPECT_TRUE(event) << event.error().message;
    const T* wanted = event && *event ? std::get_if<T>(&**event) : nullptr;
    EXPECT_NE(wanted, nullptr);
    return wanted == nullptr ? T{} : *wanted;
  }
  static void start_answer(Client& client) {
    const auto started = client.start(prompt("x"));
    EXPECT_TRUE(started) << started.error().message;
  }
};

TEST_F(AnswerSteps, ComeInOrderAndEndWithDone) {
  handler.answer = [this](RequestKey key, const wire::Generate&) {
    server->send(key, wire::Accepted{4, 1});
    server->send(key, TokenBatch{{1}, "one"});
    server->send(key, Done{.reason = DoneReason::max_tokens, .generated_tokens = 1});
  };
  start();
  Client client = connect();
  for (int i = 0; i < 2; ++i) {
    start_answer(client);
    EXPECT_TRUE(client.answering());
    EXPECT_EQ(next<wire::Accepted>(client).prompt_tokens, 4U);
    EXPECT_EQ(next<TokenBatch>(client).text, "one");
    EXPECT_EQ(next<Done>(client).generated_tokens, 1U);
    EXPECT_FALSE(client.answering());
  }
}

TEST_F(AnswerSteps, NothingWithinTheTimeoutIsNoError) {
  start();
  Client client = connect();
  start_answer(client);
  const auto nothing = client.next(1ms);
  ASSERT_TRUE(nothing) << nothing.error().message;
  EXPECT_FALSE(*nothing);
  EXPECT_TRUE(client.answering());
}

TEST_F(AnswerSteps, DescriptorIsReadableWhenSomethingComesAndNotBefore) {
  start();
  Client client = connect();
  start_answer(client);
  const RequestKey key = handler.generated(1).at(0).key;
  EXPECT_FALSE(readable(client));
  server->send(key, TokenBatch{{1}, "one"});
  EXPECT_TRUE(readable(client, kPatience));
  EXPECT_EQ(next<TokenBatch>(client).text, "one");
  EXPECT_FALSE(readable(client));
}

TEST_F(AnswerSteps, CancelOfAnotherThreadMakesTheDescriptorReadable) {
  start();
  Client client = connect();
  start_answer(client);
  std::thread([&] { client.cancel(); }).join();
  EXPECT_TRUE(readable(client));
  EXPECT_FALSE(client.next(0ms).value());
  EXPECT_FALSE(readable(client));
  server->send(handler.cancelled(1).at(0), Done{.reason = DoneReason::cancelled});
  EXPECT_EQ(next<Done>(client).reason, DoneReason::cancelled);
}

TEST_F(AnswerSteps, WhatComesWhileSomethingElseIsAskedIsKept) {
  handler.answer = [this](RequestKey key, const wire::Generate&) {
    server->send(key, TokenBatch{{1}, "one"});
    server->send(key, Done{.generated_tokens = 1});
  };
  start();
  Client client = connect();
  start_answer(client);
  handler.generated(1);
  EXPECT_TRUE(client.status());
  EXPECT_EQ(client.tokenize({.text = "x"}).value().size(), 3U);
  EXPECT_EQ(next<TokenBatch>(client).text, "one");
  EXPECT_EQ(next<Done>(client).generated_tokens, 1U);
}

TEST_F(AnswerSteps, OneAnswerAtATime) {
  start();
  Client client = connect();
  start_answer(client);
  const auto second = client.start(prompt("y"));
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().kind, Kind::invalid);
  EXPECT_NE(second.error().message.find("an answer is under way"), std::string::npos);
  EXPECT_EQ(handler.generated(1).size(), 1U);
}

TEST_F(AnswerSteps, WithoutAnAnswerThereIsNoNextAndACancelIsForgotten) {
  start();
  Client client = connect();
  client.cancel();
  const auto nothing = client.next(0ms);
  ASSERT_FALSE(nothing);
  EXPECT_EQ(nothing.error().kind, Kind::invalid);
  EXPECT_FALSE(readable(client));
}

TEST_F(AnswerSteps, RefusalEndsTheAnswerAndTheNextOneGoesOn) {
  handler.answer = [this](RequestKey key, const wire::Generate&) {
    server->send(key, wire::Error{wire::ErrorCode::busy, "the queue is full", 250});
  };
  start();
  Client client = connect();
  for (int i = 0; i < 2; ++i) {
    start_answer(client);
    const auto refused = client.next(kPatience);
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code, wire::ErrorCode::busy);
    EXPECT_FALSE(client.answering());
  }
}

}  // namespace
}  // namespace sirocco

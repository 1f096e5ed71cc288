// Clients that read slowly or not at all: what they cost is bounded, and nobody else notices.
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <thread>

#include "ipc/wire/codec.h"
#include "ipc/wire/frame.h"
#include "tests/unit/server/serving.h"

namespace sirocco {
namespace {

using namespace std::chrono_literals;
using test::receive;

using wire::Done;
using wire::DoneReason;
using wire::ErrorCode;
using wire::TokenBatch;

using FlowTest = test::Serving;

TEST_F(FlowTest, BatchesThatWaitAreSentAsOne) {
  handler.answer = [this](RequestKey key, const wire::Generate&) {
    for (int i = 0; i < 100; ++i) server->send(key, TokenBatch{{i}, std::to_string(i) + " "});
    server->send(key, Done{});
  };
  start();
  Client client = connect();
  send(client, 1, prompt("x"));
  // The first is being written while the others arrive.
  EXPECT_EQ(receive<TokenBatch>(client, 1), (TokenBatch{{0}, "0 "}));
  TokenBatch rest;
  for (int i = 1; i < 100; ++i) {
    rest.ids.push_back(i);
    rest.text += std::to_string(i) + " ";
  }
  EXPECT_EQ(receive<TokenBatch>(client, 1), rest);
  receive<Done>(client, 1);
}

TEST_F(FlowTest, BatchesOfDifferentRequestsStayApart) {
  start();
  Client client = connect();
  send(client, 1, prompt("x"));
  send(client, 2, prompt("y"));
  const auto generated = handler.generated(2);
  for (int i = 0; i < 10; ++i) {
    server->send(generated[0].key, TokenBatch{{i}, "a"});
    server->send(generated[1].key, TokenBatch{{-i + 100}, "b"});
  }
  server->send(generated[0].key, Done{});
  server->send(generated[1].key, Done{});
  std::string text[3];
  for (int endings = 0; endings < 2;) {
    const auto received = receive(client);
    ASSERT_TRUE(received.request_id == 1 || received.request_id == 2);
    if (const auto* batch = std::get_if<TokenBatch>(&received.message)) text[received.request_id] += batch->text;
    if (std::holds_alternative<Done>(received.message)) ++endings;
  }
  EXPECT_EQ(text[1], std::string(10, 'a'));
  EXPECT_EQ(text[2], std::string(10, 'b'));
}

TEST_F(FlowTest, SlowConsumerLosesThatRequestAndNothingElse) {
  start();
  Client slow = connect();
  Client other = connect();
  send(slow, 1, prompt("much"));
  send(slow, 2, prompt("little"));
  const auto generated = handler.generated(2);
  const RequestKey much = generated[0].key;

  const std::string piece(16 * 1024, 'x');
  for (int i = 0; i < 200; ++i) server->send(much, TokenBatch{{i}, piece});  // 3 MiB, and nobody reads
  EXPECT_EQ(handler.ended(1), (std::vector{std::pair(much, ErrorCode::slow_consumer)}));
  EXPECT_TRUE(other.status());

  server->send(generated[1].key, TokenBatch{{5}, "little"});
  server->send(generated[1].key, Done{});
  std::size_t much_bytes = 0;
  wire::Error error;
  bool little_done = false;
  while (!little_done || error.message.empty()) {
    const auto received = receive(slow);
    if (const auto* batch = std::get_if<TokenBatch>(&received.message); batch && received.request_id == 1) {
      ASSERT_TRUE(error.message.empty()) << "text after the ending";
      much_bytes += batch->text.size();
    }
    if (const auto* e = std::get_if<wire::Error>(&received.message)) {
      EXPECT_EQ(received.request_id, 1U);
      error = *e;
    }
    little_done = little_done || (std::holds_alternative<Done>(received.message) && received.request_id == 2);
    ASSERT_FALSE(HasFailure());
  }
  EXPECT_EQ(error.code, ErrorCode::slow_consumer);
  EXPECT_LT(much_bytes, std::size_t{2} << 20);  // what may wait, and what the kernel had taken
  EXPECT_TRUE(slow.status());
}

TEST_F(FlowTest, WhatComesLateForARequestDoesNotReachTheNextOfTheSameNumber) {
  start();
  Client client = connect();
  send(client, 1, prompt("slow"));
  const RequestKey slow = handler.generated(1)[0].key;
  const std::string piece(64 * 1024, 'x');
  for (int i = 0; i < 40; ++i) server->send(slow, TokenBatch{{}, piece});
  handler.ended(1);
  for (;;) {
    const auto received = receive(client);
    if (std::holds_alternative<wire::Error>(received.message)) break;
    ASSERT_FALSE(HasFailure());
  }

  send(client, 1, prompt("next"));
  const RequestKey next = handler.generated(2)[1].key;
  server->send(slow, TokenBatch{{1}, "late"});
  server->send(slow, Done{.reason = DoneReason::cancelled});
  server->send(next, TokenBatch{{2}, "next"});
  server->send(next, Done{.reason = DoneReason::stop_token});
  EXPECT_EQ(receive<TokenBatch>(client, 1).text, "next");
  EXPECT_EQ(receive<Done>(client, 1).reason, DoneReason::stop_token);
}

TEST_F(FlowTest, LongAnswerBehindUnreadOnesEndsWithSlowConsumer) {
  handler.ids.assign(wire::kMaxIds, 7);  // 4 MB
  start();
  Client client = connect();
  Client other = connect();
  std::vector<std::byte> stream;
  for (std::uint64_t id = 1; id <= 3; ++id) {
    const auto frame = wire::encode(wire::Tokenize{.text = "x"}, id);
    stream.insert(stream.end(), frame.begin(), frame.end());
  }
  // At once, because a client that leaves this much unread is not read from again.
  EXPECT_EQ(::send(client.descriptor(), stream.data(), stream.size(), MSG_NOSIGNAL),
            static_cast<ssize_t>(stream.size()));
  handler.tokenized(3);
  EXPECT_TRUE(other.status());  // after the answers have been queued
  EXPECT_EQ(receive<wire::Tokenized>(client, 1).ids.size(), wire::kMaxIds);
  EXPECT_EQ(receive<wire::Error>(client, 2).code, ErrorCode::slow_consumer);
  EXPECT_EQ(receive<wire::Error>(client, 3).code, ErrorCode::slow_consumer);
  EXPECT_TRUE(client.status());
}

// Each bad frame is answered: a client that never reads the answers would otherwise fill the daemon's memory.
TEST_F(FlowTest, ClientThatDoesNotReadIsNotReadFrom) {
  start();
  Client client = connect();
  const auto header = wire::write_header({.length = 1, .type = 999, .request_id = 1});
  std::vector<std::byte> frame(header.begin(), header.end());
  frame.push_back(std::byte{0});

  constexpr std::size_t kTooMany = 1'000'000;  // frames: their answers would be 100 MB
  std::size_t bytes = 0;
  for (;;) {
    ASSERT_LT(bytes, kTooMany * frame.size()) << "the server reads without end";
    const std::size_t at = bytes % frame.size();
    const ssize_t sent = ::send(client.descriptor(), &frame[at], frame.size() - at, MSG_NOSIGNAL);
    if (sent > 0) {
      bytes += static_cast<std::size_t>(sent);
      continue;
    }
    pollfd writable{.fd = client.descriptor(), .events = POLLOUT, .revents = 0};
    if (::poll(&writable, 1, 300) == 0) break;  // it has stopped reading
  }
  ASSERT_EQ(bytes % frame.size(), 0U) << "small writes to a Unix socket are whole";
  for (std::size_t i = 0; i < bytes / frame.size(); ++i) {
    EXPECT_EQ(receive<wire::Error>(client, 1).code, ErrorCode::unknown_type);
    ASSERT_FALSE(HasFailure());
  }
  EXPECT_TRUE(client.status());
}

TEST_F(FlowTest, StopDoesNotWaitForAClientThatDoesNotRead) {
  start({.flush_timeout = 50ms});
  Client client = connect();
  send(client, 1, prompt("x"));
  const RequestKey key = handler.generated(1)[0].key;
  const std::string piece(16 * 1024, 'x');
  for (int i = 0; i < 60; ++i) server->send(key, TokenBatch{{i}, piece});
  const auto begin = std::chrono::steady_clock::now();
  server->stop();
  EXPECT_LT(std::chrono::steady_clock::now() - begin, test::kPatience);
  EXPECT_EQ(server->connections(), 0U);
}

TEST_F(FlowTest, WithoutDescriptorsNewClientsWaitAndOthersAreServed) {
#ifdef __SANITIZE_ADDRESS__
  GTEST_SKIP() << "the sanitizers probe memory through a pipe, and report an error when they get no descriptor for it";
#endif
  start();
  Client client = connect();
  const int waiting = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const int lowest_free = ::dup(waiting);
  ::close(lowest_free);
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &before), 0);
  const rlimit none{.rlim_cur = static_cast<rlim_t>(lowest_free), .rlim_max = before.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &none), 0);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  path().copy(address.sun_path, sizeof(address.sun_path) - 1);
  EXPECT_EQ(::connect(waiting, reinterpret_cast<const sockaddr*>(&address), sizeof(address)), 0);
  EXPECT_TRUE(client.status());
  std::this_thread::sleep_for(20ms);
  EXPECT_EQ(server->connections(), 1U);
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &before), 0);

  const auto hello = wire::encode(wire::Hello{1, 1, "patient"}, 0);
  EXPECT_EQ(::send(waiting, hello.data(), hello.size(), MSG_NOSIGNAL), static_cast<ssize_t>(hello.size()));
  std::byte header[wire::kHeaderBytes];
  EXPECT_EQ(::recv(waiting, header, sizeof(header), MSG_WAITALL), static_cast<ssize_t>(sizeof(header)));
  EXPECT_EQ(wire::read_header(header).type, static_cast<std::uint16_t>(wire::MessageType::welcome));
  ::close(waiting);
}

}  // namespace
}  // namespace sirocco

#include "ipc/server/server.h"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <filesystem>
#include <random>
#include <set>
#include <thread>

#include "ipc/wire/codec.h"
#include "ipc/wire/frame.h"
#include "tests/unit/server/serving.h"

namespace sirocco {
namespace {

using namespace std::chrono_literals;
using test::receive;

using wire::Accepted;
using wire::Done;
using wire::DoneReason;
using wire::ErrorCode;
using wire::TokenBatch;

class ServerTest : public test::Serving {
 protected:
  static void write_bytes(const Client& client, std::span<const std::byte> bytes) {
    EXPECT_EQ(::send(client.descriptor(), bytes.data(), bytes.size(), MSG_NOSIGNAL),
              static_cast<ssize_t>(bytes.size()));
  }
  static void write_frame(const Client& client, wire::FrameHeader header, std::span<const std::byte> payload) {
    const auto bytes = wire::write_header(header);
    std::vector<std::byte> frame(bytes.begin(), bytes.end());
    frame.insert(frame.end(), payload.begin(), payload.end());
    write_bytes(client, frame);
  }
  // A connection that has not said Hello.
  int connect_silently() {
    auto descriptor = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    path().copy(address.sun_path, sizeof(address.sun_path) - 1);
    EXPECT_EQ(::connect(descriptor, reinterpret_cast<const sockaddr*>(&address), sizeof(address)), 0);
    return descriptor;
  }
  // Everything until the end of the stream, as messages. Closes the descriptor.
  static std::vector<Client::Received> read_to_end(int descriptor) {
    wire::FrameReader reader(wire::kMaxPayload);
    std::byte buffer[4096];
    for (ssize_t n = 0; (n = ::recv(descriptor, buffer, sizeof(buffer), 0)) > 0;) {
      reader.push(std::span(buffer).first(static_cast<std::size_t>(n)));
    }
    ::close(descriptor);
    std::vector<Client::Received> messages;
    for (auto frame = reader.next(); frame && *frame; frame = reader.next()) {
      messages.push_back({(*frame)->request_id, wire::decode((*frame)->type, (*frame)->payload).value()});
    }
    return messages;
  }
  void answer_with(const std::string& text) {
    handler.answer = [this, text](RequestKey key, const wire::Generate&) {
      server->send(key, Accepted{3, 0});
      for (const char c : text) server->send(key, TokenBatch{{c}, std::string(1, c)});
      server->send(key, Done{.reason = DoneReason::max_tokens, .prompt_tokens = 3});
    };
  }
};

TEST_F(ServerTest, WelcomeCarriesTheHandlersWordsAndTheServersLimits) {
  handler.limits = PeerLimits{.in_flight_per_connection = 5};
  start({.frame_bytes = 1 << 20});
  const Client client = connect();
  const wire::Welcome expected{.version = 1,
                               .daemon_version = "test",
                               .max_payload_bytes = 1 << 20,
                               .max_in_flight = 5,
                               .state = wire::State::ready};
  EXPECT_EQ(client.welcome(), expected);
}

TEST_F(ServerTest, PeerIsWhoTheKernelSays) {
  start();
  Client client = connect();
  send(client, 1, prompt("x"));
  const auto generated = handler.generated(1);
  EXPECT_EQ(generated[0].peer.uid, ::getuid());
  EXPECT_EQ(generated[0].peer.gid, ::getgid());
  EXPECT_EQ(generated[0].peer.pid, ::getpid());
  EXPECT_EQ(generated[0].generate, prompt("x"));
}

TEST_F(ServerTest, SeveralClientsAtOnceGetTheirOwnAnswers) {
  handler.answer = [this](RequestKey key, const wire::Generate& generate) {
    const std::string& text = std::get<wire::TextPrompt>(generate.prompt).text;
    for (int i = 0; i < 50; ++i) server->send(key, TokenBatch{{i}, text});
    server->send(key, Done{.reason = DoneReason::stop_token});
  };
  start();
  std::vector<std::thread> clients;
  for (int i = 0; i < 8; ++i) {
    clients.emplace_back([&, i] {
      Client client = connect();
      for (int round = 0; round < 5; ++round) {
        std::string text;
        std::string expected;
        const std::string mine = std::to_string(i) + "." + std::to_string(round) + " ";
        for (int k = 0; k < 50; ++k) expected += mine;
        const auto done = client.generate(prompt(mine), {.batch = [&](const TokenBatch& batch) {
                                            text += batch.text;
                                            return true;
                                          }});
        EXPECT_TRUE(done);
        EXPECT_EQ(text, expected);
      }
    });
  }
  for (std::thread& client : clients) client.join();
}

TEST_F(ServerTest, NothingFollowsTheEndingOfARequest) {
  handler.answer = [this](RequestKey key, const wire::Generate&) {
    server->send(key, Done{.reason = DoneReason::stop_token});
    server->send(key, TokenBatch{{1}, "late"});
    server->send(key, wire::Error{ErrorCode::internal, "late", 0});
  };
  start();
  Client client = connect();
  send(client, 1, prompt("x"));
  receive<Done>(client, 1);
  send(client, 2, wire::Status{});
  receive<wire::StatusReport>(client, 2);
}

TEST_F(ServerTest, RequestIdMayBeUsedAgainAfterItsEnding) {
  answer_with("a");
  start();
  Client client = connect();
  for (int i = 0; i < 3; ++i) {
    send(client, 9, prompt("x"));
    EXPECT_EQ(receive<Accepted>(client, 9).prompt_tokens, 3U);
    EXPECT_EQ(receive<TokenBatch>(client, 9).text, "a");
    receive<Done>(client, 9);
  }
}

TEST_F(ServerTest, DuplicateRequestIsAnErrorOfTheConnectionAndTheFirstGoesOn) {
  start();
  Client client = connect();
  send(client, 7, prompt("x"));
  send(client, 7, prompt("y"));
  EXPECT_EQ(receive<wire::Error>(client, 0).code, ErrorCode::duplicate_request);
  server->send(handler.generated(1)[0].key, Done{.reason = DoneReason::stop_token});
  receive<Done>(client, 7);
}

TEST_F(ServerTest, NinthRequestInFlightIsRefusedAndTheEightGoOn) {
  start();
  Client client = connect();
  for (std::uint64_t id = 1; id <= 9; ++id) send(client, id, prompt("x"));
  EXPECT_EQ(receive<wire::Error>(client, 9).code, ErrorCode::too_many_requests);
  for (const auto& [key, peer, generate] : handler.generated(8)) server->send(key, Done{});
  for (std::uint64_t id = 1; id <= 8; ++id) receive<Done>(client, id);
}

TEST_F(ServerTest, RequestIdZeroIsRefused) {
  start();
  Client client = connect();
  send(client, 0, prompt("x"));
  EXPECT_EQ(receive<wire::Error>(client, 0).code, ErrorCode::invalid_message);
}

TEST_F(ServerTest, CancelReachesTheHandlerAndIsIdempotent) {
  start();
  Client client = connect();
  send(client, 1, prompt("x"));
  send(client, 1, wire::Cancel{});
  send(client, 1, wire::Cancel{});
  const RequestKey key = handler.generated(1)[0].key;
  EXPECT_EQ(handler.cancelled(2), (std::vector<RequestKey>{key, key}));
  server->send(key, Done{.reason = DoneReason::cancelled});
  EXPECT_EQ(receive<Done>(client, 1).reason, DoneReason::cancelled);

  send(client, 1, wire::Cancel{});    // ended
  send(client, 555, wire::Cancel{});  // never was
  send(client, 2, wire::Status{});
  receive<wire::StatusReport>(client, 2);
  EXPECT_EQ(handler.cancelled_now(), 2U);
}

TEST_F(ServerTest, DisconnectIsToldOnce) {
  start();
  {
    Client client = connect();
    send(client, 1, prompt("x"));
    handler.generated(1);
  }
  EXPECT_EQ(handler.disconnected(1), (std::vector<ConnectionId>{handler.generated(1)[0].key.connection}));
  server->send(handler.generated(1)[0].key, Done{});  // nobody is there: dropped
  server->stop();
  EXPECT_EQ(handler.disconnected(1).size(), 1U);
  EXPECT_EQ(server->connections(), 0U);
}

TEST_F(ServerTest, OmitIdsLeavesTextAlone) {
  answer_with("a");
  start();
  Client client = connect();
  wire::Generate generate = prompt("x");
  generate.omit_ids = true;
  send(client, 1, generate);
  receive<Accepted>(client, 1);
  EXPECT_EQ(receive<TokenBatch>(client, 1), (TokenBatch{{}, "a"}));
}

TEST_F(ServerTest, AnswerThatTheProtocolDoesNotAllowBecomesAnError) {
  handler.answer = [this](RequestKey key, const wire::Generate&) { server->send(key, TokenBatch{{1}, "\xFF"}); };
  start();
  Client client = connect();
  send(client, 1, prompt("x"));
  const auto error = receive<wire::Error>(client, 1);
  EXPECT_EQ(error.code, ErrorCode::internal);
  EXPECT_EQ(error.message, "the answer does not fit the protocol: TokenBatch.text: not well-formed UTF-8");
  EXPECT_EQ(handler.ended(1)[0].second, ErrorCode::internal);
}

TEST_F(ServerTest, ErrorKeepsItsCodeWhateverItsTextQuotes) {
  handler.answer = [this](RequestKey key, const wire::Generate&) {
    server->send(key, wire::Error{ErrorCode::busy, "file \xFF" + std::string(wire::kMaxMessageBytes, 'x'), 250});
  };
  start();
  Client client = connect();
  send(client, 1, prompt("x"));
  const auto error = receive<wire::Error>(client, 1);
  EXPECT_EQ(error.code, ErrorCode::busy);
  EXPECT_EQ(error.retry_after_ms, 250U);
  EXPECT_EQ(error.message.size(), wire::kMaxMessageBytes);
  EXPECT_EQ(error.message.substr(0, 9), "file \xEF\xBF\xBDx");
}

// --- frames that are wrong

TEST_F(ServerTest, UnknownTypeIsAnErrorAndTheConnectionStays) {
  start();
  Client client = connect();
  const std::byte payload[] = {std::byte{1}, std::byte{2}};
  write_frame(client, {.length = 2, .type = 999, .request_id = 4}, payload);
  EXPECT_EQ(receive<wire::Error>(client, 4).code, ErrorCode::unknown_type);
  EXPECT_TRUE(client.status());
}

TEST_F(ServerTest, InvalidFieldIsAnErrorOfItsRequestAndTheConnectionStays) {
  start();
  Client client = connect();
  wire::Generate generate = prompt("x");
  generate.sampling.temperature = -1;
  write_bytes(client, wire::encode(generate, 4));
  const auto error = receive<wire::Error>(client, 4);
  EXPECT_EQ(error.code, ErrorCode::invalid_message);
  EXPECT_EQ(error.message, "Sampling.temperature: -1 is not within 0 to 100");
  EXPECT_TRUE(client.status());
}

TEST_F(ServerTest, MessageThatOnlyTheDaemonSendsIsRefusedAndTheConnectionStays) {
  start();
  Client client = connect();
  send(client, 4, Done{});
  EXPECT_EQ(receive<wire::Error>(client, 4).code, ErrorCode::unexpected_message);
  send(client, 5, wire::Hello{1, 1, "again"});
  EXPECT_EQ(receive<wire::Error>(client, 5).code, ErrorCode::unexpected_message);
  EXPECT_TRUE(client.status());
}

TEST_F(ServerTest, MalformedFrameIsAnErrorAndTheEndOfTheConnection) {
  start();
  Client client = connect();
  send(client, 1, prompt("x"));
  const std::vector<std::byte> payload(64, std::byte{0xFF});
  write_frame(client, {.length = 64, .type = 3, .request_id = 2}, payload);
  EXPECT_EQ(receive<wire::Error>(client, 2).code, ErrorCode::malformed);
  expect_closed(client);
  handler.disconnected(1);
}

TEST_F(ServerTest, EmptyFrameAndTooLargeFrameEndTheConnection) {
  start();
  Client empty = connect();
  write_frame(empty, {.length = 0, .type = 13, .request_id = 2}, {});
  EXPECT_EQ(receive<wire::Error>(empty, 0).code, ErrorCode::malformed);
  expect_closed(empty);
  Client large = connect();
  write_frame(large, {.length = wire::kMaxPayload + 1, .type = 9, .request_id = 2}, {});
  EXPECT_EQ(receive<wire::Error>(large, 0).code, ErrorCode::frame_too_large);
  expect_closed(large);
}

TEST_F(ServerTest, LargestFrameIsServed) {
  start();
  Client client = connect();
  const auto ids = client.tokenize({.text = std::string(wire::kMaxTokenizeBytes, 'x')});
  ASSERT_TRUE(ids) << ids.error().message;
  EXPECT_EQ(*ids, handler.ids);
}

TEST_F(ServerTest, LargestAnswerIsDelivered) {
  handler.ids.assign(wire::kMaxIds, 7);
  start();
  Client client = connect();
  const auto ids = client.tokenize({.text = "x"});
  ASSERT_TRUE(ids) << ids.error().message;
  EXPECT_EQ(*ids, handler.ids);
}

TEST_F(ServerTest, NeverEndingFrameIsCutOffAndOthersAreServed) {
  start({.frame_timeout = 50ms});
  Client client = connect();
  Client other = connect();
  std::vector<std::byte> begun(100);
  write_frame(client, {.length = 1000, .type = 9, .request_id = 2}, begun);
  EXPECT_EQ(receive<wire::Error>(client, 0).code, ErrorCode::timeout);
  expect_closed(client);
  std::this_thread::sleep_for(100ms);  // silence between frames is no offence
  EXPECT_TRUE(other.status());
}

TEST_F(ServerTest, TricklingAFrameDoesNotProlongItsDeadline) {
  start({.frame_timeout = 60ms});
  Client client = connect();
  write_frame(client, {.length = 100000, .type = 9, .request_id = 2}, {});
  const auto begin = std::chrono::steady_clock::now();
  const std::byte byte{};
  while (::send(client.descriptor(), &byte, 1, MSG_NOSIGNAL) == 1 &&
         std::chrono::steady_clock::now() < begin + test::kPatience) {
    std::this_thread::sleep_for(5ms);
  }
  EXPECT_EQ(receive<wire::Error>(client, 0).code, ErrorCode::timeout);
}

// --- before Hello

TEST_F(ServerTest, SilentClientIsDroppedAtTheHelloTimeout) {
  start({.hello_timeout = 50ms});
  const auto messages = read_to_end(connect_silently());
  ASSERT_EQ(messages.size(), 1U);
  EXPECT_EQ(messages[0].request_id, 0U);
  EXPECT_EQ(messages[0].message,
            wire::Message(wire::Error{ErrorCode::timeout, "no Hello within 50 ms of connecting", 0}));
}

TEST_F(ServerTest, FirstMessageMustBeHello) {
  start();
  const int descriptor = connect_silently();
  const auto frame = wire::encode(wire::Status{}, 3);
  ASSERT_EQ(::send(descriptor, frame.data(), frame.size(), 0), static_cast<ssize_t>(frame.size()));
  const auto messages = read_to_end(descriptor);
  ASSERT_EQ(messages.size(), 1U);
  EXPECT_EQ(std::get<wire::Error>(messages[0].message).code, ErrorCode::unexpected_message);
}

TEST_F(ServerTest, LargeFrameBeforeHelloIsRefused) {
  start();
  const int descriptor = connect_silently();
  const auto header = wire::write_header({.length = wire::kMaxHelloPayload + 1, .type = 1});
  ASSERT_EQ(::send(descriptor, header.data(), header.size(), 0), static_cast<ssize_t>(header.size()));
  const auto messages = read_to_end(descriptor);
  ASSERT_EQ(messages.size(), 1U);
  EXPECT_EQ(std::get<wire::Error>(messages[0].message).code, ErrorCode::frame_too_large);
}

TEST_F(ServerTest, UnknownVersionsAreNamed) {
  start();
  const int descriptor = connect_silently();
  const auto frame = wire::encode(wire::Hello{2, 3, "future"}, 0);
  ASSERT_EQ(::send(descriptor, frame.data(), frame.size(), 0), static_cast<ssize_t>(frame.size()));
  const auto messages = read_to_end(descriptor);
  ASSERT_EQ(messages.size(), 1U);
  EXPECT_EQ(messages[0].message, wire::Message(wire::Error{ErrorCode::version_mismatch,
                                                           "this daemon speaks version 1 of the protocol, the client 2 "
                                                           "to 3: update the daemon",
                                                           0}));
}

TEST_F(ServerTest, RequestsMayFollowHelloWithoutWaitingForWelcome) {
  start();
  const int descriptor = connect_silently();
  auto stream = wire::encode(wire::Hello{1, 1, "eager"}, 0);
  const auto more = wire::encode(wire::Tokenize{.text = "x"}, 5);
  stream.insert(stream.end(), more.begin(), more.end());
  ASSERT_EQ(::send(descriptor, stream.data(), stream.size(), 0), static_cast<ssize_t>(stream.size()));
  wire::FrameReader reader(wire::kMaxPayload);
  std::vector<std::uint16_t> types;
  std::byte buffer[4096];
  while (types.size() < 2) {
    const ssize_t n = ::recv(descriptor, buffer, sizeof(buffer), 0);
    ASSERT_GT(n, 0);
    reader.push(std::span(buffer).first(static_cast<std::size_t>(n)));
    for (auto frame = reader.next(); frame && *frame; frame = reader.next()) types.push_back((*frame)->type);
  }
  ::close(descriptor);
  EXPECT_EQ(types, (std::vector<std::uint16_t>{2, 10}));
}

TEST_F(ServerTest, GarbageNeverHurtsTheServer) {
  start({.hello_timeout = 2000ms});
  std::mt19937 random(1);
  for (int round = 0; round < 200; ++round) {
    const int descriptor = connect_silently();
    if (round % 2 == 0) {
      const auto hello = wire::encode(wire::Hello{1, 1, "garbage"}, 0);
      ::send(descriptor, hello.data(), hello.size(), MSG_NOSIGNAL);
    }
    std::vector<unsigned char> garbage(random() % 600);
    for (unsigned char& byte : garbage) byte = static_cast<unsigned char>(random());
    if (round % 4 == 0 && garbage.size() > 16) std::fill(garbage.begin() + 2, garbage.begin() + 4, 0);
    ::send(descriptor, garbage.data(), garbage.size(), MSG_NOSIGNAL);
    ::close(descriptor);
  }
  Client client = connect();
  EXPECT_TRUE(client.status());
}

// --- the end

TEST_F(ServerTest, StopTellsEveryRequestAndRemovesTheSocket) {
  start();
  Client client = connect();
  Client idle = connect();
  send(client, 1, prompt("x"));
  send(client, 2, prompt("y"));
  handler.generated(2);
  server->stop();
  std::set<std::uint64_t> told;
  for (int i = 0; i < 3; ++i) {
    const auto received = receive(client);
    EXPECT_EQ(std::get<wire::Error>(received.message).code, ErrorCode::shutting_down);
    told.insert(received.request_id);
  }
  EXPECT_EQ(told, (std::set<std::uint64_t>{0, 1, 2}));
  expect_closed(client);
  EXPECT_EQ(receive<wire::Error>(idle, 0).code, ErrorCode::shutting_down);
  EXPECT_FALSE(std::filesystem::exists(path()));
  EXPECT_EQ(handler.disconnected(2).size(), 2U);
  server->stop();  // again: nothing
}

TEST_F(ServerTest, WhatWasSentBeforeStopArrives) {
  start();
  Client client = connect();
  send(client, 1, prompt("x"));
  const RequestKey key = handler.generated(1)[0].key;
  server->send(key, TokenBatch{{1}, "last words"});
  server->send(key, Done{});
  server->stop();
  EXPECT_EQ(receive<TokenBatch>(client, 1).text, "last words");
  receive<Done>(client, 1);
  receive<wire::Error>(client, 0);
}

}  // namespace
}  // namespace sirocco

#include "ipc/client/client.h"

#include <grp.h>
#include <gtest/gtest.h>
#include <sys/fsuid.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <thread>

#include "ipc/wire/codec.h"
#include "tests/unit/server/serving.h"

namespace sirocco {
namespace {

using namespace std::chrono_literals;
using test::receive;
using wire::Done;
using wire::DoneReason;
using wire::TokenBatch;
using Kind = ClientError::Kind;

class ClientTest : public test::Serving {
 protected:
  ClientError refusal(std::chrono::milliseconds timeout = test::kPatience) {
    const auto client = Client::connect(path(), {.timeout = timeout});
    EXPECT_FALSE(client);
    return client ? ClientError{} : client.error();
  }
  // A daemon that is not one: accepts one client, writes `bytes`, and closes.
  std::thread impostor(std::vector<std::byte> bytes) {
    const int listening = listen_silently();
    return std::thread([listening, bytes = std::move(bytes)] {
      const int descriptor = ::accept(listening, nullptr, nullptr);
      ::send(descriptor, bytes.data(), bytes.size(), MSG_NOSIGNAL);
      ::close(descriptor);
      ::close(listening);
    });
  }
  int listen_silently() {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    path().copy(address.sun_path, sizeof(address.sun_path) - 1);
    const int descriptor = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    EXPECT_EQ(::bind(descriptor, reinterpret_cast<const sockaddr*>(&address), sizeof(address)), 0);
    EXPECT_EQ(::listen(descriptor, 0), 0);
    return descriptor;
  }
  std::string how_to_start() const {
    return ": start it with `siroccod --config FILE --socket " + path() +
           "` or `systemctl start sirocco`, or name another socket with --socket or $SIROCCO_SOCKET";
  }
};

TEST_F(ClientTest, MissingSocketSaysHowToStartTheDaemon) {
  const ClientError error = refusal();
  EXPECT_EQ(error.kind, Kind::no_daemon);
  EXPECT_EQ(error.message, "no daemon at " + path() + how_to_start());
}

TEST_F(ClientTest, LeftoverSocketSaysHowToStartTheDaemon) {
  ::close(listen_silently());
  const ClientError error = refusal();
  EXPECT_EQ(error.kind, Kind::no_daemon);
  EXPECT_EQ(error.message, "no daemon at " + path() + " (the socket file is a leftover)" + how_to_start());
}

// For root nothing is forbidden: this thread looks at files as nobody.
class Forbidden : public ClientTest {
 protected:
  ClientError refusal_of(gid_t group) {
    start();
    EXPECT_EQ(::chown(path().c_str(), static_cast<uid_t>(-1), group), 0);
    ::chmod(path().c_str(), 0);
    const bool root = ::geteuid() == 0;
    if (root) {
      ::chmod(directory.path().c_str(), 0755);
      ::setfsuid(65534);
    }
    ClientError error = refusal();
    if (root) ::setfsuid(0);
    EXPECT_EQ(error.kind, Kind::permission);
    return error;
  }
};

TEST_F(Forbidden, SocketNamesItsGroup) {
  const group* const found = ::geteuid() == 0 ? ::getgrnam("daemon") : ::getgrgid(::getgid());
  ASSERT_NE(found, nullptr);
  const std::string name = found->gr_name;
  EXPECT_EQ(refusal_of(found->gr_gid).message, path() + ": permission denied: add yourself to the group " + name +
                                                   " (the socket's group): sudo usermod -aG " + name +
                                                   " $USER, then log in again");
}

TEST_F(Forbidden, NobodyIsAskedToJoinRoot) {
  if (::geteuid() != 0) GTEST_SKIP() << "only root can give a file to its group";
  EXPECT_EQ(refusal_of(0).message, path() +
                                       ": permission denied: ask who runs the daemon for access (server.group in its "
                                       "configuration names the group that may use the socket)");
}

TEST_F(ClientTest, WhatIsNoSocketIsSaidToBeNone) {
  const auto message = [&] { return refusal().message; };
  const std::string advice = " and no socket: name the daemon's socket with --socket or $SIROCCO_SOCKET";
  std::filesystem::create_directory(path());
  EXPECT_EQ(message(), path() + ": is a directory" + advice);
  std::filesystem::remove(path());
  std::ofstream(path()) << "text";
  EXPECT_EQ(message(), path() + ": is a file" + advice);
}

TEST_F(ClientTest, DaemonThatDoesNotGreetIsATimeout) {
  const int silent = listen_silently();
  const ClientError error = refusal(50ms);
  EXPECT_EQ(error.kind, Kind::timeout);
  EXPECT_NE(error.message.find("did not greet us within 50 ms"), std::string::npos) << error.message;
  ::close(silent);
}

TEST_F(ClientTest, FullBacklogIsATimeout) {
  const int silent = listen_silently();
  std::vector<int> waiting;
  // Fill the backlog with connections that stay.
  for (int i = 0; i < 8; ++i) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    path().copy(address.sun_path, sizeof(address.sun_path) - 1);
    waiting.push_back(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    ::connect(waiting.back(), reinterpret_cast<const sockaddr*>(&address), sizeof(address));
  }
  const auto client = Client::connect(path(), {.timeout = 1ms});
  ASSERT_FALSE(client);
  EXPECT_EQ(client.error().kind, Kind::timeout);
  EXPECT_NE(client.error().message.find("does not accept connections"), std::string::npos) << client.error().message;
  for (const int descriptor : waiting) ::close(descriptor);
  ::close(silent);
}

TEST_F(ClientTest, SomebodyWhoSpeaksAnotherProtocolIsNamed) {
  const std::string http = "HTTP/1.1 400 Bad Request\r\n\r\n";
  const auto bytes = std::as_bytes(std::span(http));
  std::thread thread = impostor({bytes.begin(), bytes.end()});
  const ClientError error = refusal();
  thread.join();
  EXPECT_EQ(error.kind, Kind::protocol);
  EXPECT_NE(error.message.find("not Sirocco's protocol"), std::string::npos) << error.message;
}

TEST_F(ClientTest, AnswerOtherThanWelcomeIsNamed) {
  std::thread thread = impostor(wire::encode(wire::Status{}, 0));
  const ClientError error = refusal();
  thread.join();
  EXPECT_EQ(error.message, path() + ": Status instead of Welcome");
}

TEST_F(ClientTest, DaemonThatGoesAwayIsADisconnection) {
  std::thread thread = impostor(wire::encode(wire::Welcome{.version = 1}, 0));
  auto client = Client::connect(path(), {.timeout = test::kPatience});
  thread.join();
  ASSERT_TRUE(client) << client.error().message;
  const auto done = client->generate(prompt("x"), {});
  ASSERT_FALSE(done);
  EXPECT_EQ(done.error().kind, Kind::disconnected);
}

TEST_F(ClientTest, ImpossibleRequestIsRefusedBeforeItIsSent) {
  start();
  Client client = connect();
  wire::Generate generate = prompt("x");
  generate.sampling.top_p = 2;
  const auto done = client.generate(generate, {});
  ASSERT_FALSE(done);
  EXPECT_EQ(done.error().kind, Kind::invalid);
  EXPECT_EQ(done.error().message, "Sampling.top_p: 2 is not within 0 to 1");
  EXPECT_TRUE(client.status());
}

TEST_F(ClientTest, GenerateGivesAcceptedBatchesAndDoneInOrder) {
  handler.answer = [this](RequestKey key, const wire::Generate&) {
    server->send(key, wire::Accepted{4, 1});
    server->send(key, TokenBatch{{1}, "one "});
    server->send(key, TokenBatch{{2}, "two"});
    server->send(key, Done{.reason = DoneReason::stop_string, .stop_string = "\n", .generated_tokens = 2});
  };
  start();
  Client client = connect();
  std::string story;
  const auto done = client.generate(
      prompt("x"), {.accepted = [&](const wire::Accepted& a) { story += std::to_string(a.prompt_tokens) + ": "; },
                    .batch =
                        [&](const TokenBatch& batch) {
                          story += batch.text;
                          return true;
                        }});
  ASSERT_TRUE(done) << done.error().message;
  EXPECT_EQ(story, "4: one two");
  EXPECT_EQ(done->stop_string, "\n");
}

TEST_F(ClientTest, RefusalOfTheDaemonKeepsItsCodeAndRetry) {
  handler.answer = [this](RequestKey key, const wire::Generate&) {
    server->send(key, wire::Error{wire::ErrorCode::busy, "the queue is full", 250});
  };
  start();
  Client client = connect();
  const auto done = client.generate(prompt("x"), {});
  ASSERT_FALSE(done);
  EXPECT_EQ(done.error().kind, Kind::refused);
  EXPECT_EQ(done.error().code, wire::ErrorCode::busy);
  EXPECT_EQ(done.error().retry_after_ms, 250U);
  EXPECT_EQ(done.error().message, "the queue is full (BUSY)");
}

class CancelTest : public ClientTest {
 protected:
  // The daemon answers one batch, and Done once it is asked to cancel.
  void start_endless() {
    handler.answer = [this](RequestKey key, const wire::Generate&) { server->send(key, TokenBatch{{1}, "a"}); };
    start();
    daemon_ = std::thread([this] {
      const RequestKey key = handler.cancelled(1).at(0);
      server->send(key, Done{.reason = DoneReason::cancelled});
    });
  }
  void TearDown() override {
    if (daemon_.joinable()) daemon_.join();
  }

 private:
  std::thread daemon_;
};

TEST_F(CancelTest, CallbackThatReturnsFalseCancels) {
  start_endless();
  Client client = connect();
  const auto done = client.generate(prompt("x"), {.batch = [](const TokenBatch&) { return false; }});
  ASSERT_TRUE(done);
  EXPECT_EQ(done->reason, DoneReason::cancelled);
}

TEST_F(CancelTest, AnotherThreadCancels) {
  start_endless();
  Client client = connect();
  std::thread canceller([&] {
    handler.generated(1);
    client.cancel();
  });
  const auto done = client.generate(prompt("x"), {});
  canceller.join();
  ASSERT_TRUE(done);
  EXPECT_EQ(done->reason, DoneReason::cancelled);
  EXPECT_TRUE(client.status());
}

TEST_F(ClientTest, ASecondCancelLeavesADaemonThatDoesNotAnswer) {
  start();  // and answers nothing
  Client client = connect();
  std::thread canceller([&] {
    handler.generated(1);
    client.cancel();
    handler.cancelled(1);
    client.cancel();
  });
  const auto done = client.generate(prompt("x"), {});
  canceller.join();
  ASSERT_FALSE(done);
  EXPECT_EQ(done.error().kind, Kind::gave_up);
}

TEST_F(ClientTest, CancelWithoutARequestDoesNotCancelTheNext) {
  handler.answer = [this](RequestKey key, const wire::Generate&) { server->send(key, Done{}); };
  start();
  Client client = connect();
  client.cancel();
  ASSERT_TRUE(client.generate(prompt("x"), {}));
  ASSERT_TRUE(client.status());
  EXPECT_EQ(handler.cancelled_now(), 0U);
}

TEST_F(ClientTest, TokenizeDetokenizeAndStatusAnswer) {
  start();
  Client client = connect();
  EXPECT_EQ(client.tokenize({.text = "x"}).value(), (std::vector<std::int32_t>{1, 2, 3}));
  EXPECT_EQ(client.detokenize({.ids = {1}}).value(), "text");
  EXPECT_EQ(client.status().value().daemon_version, "test");
}

TEST_F(ClientTest, ReceiveWithoutAMessageTimesOutAndTheConnectionStays) {
  start();
  Client client = connect();
  const auto nothing = client.receive(10ms);
  ASSERT_TRUE(nothing);
  EXPECT_FALSE(*nothing);
  EXPECT_TRUE(client.status());
}

}  // namespace
}  // namespace sirocco

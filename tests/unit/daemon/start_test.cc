// The daemon's start: clients are answered over a socket while a model is being read, by a loader that tests hold back.
#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "daemon/model_host.h"
#include "ipc/client/client.h"
#include "tests/support/fake_engine.h"
#include "tests/support/receive.h"
#include "tests/support/temporary_directory.h"

namespace sirocco::daemon {
namespace {

using namespace std::chrono_literals;

using test::kPatience;
using test::receive;

class StartTest : public testing::Test {
 protected:
  ~StartTest() override {
    loading.open();
    if (server) server->stop();
    service.stop();
    host.close();
  }

  // Answers clients while the model is being read.
  void start() {
    auto socket = ListeningSocket::bind({.path = path(), .mode = 0600, .group = ""});
    auto admin = ListeningSocket::bind({.path = path() + "-admin", .mode = 0600, .group = ""});
    server.emplace(std::move(socket).value(), ServerLimits{}, service, AdminSocket{.socket = std::move(admin).value()});
    service.connect(nullptr, &*server);
    EngineOptions options;
    options.model = "/models/slow.gguf";
    ASSERT_TRUE(host.begin(options));
    server->start();
    loading.wait_for_arrivals(1);
  }
  Result<void> ending() {
    const auto deadline = std::chrono::steady_clock::now() + kPatience;
    for (;;) {
      if (auto done = host.advance()) return *done;
      if (std::chrono::steady_clock::now() > deadline) return fail(ErrorCode::deadline, "it does not end");
      std::this_thread::sleep_for(1ms);
    }
  }
  // Until the file is being read.
  void advance_to_reading(int arrivals) {
    const auto deadline = std::chrono::steady_clock::now() + kPatience;
    while (host.progress()->expected() == 0 || loading.arrivals() < arrivals) {
      ASSERT_FALSE(host.advance());
      ASSERT_LT(std::chrono::steady_clock::now(), deadline);
      std::this_thread::sleep_for(1ms);
    }
  }
  std::string path() const { return (directory.path() / "socket").string(); }
  Client connect(const std::string& to) const {
    return Client::connect(to, {.timeout = kPatience, .answer_timeout = kPatience}).value();
  }

  Client connect() const { return connect(path()); }

  Result<PreparedModel> prepare(const EngineOptions& options) {
    loading.pass();
    if (failure) return fail(*failure);
    PreparedModel prepared;
    prepared.options = options;
    return prepared;
  }
  // Reads two pieces of 1 GiB, each when it may; or one after the other without end.
  Result<std::unique_ptr<Engine>> open(const PreparedModel& prepared) {
    LoadProgress& progress = *prepared.options.progress;
    progress.expect(2 * GiB);
    for (int i = 0; i < 2 || endless; ++i) {
      loading.pass();
      if (progress.stopped()) return fail(ErrorCode::cancelled, "asked to stop");
      progress.add(1 * GiB);
    }
    return std::move(test::FakeEngine({}, service.sink()).engine);
  }

  test::TemporaryDirectory directory;
  test::Gate loading;
  std::optional<Error> failure;
  bool endless = false;
  Service service;
  std::atomic<int> attention = 0;
  ModelHost host{service,
                 {.prepare = [this](const EngineOptions& options, std::uint64_t) { return prepare(options); },
                  .open = [this](const PreparedModel& prepared) { return open(prepared); }},
                 [this] { ++attention; }};
  std::optional<Server> server;
};

TEST_F(StartTest, WhileTheModelLoadsStatusIsAnsweredAndRequestsWaitForIt) {
  start();
  Client client = connect();
  EXPECT_EQ(client.welcome().state, wire::State::starting);
  EXPECT_FALSE(client.welcome().model);
  ASSERT_TRUE(client.send(1, wire::Generate{.prompt = wire::TextPrompt{"a"}, .raw = true, .max_tokens = 5}));
  ASSERT_TRUE(client.send(2, wire::Tokenize{.text = "abc"}));
  Client other = connect();
  EXPECT_EQ(other.status().value().reasons, std::vector<std::string>{"loading slow.gguf"});
  EXPECT_FALSE(host.advance());
  loading.let_through(2);
  advance_to_reading(3);
  const wire::StatusReport half = other.status().value();
  EXPECT_EQ(half.state, wire::State::starting);
  EXPECT_EQ(half.reasons, std::vector<std::string>{"loading slow.gguf: 1.00 GiB of 2.00 GiB"});
  EXPECT_EQ(half.requests_queued, 1U);
  EXPECT_EQ(host.progress()->done(), 1 * GiB);
  loading.open();
  EXPECT_TRUE(ending());
  EXPECT_GE(attention, 1);
  EXPECT_FALSE(host.loading());
  std::vector<std::uint64_t> ended;
  while (ended.size() < 2) {
    const Client::Received received = receive(client);
    if (std::holds_alternative<wire::Done>(received.message) ||
        std::holds_alternative<wire::Tokenized>(received.message))
      ended.push_back(received.request_id);
    ASSERT_FALSE(std::holds_alternative<wire::Error>(received.message));
  }
  EXPECT_EQ(other.status().value().state, wire::State::ready);
}

TEST_F(StartTest, WhatNeedsTheModelAtOnceIsBusyWhileItLoads) {
  start();
  const auto refused = connect(path() + "-admin").set_budget(1 * GiB);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, wire::ErrorCode::busy);
  EXPECT_EQ(refused.error().retry_after_ms, 1000U);
  EXPECT_NE(refused.error().message.find("slow.gguf is being loaded"), std::string::npos) << refused.error().message;
}

TEST_F(StartTest, AModelThatCannotBeLoadedIsTheStateFailedAndTriedAgainWhenAsked) {
  failure = Error(ErrorCode::not_found, "/models/slow.gguf: No such file or directory");
  start();
  Client client = connect();
  ASSERT_TRUE(client.send(1, wire::Generate{.prompt = wire::TextPrompt{"a"}, .raw = true, .max_tokens = 5}));
  loading.let_through(1);
  EXPECT_EQ(ending().error().code(), ErrorCode::not_found);
  const auto error = receive<wire::Error>(client, 1);
  EXPECT_EQ(error.code, wire::ErrorCode::no_model);
  EXPECT_EQ(error.message, failure->message());
  wire::StatusReport status = client.status().value();
  EXPECT_EQ(status.state, wire::State::failed);
  EXPECT_EQ(status.reasons, std::vector<std::string>{failure->message()});

  failure = Error(ErrorCode::corrupt, "slow.gguf: not a GGUF file");
  ASSERT_TRUE(host.begin({.model = "/models/slow.gguf"}));
  EXPECT_EQ(client.status().value().state, wire::State::starting);
  loading.open();
  EXPECT_EQ(ending().error().code(), ErrorCode::corrupt);
  status = client.status().value();
  EXPECT_EQ(status.state, wire::State::failed);
  EXPECT_EQ(status.reasons, std::vector<std::string>{failure->message()});

  failure.reset();
  ASSERT_TRUE(host.begin({.model = "/models/slow.gguf"}));
  EXPECT_TRUE(ending());
  EXPECT_EQ(client.status().value().state, wire::State::ready);
}

TEST_F(StartTest, LoadingEndsWithTheNextPieceWhenTheDaemonDoes) {
  endless = true;
  start();
  loading.open();
  advance_to_reading(3);
  server->stop();
  service.stop();
  EXPECT_TRUE(host.close());
}

TEST_F(StartTest, AModelThatIsReadFromADiskThatDoesNotAnswerIsNotWaitedFor) {
  start();
  server->stop();
  service.stop();
  EXPECT_FALSE(host.close());
  loading.open();
}

}  // namespace
}  // namespace sirocco::daemon

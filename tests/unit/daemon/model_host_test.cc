// A model is replaced by another under the eyes of clients, over a socket; engines without a model stand for both.
#include "daemon/model_host.h"

#include <gtest/gtest.h>

#include <deque>
#include <thread>

#include "ipc/client/client.h"
#include "tests/support/fake_engine.h"
#include "tests/support/receive.h"
#include "tests/support/temporary_directory.h"

namespace sirocco::daemon {
namespace {

using namespace std::chrono_literals;

using test::kPatience;
using test::receive;

class ModelHostTest : public testing::Test {
 protected:
  ModelHostTest() {
    auto socket = ListeningSocket::bind({.path = path(), .mode = 0600, .group = ""});
    server.emplace(std::move(socket).value(), ServerLimits{}, service);
    service.connect(nullptr, &*server);
    EXPECT_TRUE(host.begin(named("old", 64)));
    EXPECT_TRUE(ending());
    server->start();
  }
  ~ModelHostTest() override {
    gate.open();
    server->stop();
    service.stop();
    host.close();
  }

  // A model of this name; its context is what tells it from others.
  static EngineOptions named(std::string name, std::uint32_t context) {
    EngineOptions options;
    options.model = std::move(name);
    options.context = context;
    return options;
  }

  Result<PreparedModel> prepare(const EngineOptions& options) {
    if (options.model == "broken") return fail(ErrorCode::corrupt, "it is broken");
    PreparedModel prepared;
    prepared.options = options;
    prepared.fits_beside = fits_beside;
    return prepared;
  }
  Result<std::unique_ptr<Engine>> open(const PreparedModel& prepared) {
    opened.push_back(prepared.options.model.string());
    state_then = service.report().state;
    if (!failures.empty()) {
      const bool fails = failures.front();
      failures.pop_front();
      if (fails) return fail(ErrorCode::out_of_memory, "no memory for {}", prepared.options.model.string());
    }
    test::FakeEngine fake(
        [&](EngineParts& parts) {
          parts.context = prepared.options.context;
          parts.session_store =
              std::make_unique<SessionStore>(SessionStore::open({.folder = directory.path() / "sessions",
                                                                 .bytes_per_uid = 1 * MiB,
                                                                 .model = "fake",
                                                                 .kv_layout = "fake",
                                                                 .block_tokens = parts.kv_block_tokens,
                                                                 .block_bytes = parts.backend->block_bytes()})
                                                 .value());
        },
        service.sink());
    fake.backend->before = [this](const Step&) -> Result<void> {
      gate.pass();
      return {};
    };
    return std::move(fake.engine);
  }

  Result<void> ending() {
    const auto deadline = std::chrono::steady_clock::now() + kPatience;
    for (;;) {
      if (auto done = host.advance()) return *done;
      if (std::chrono::steady_clock::now() > deadline) return fail(ErrorCode::deadline, "it does not end");
      std::this_thread::sleep_for(1ms);
    }
  }

  // Goes on until the daemon is in this state, which is not the end.
  void advance_to(wire::State state) {
    const auto deadline = std::chrono::steady_clock::now() + kPatience;
    while (service.report().state != state) {
      ASSERT_FALSE(host.advance());
      ASSERT_LT(std::chrono::steady_clock::now(), deadline);
      std::this_thread::sleep_for(1ms);
    }
  }

  std::string path() const { return (directory.path() / "socket").string(); }
  Client connect() const {
    return Client::connect(path(), {.timeout = kPatience, .answer_timeout = kPatience}).value();
  }
  static wire::Generate raw(std::string text, std::uint32_t max_tokens) {
    return {.prompt = wire::TextPrompt{std::move(text)}, .raw = true, .max_tokens = max_tokens};
  }
  // Of request `id`: the next message that is not a piece of the answer.
  static wire::Message next_of(Client& client, std::uint64_t id) {
    for (;;) {
      const Client::Received received = receive(client);
      EXPECT_EQ(received.request_id, id);
      if (testing::Test::HasFailure() || !std::holds_alternative<wire::TokenBatch>(received.message))
        return received.message;
    }
  }
  static bool done(const wire::Message& message) { return std::holds_alternative<wire::Done>(message); }

  test::TemporaryDirectory directory;
  test::Gate gate;  // that each step passes
  bool fits_beside = false;
  std::vector<std::string> opened;
  wire::State state_then = wire::State::failed;  // when the last was opened
  std::deque<bool> failures;                     // of the next openings
  Service service;
  ModelHost host{service,
                 {.prepare = [this](const EngineOptions& options, std::uint64_t) { return prepare(options); },
                  .open = [this](const PreparedModel& prepared) { return open(prepared); }},
                 [] {}};
  std::optional<Server> server;
};

TEST_F(ModelHostTest, RequestsFinishOnTheOldModelAndThoseThatComeMeanwhileGetTheNewOne) {
  Client client = connect();
  ASSERT_TRUE(client.send(1, raw("a", 5)));
  gate.wait_for_arrivals(1);
  receive<wire::Accepted>(client, 1);
  ASSERT_TRUE(host.begin(named("new", 32)));
  advance_to(wire::State::draining);  // it waits for the request
  Client other = connect();
  ASSERT_TRUE(other.send(1, raw(std::string(40, 'a'), 5)));  // would fit the old model
  ASSERT_TRUE(other.send(2, wire::Status{}));
  const auto status = receive<wire::StatusReport>(other, 2);
  EXPECT_EQ(status.state, wire::State::draining);
  EXPECT_EQ(status.requests_queued, 1U);
  EXPECT_EQ(status.model->context, 64U);
  EXPECT_EQ(host.begin(named("third", 32)).error().code(), ErrorCode::busy);
  EXPECT_EQ(opened, std::vector<std::string>{"old"});
  gate.open();
  EXPECT_TRUE(done(next_of(client, 1)));
  EXPECT_TRUE(ending());
  EXPECT_EQ(opened, (std::vector<std::string>{"old", "new"}));
  EXPECT_EQ(state_then, wire::State::starting);
  EXPECT_EQ(std::get<wire::Error>(next_of(other, 1)).code, wire::ErrorCode::context_overflow);
  const auto after = client.status().value();
  EXPECT_EQ(after.state, wire::State::ready);
  EXPECT_EQ(after.model->context, 32U);
  EXPECT_TRUE(client.generate(raw("a", 5), {}));
}

TEST_F(ModelHostTest, WithMemoryForBothItIsLoadedBeforeAnybodyWaits) {
  fits_beside = true;
  gate.open();
  failures = {true};
  ASSERT_TRUE(host.begin(named("new", 32)));
  EXPECT_EQ(ending().error().code(), ErrorCode::out_of_memory);
  EXPECT_FALSE(host.loading());
  Client client = connect();
  EXPECT_EQ(client.status().value().state, wire::State::ready);
  EXPECT_TRUE(client.generate(raw("a", 5), {}));
  ASSERT_TRUE(host.begin(named("new", 32)));
  EXPECT_TRUE(ending());
  EXPECT_EQ(opened, (std::vector<std::string>{"old", "new", "new"}));
  EXPECT_EQ(state_then, wire::State::ready);
  EXPECT_EQ(client.status().value().model->context, 32U);
  EXPECT_TRUE(client.generate(raw("a", 5), {}));
  EXPECT_EQ(opened.size(), 3U);
}

TEST_F(ModelHostTest, AModelThatCannotBeServedChangesNothing) {
  gate.open();
  ASSERT_TRUE(host.begin(named("broken", 32)));
  EXPECT_EQ(ending().error().code(), ErrorCode::corrupt);
  EXPECT_FALSE(host.loading());
  Client client = connect();
  EXPECT_EQ(client.status().value().state, wire::State::ready);
  EXPECT_TRUE(client.generate(raw("a", 5), {}));
}

TEST_F(ModelHostTest, WhereTheNewOneCannotBeLoadedTheOldOneIsPutBack) {
  gate.open();
  failures = {true};
  Client client = connect();
  EXPECT_TRUE(client.generate(raw("a", 5), {}));
  ASSERT_TRUE(host.begin(named("new", 32)));
  const auto failed = ending();
  ASSERT_FALSE(failed);
  EXPECT_NE(failed.error().message().find("no memory for new"), std::string::npos);
  EXPECT_EQ(opened, (std::vector<std::string>{"old", "new", "old"}));
  EXPECT_EQ(client.status().value().state, wire::State::ready);
  EXPECT_EQ(client.status().value().model->context, 64U);
  EXPECT_TRUE(client.generate(raw("a", 5), {}));
}

TEST_F(ModelHostTest, WhereNeitherCanBeLoadedThereIsNoModelUntilOneCan) {
  gate.open();
  failures = {true, true};
  Client client = connect();
  ASSERT_TRUE(host.begin(named("new", 32)));
  EXPECT_FALSE(ending());
  const auto status = client.status().value();
  EXPECT_EQ(status.state, wire::State::failed);
  ASSERT_EQ(status.reasons.size(), 1U);
  EXPECT_NE(status.reasons[0].find("no memory for new"), std::string::npos) << status.reasons[0];
  EXPECT_NE(status.reasons[0].find("no memory for old"), std::string::npos) << status.reasons[0];
  EXPECT_EQ(client.generate(raw("a", 5), {}).error().code, wire::ErrorCode::no_model);
  ASSERT_TRUE(host.begin(named("third", 16)));
  EXPECT_TRUE(ending());
  EXPECT_TRUE(client.generate(raw("a", 5), {}));
}

// Also where that was opened before the old one had saved them.
TEST_F(ModelHostTest, SessionsAndWhatWasComputedOfThemGoOnWithTheNextEngine) {
  gate.open();
  Client client = connect();
  ASSERT_TRUE(client.session({.action = wire::SessionAction::open, .name = "s"}));
  wire::Generate turn = raw("hello", 3);
  turn.session = "s";
  EXPECT_EQ(client.generate(turn, {}).value().cached_tokens, 0U);
  ASSERT_TRUE(host.begin(named("new", 64)));
  ASSERT_TRUE(ending());
  EXPECT_EQ(client.generate(turn, {}).value().cached_tokens, 7U);  // all but the last, which was not computed
  fits_beside = true;
  ASSERT_TRUE(host.begin(named("newer", 64)));
  ASSERT_TRUE(ending());
  EXPECT_EQ(client.generate(turn, {}).value().cached_tokens, 15U);
  EXPECT_EQ(opened.size(), 3U);
}

TEST_F(ModelHostTest, ASessionThatIsOnDiskAtTheEndIsTold) {
  gate.open();
  Client client = connect();
  for (const char* name : {"a", "b"}) {
    ASSERT_TRUE(client.session({.action = wire::SessionAction::open, .name = name}));
    wire::Generate turn = raw("hello", 3);
    turn.session = name;
    ASSERT_TRUE(client.generate(turn, {}));
  }
  server->stop();
  service.stop();
  EXPECT_EQ(host.synced(), 0U);
  EXPECT_TRUE(host.close());
  EXPECT_EQ(host.synced(), 2U);
}

TEST_F(ModelHostTest, WhoWaitsForTheNewModelCanCancelAndHangUp) {
  Client client = connect();
  ASSERT_TRUE(client.send(1, raw("a", 5)));
  gate.wait_for_arrivals(1);
  ASSERT_TRUE(host.begin(named("new", 32)));
  advance_to(wire::State::draining);
  Client other = connect();
  ASSERT_TRUE(other.send(1, raw("a", 5)));
  ASSERT_TRUE(other.send(1, wire::Cancel{}));
  EXPECT_EQ(receive<wire::Done>(other, 1).reason, wire::DoneReason::cancelled);
  {
    Client gone = connect();
    ASSERT_TRUE(gone.send(1, raw("a", 5)));
  }
  gate.open();
  EXPECT_TRUE(ending());
  const auto deadline = std::chrono::steady_clock::now() + kPatience;
  while (other.status().value().requests_done != 3) ASSERT_LT(std::chrono::steady_clock::now(), deadline);
}

}  // namespace
}  // namespace sirocco::daemon

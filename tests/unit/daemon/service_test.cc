// The engine joined to a real server, over a socket, with a backend whose answers are known.
#include "daemon/service.h"

#include <gtest/gtest.h>
#include <spdlog/sinks/ostream_sink.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <atomic>
#include <limits>
#include <sstream>
#include <thread>

#include "ipc/client/client.h"
#include "ipc/wire/limits.h"
#include "tests/support/fake_engine.h"
#include "tests/support/receive.h"
#include "tests/support/temporary_directory.h"

namespace sirocco::daemon {
namespace {

using namespace std::chrono_literals;

using test::kPatience;
using test::receive;

// Tokenises only when it may.
class GatedTokenizer final : public test::FakeTokenizer {
 public:
  explicit GatedTokenizer(test::Gate& gate) : gate_(gate) {}
  std::vector<TokenId> encode(std::string_view text, bool special) const override {
    gate_.pass();
    return FakeTokenizer::encode(text, special);
  }

 private:
  test::Gate& gate_;
};

class ServiceTest : public testing::Test {
 protected:
  ServiceTest() { service.set_log_prompts(true); }
  ~ServiceTest() override {
    text_gate.open();
    step_gate.open();
    if (server) server->stop();
    if (fake) fake->engine->close();
    service.stop();
    spdlog::set_default_logger(logger_before_);
  }

  void start(const std::function<void(EngineParts&)>& change = {}, const ServerLimits& limits = {}) {
    fake.emplace(change, service.sink());
    serve(limits);
  }
  void serve(const ServerLimits& limits = {}) {
    auto socket = ListeningSocket::bind({.path = path(), .mode = 0600, .group = ""});
    ASSERT_TRUE(socket) << socket.error();
    server.emplace(*std::move(socket), limits, service);
    service.connect(fake ? fake->engine.get() : nullptr, &*server);
    server->start();
  }
  void hold_texts(EngineParts& parts) { parts.tokenizer = std::make_shared<GatedTokenizer>(text_gate); }
  void hold_steps() {
    fake->backend->before = [this](const Step&) -> Result<void> {
      step_gate.pass();
      return {};
    };
  }

  std::string path() const { return (directory_.path() / "socket").string(); }
  Client connect() const {
    return Client::connect(path(), {.timeout = kPatience, .answer_timeout = kPatience}).value();
  }

  static wire::Generate raw(std::string text, std::uint32_t max_tokens) {
    return {.prompt = wire::TextPrompt{std::move(text)}, .raw = true, .max_tokens = max_tokens};
  }
  // Passes over Accepted and text.
  template <class T>
  static T receive_ending(Client& client, std::uint64_t request_id) {
    for (;;) {
      const Client::Received received = receive(client);
      EXPECT_EQ(received.request_id, request_id);
      if (const T* ending = std::get_if<T>(&received.message)) return *ending;
      if (HasFailure()) return {};
      const bool before_it = std::holds_alternative<wire::Accepted>(received.message) ||
                             std::holds_alternative<wire::TokenBatch>(received.message);
      EXPECT_TRUE(before_it) << wire::message_name(wire::message_type(received.message));
    }
  }
  template <class Condition>
  static void wait_until(Condition condition) {
    const auto deadline = std::chrono::steady_clock::now() + kPatience;
    while (!condition()) {
      ASSERT_LT(std::chrono::steady_clock::now(), deadline);
      std::this_thread::sleep_for(1ms);
    }
  }

  // From here on the log is a text.
  void keep_log() {
    spdlog::set_default_logger(
        std::make_shared<spdlog::logger>("test", std::make_shared<spdlog::sinks::ostream_sink_mt>(log_)));
  }
  std::string log() const { return log_.str(); }  // once nobody writes to it

  test::Gate text_gate;
  test::Gate step_gate;
  std::atomic<int> attention = 0;
  Service service{[this] { ++attention; }};
  std::optional<test::FakeEngine> fake;
  std::optional<Server> server;

 private:
  test::TemporaryDirectory directory_;
  std::ostringstream log_;
  std::shared_ptr<spdlog::logger> logger_before_ = spdlog::default_logger();
};

TEST_F(ServiceTest, ManyClientsGetTheAnswersOfTheEngine) {
  start([](EngineParts& parts) { parts.max_queued = parts.max_queued_per_uid = 100; });
  Client first = connect();
  std::string alone;
  ASSERT_TRUE(first.generate(raw("hello", 20), {.batch = [&](const wire::TokenBatch& batch) {
                               alone += batch.text;
                               return true;
                             }}));
  EXPECT_EQ(alone.size(), 20U);
  std::vector<std::thread> clients;
  for (int i = 0; i < 8; ++i) {
    clients.emplace_back([&] {
      Client client = connect();
      for (int round = 0; round < 10; ++round) {
        std::string text;
        const auto done = client.generate(raw("hello", 20), {.batch = [&](const wire::TokenBatch& batch) {
                                            text += batch.text;
                                            return true;
                                          }});
        EXPECT_TRUE(done) << done.error().message;
        EXPECT_EQ(text, alone);
        EXPECT_TRUE(client.tokenize({.text = "abc"}));
      }
    });
  }
  for (std::thread& client : clients) client.join();
  const auto status = first.status().value();
  EXPECT_EQ(status.requests_done, 81U);
  EXPECT_EQ(status.requests_failed, 0U);
}

TEST_F(ServiceTest, TheFirstRequestAfterAPauseAsksTheMainThreadToLookAndNoOther) {
  start();
  hold_steps();
  Client client = connect();
  EXPECT_FALSE(service.busy());
  ASSERT_TRUE(client.send(1, raw("hello", 3)));
  ASSERT_TRUE(std::holds_alternative<wire::Accepted>(receive(client).message));
  EXPECT_TRUE(service.busy());
  EXPECT_EQ(attention, 1);
  Client other = connect();
  ASSERT_TRUE(other.send(1, raw("hello", 3)));
  ASSERT_TRUE(std::holds_alternative<wire::Accepted>(receive(other).message));
  EXPECT_EQ(attention, 1);
  step_gate.open();
  receive_ending<wire::Done>(client, 1);
  receive_ending<wire::Done>(other, 1);
  EXPECT_FALSE(service.busy());
  ASSERT_TRUE(client.generate(raw("hello", 3), {}));
  EXPECT_EQ(attention, 2);
}

TEST_F(ServiceTest, DoneSaysHowManyExpertsTheAnswerDidWithout) {
  start();
  fake->backend->tell = [](const Step& step, StepReport& report) {
    report.lossy_experts.assign(step.sequences.size(), 7);
  };
  Client client = connect();
  EXPECT_EQ(client.generate(raw("a", 3), {}).value().lossy_experts, 21U);
}

TEST_F(ServiceTest, ATextThatIsTokenisedHoldsNobodyUp) {
  start([this](EngineParts& parts) { hold_texts(parts); });
  Client client = connect();
  ASSERT_TRUE(client.send(1, raw("aaa", 1)));
  text_gate.wait_for_arrivals(1);
  ASSERT_TRUE(client.send(2, wire::Tokenize{.text = "b"}));
  const auto status = connect().status();  // greeted and answered meanwhile
  ASSERT_TRUE(status);
  EXPECT_EQ(status->requests_queued, 1U);
  text_gate.open();
  wire::Tokenized tokenized;
  bool done = false;
  while (!done || tokenized.ids.empty()) {
    const auto received = receive(client);
    if (const auto* answer = std::get_if<wire::Tokenized>(&received.message)) tokenized = *answer;
    done = done || std::holds_alternative<wire::Done>(received.message);
    ASSERT_FALSE(HasFailure());
  }
  EXPECT_EQ(tokenized.ids, std::vector<TokenId>{1});
}

TEST_F(ServiceTest, ACancelBeforeTheTextIsTokenisedEndsTheRequestAtOnce) {
  start([this](EngineParts& parts) { hold_texts(parts); });
  Client client = connect();
  for (std::uint64_t id = 1; id <= 2; ++id) ASSERT_TRUE(client.send(id, raw("aaa", 1)));
  text_gate.wait_for_arrivals(1);
  // The second waits for the first, which is being tokenised.
  for (const std::uint64_t id : {2U, 1U}) {
    ASSERT_TRUE(client.send(id, wire::Cancel{}));
    EXPECT_EQ(receive<wire::Done>(client, id).reason, wire::DoneReason::cancelled);
  }
  ASSERT_TRUE(client.send(1, raw("aaa", 1)));  // the number is free again
  text_gate.open();
  EXPECT_EQ(receive<wire::Accepted>(client, 1).prompt_tokens, 3U);
  EXPECT_EQ(receive_ending<wire::Done>(client, 1).reason, wire::DoneReason::max_tokens);
  const auto status = client.status().value();
  EXPECT_EQ(status.requests_done, 3U);
  EXPECT_TRUE(status.active.empty());
  EXPECT_EQ(text_gate.arrivals(), 2);  // the second request's text was never looked at
}

TEST_F(ServiceTest, AClientThatHangsUpLeavesNothingBehind) {
  start([this](EngineParts& parts) { hold_texts(parts); });
  hold_steps();
  {
    Client client = connect();
    ASSERT_TRUE(client.send(1, raw("aaa", 60)));
    text_gate.let_through(1);
    step_gate.wait_for_arrivals(1);  // runs
    ASSERT_TRUE(client.send(2, raw("bbb", 60)));
    text_gate.wait_for_arrivals(2);  // is tokenised
    ASSERT_TRUE(client.send(3, raw("ccc", 60)));
    ASSERT_TRUE(client.send(4, wire::Tokenize{.text = "ddd"}));
    ASSERT_TRUE(client.send(5, wire::Status{}));
    EXPECT_EQ(receive<wire::Accepted>(client, 1).prompt_tokens, 3U);
    receive<wire::StatusReport>(client, 5);  // all of it has arrived
  }
  Client other = connect();
  wait_until([&] { return other.status().value().connections == 1; });
  text_gate.open();
  step_gate.open();
  wait_until([&] {
    const auto status = other.status().value();
    return status.requests_queued + status.requests_running == 0 && status.requests_done == 3;
  });
  wait_until([&] { return fake->engine->status().kv.available == 64U; });  // the ending is told before it is tidied up
  EXPECT_EQ(text_gate.arrivals(), 2);
}

TEST_F(ServiceTest, MoreTextsThanMayWaitAreBusy) {
  start([this](EngineParts& parts) {
    hold_texts(parts);
    parts.max_queued = 2;
  });
  Client client = connect();
  ASSERT_TRUE(client.send(1, raw("a", 1)));
  text_gate.wait_for_arrivals(1);
  for (std::uint64_t id = 2; id <= 5; ++id) ASSERT_TRUE(client.send(id, wire::Tokenize{.text = "b"}));
  for (std::uint64_t id = 4; id <= 5; ++id) {
    const auto error = receive<wire::Error>(client, id);
    EXPECT_EQ(error.code, wire::ErrorCode::busy);
    EXPECT_GT(error.retry_after_ms, 0U);
  }
  ASSERT_TRUE(client.send(6, raw("c", 1)));
  EXPECT_EQ(receive<wire::Error>(client, 6).code, wire::ErrorCode::busy);
  text_gate.open();
}

TEST_F(ServiceTest, EveryEndingIsCountedAndLoggedAsWhatItWas) {
  keep_log();
  start({}, {.queued_bytes = 2000});
  hold_steps();
  Client client = connect();

  ASSERT_TRUE(client.send(1, raw("a", 1)));
  step_gate.let_through(1);
  receive_ending<wire::Done>(client, 1);

  ASSERT_TRUE(client.send(2, raw(std::string(65, 'a'), 1)));
  EXPECT_EQ(receive<wire::Error>(client, 2).code, wire::ErrorCode::context_overflow);

  wire::Generate session = raw("a", 1);
  session.session = "s";
  ASSERT_TRUE(client.send(3, session));
  EXPECT_EQ(receive<wire::Error>(client, 3).code, wire::ErrorCode::not_found);

  // A client that does not read, as the server sees one: more text than may wait.
  ASSERT_TRUE(client.send(4, raw("a", 60)));
  receive<wire::Accepted>(client, 4);
  step_gate.wait_for_arrivals(2);
  const auto running = fake->engine->status().requests.at(0).id;
  service.sink()(running, TokensEvent{.ids = {}, .text = std::string(4000, 'x')});
  EXPECT_EQ(receive<wire::Error>(client, 4).code, wire::ErrorCode::slow_consumer);
  step_gate.open();
  wait_until([&] { return fake->engine->status().requests.empty(); });

  const auto status = client.status().value();
  EXPECT_EQ(status.requests_done, 1U);
  EXPECT_EQ(status.requests_failed, 3U);
  EXPECT_EQ(status.requests_running, 0U);
  server->stop();
  fake->engine->close();
  service.stop();
  for (const char* const word :
       {"id=1 uid=", " class=INTERACTIVE prompt_tokens=1 generated_tokens=1 age_ms=",
        "finish=MAX_TOKENS cached_tokens=0 queued_ms=", "id=0 uid=", "finish=ERROR error=CONTEXT_OVERFLOW message=\"",
        "error=NOT_FOUND", "error=SLOW_CONSUMER"})
    EXPECT_NE(log().find(word), std::string::npos) << word << " is not in\n" << log();
  EXPECT_EQ(log().find("CANCELLED"), std::string::npos) << log();
}

TEST_F(ServiceTest, AClassThatIsNotAllowedIsRefusedWithThoseThatAre) {
  ClientsConfig clients;
  clients.others.realtime = false;
  service.set_clients(ClientPolicies::resolve(clients).value());
  start();
  Client client = connect();
  wire::Generate urgent = raw("a", 1);
  urgent.priority = wire::Priority::realtime;
  const auto refused = client.generate(urgent, {});
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, wire::ErrorCode::permission_denied);
  EXPECT_NE(refused.error().message.find("REALTIME are not allowed"), std::string::npos) << refused.error().message;
  EXPECT_NE(refused.error().message.find("but interactive, batch (clients.default.classes)"), std::string::npos);
  EXPECT_TRUE(client.generate(raw("a", 1), {}));
}

TEST_F(ServiceTest, AClientThatIsNoLongerAllowedIsRefusedAtItsNextRequestAndAtItsNextConnection) {
  start();
  Client client = connect();
  EXPECT_TRUE(client.generate(raw("a", 1), {}));
  ClientsConfig clients;
  clients.others.allowed = false;
  service.set_clients(ClientPolicies::resolve(clients).value());
  EXPECT_EQ(client.generate(raw("a", 1), {}).error().code, wire::ErrorCode::permission_denied);
  EXPECT_EQ(client.session({.action = wire::SessionAction::list}).error().code, wire::ErrorCode::permission_denied);
  EXPECT_EQ(Client::connect(path()).error().code, wire::ErrorCode::permission_denied);
}

TEST_F(ServiceTest, TokensPerMinuteAreChargedWithPromptAndAnswer) {
  ClientsConfig clients;
  clients.others.tokens_per_minute = 13;  // so that it takes seconds to earn the next
  service.set_clients(ClientPolicies::resolve(clients).value());
  start();
  Client client = connect();
  EXPECT_TRUE(client.generate(raw("abcd", 8), {}));  // 12
  EXPECT_TRUE(client.generate(raw("ab", 8), {}));    // overdrawn by 9
  const auto refused = client.generate(raw("a", 1), {});
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, wire::ErrorCode::too_many_requests);
  EXPECT_GT(refused.error().retry_after_ms, 20'000U);  // ten tokens at 13 a minute are 46 s
  EXPECT_LE(refused.error().retry_after_ms, 46'200U);
  EXPECT_TRUE(client.tokenize({.text = "a"}));  // costs nothing
}

TEST_F(ServiceTest, AUserHasAsManyRequestsWaitingAsItsRuleSays) {
  ClientsConfig clients;
  clients.others.max_queued = 2;
  service.set_clients(ClientPolicies::resolve(clients).value());
  start([](EngineParts& parts) { parts.max_running = 1; });
  hold_steps();
  Client client = connect();
  ASSERT_TRUE(client.send(1, raw("a", 5)));
  step_gate.wait_for_arrivals(1);  // runs
  receive<wire::Accepted>(client, 1);
  for (std::uint64_t id = 2; id <= 3; ++id) {  // one by one: texts that wait count, too
    ASSERT_TRUE(client.send(id, raw("a", 5)));
    receive<wire::Accepted>(client, id);
  }
  ASSERT_TRUE(client.send(4, raw("a", 5)));
  const auto refused = receive<wire::Error>(client, 4);
  EXPECT_EQ(refused.code, wire::ErrorCode::busy);
  EXPECT_NE(refused.message.find("max_queued in clients"), std::string::npos) << refused.message;
}

TEST_F(ServiceTest, ASessionIsOpenedContinuedForkedRewoundListedAndClosed) {
  using Action = wire::SessionAction;
  start();
  Client client = connect();
  const auto session = [&](const wire::Session& request) { return client.session(request); };
  const auto opened = session({.action = Action::open, .name = "s", .overflow = wire::SessionOverflow::drop_oldest});
  ASSERT_TRUE(opened) << opened.error().message;
  EXPECT_EQ(opened->sessions.at(0).uid, ::getuid());
  EXPECT_EQ(opened->sessions.at(0).overflow, wire::SessionOverflow::drop_oldest);
  wire::Generate turn = raw("hello", 3);
  turn.session = "s";
  EXPECT_EQ(client.generate(turn, {}).value().cached_tokens, 0U);
  EXPECT_EQ(client.generate(turn, {}).value().cached_tokens, 7U);
  EXPECT_EQ(session({.action = Action::fork, .name = "s", .to = "t"}).value().sessions.at(0).turns, 2U);
  EXPECT_EQ(session({.action = Action::rewind, .name = "s", .turns = 1}).value().sessions.at(0).turns, 1U);
  EXPECT_EQ(session({.action = Action::rewind, .name = "s", .turns = 2}).error().code,
            wire::ErrorCode::invalid_argument);
  EXPECT_EQ(session({.action = Action::list}).value().sessions.size(), 2U);
  EXPECT_EQ(client.status().value().cache.value().sessions, 2U);
  EXPECT_TRUE(session({.action = Action::close, .name = "s"}).value().sessions.empty());
  EXPECT_EQ(session({.action = Action::close, .name = "s"}).error().code, wire::ErrorCode::not_found);
  EXPECT_EQ(session({.action = Action::close, .name = "t", .save = true}).error().code, wire::ErrorCode::unsupported);
}

TEST_F(ServiceTest, PromptsAndAnswersAreLoggedWhereThatIsAskedFor) {
  keep_log();
  start();
  Client client = connect();
  std::string answer;
  ASSERT_TRUE(client.generate(raw("hello", 3), {.batch = [&](const wire::TokenBatch& batch) {
                                answer += batch.text;
                                return true;
                              }}));
  server->stop();
  service.stop();
  EXPECT_NE(log().find("request id=1 prompt=\"hello\""), std::string::npos) << log();
  EXPECT_NE(log().find("request id=1 answer=\"" + answer + "\""), std::string::npos) << log();
}

TEST_F(ServiceTest, RequestsOfOneEngineAreNumberedAfterThoseOfTheOneBefore) {
  start();
  Client client = connect();
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(client.generate(raw("a", 1), {}));
  test::FakeEngine next({}, service.sink());
  service.hold("another.gguf", std::make_shared<LoadProgress>());
  wait_until([&] { return service.held(); });
  service.use(next.engine.get());
  service.resume();
  next.backend->before = [&](const Step&) -> Result<void> {
    step_gate.pass();
    return {};
  };
  ASSERT_TRUE(client.send(1, raw("a", 1)));
  step_gate.wait_for_arrivals(1);
  EXPECT_EQ(connect().status().value().active.at(0).id, 4U);
  step_gate.open();
  receive_ending<wire::Done>(client, 1);
  server->stop();
  next.engine->close();
}

TEST_F(ServiceTest, NoPromptAndNoAnswerIsLoggedWhereThatIsNotAskedFor) {
  service.set_log_prompts(false);
  keep_log();
  start();
  Client client = connect();
  ASSERT_TRUE(client.generate(raw("hello", 3), {}));
  EXPECT_FALSE(client.generate(raw(std::string(65, 'q'), 3), {}));
  server->stop();
  service.stop();
  EXPECT_NE(log().find("finish=MAX_TOKENS"), std::string::npos) << log();
  EXPECT_EQ(log().find("hello"), std::string::npos) << log();
  EXPECT_EQ(log().find("qqq"), std::string::npos) << log();
  EXPECT_EQ(log().find("answer="), std::string::npos) << log();
}

TEST_F(ServiceTest, EverySamplingThatTheProtocolAllowsIsAnswered) {
  start();
  Client client = connect();
  constexpr float kLeast = std::numeric_limits<float>::denorm_min();
  const wire::Sampling least = {.temperature = kLeast,
                                .top_k = 1,
                                .top_p = kLeast,
                                .min_p = 0,
                                .repetition_penalty = kLeast,
                                .frequency_penalty = -wire::kMaxPenalty,
                                .presence_penalty = -wire::kMaxPenalty,
                                .seed = 0,
                                .logit_bias = {{3, -wire::kMaxLogitShift}}};
  const wire::Sampling most = {.temperature = wire::kMaxTemperature,
                               .top_k = std::numeric_limits<std::uint32_t>::max(),
                               .top_p = 1,
                               .min_p = 1,
                               .repetition_penalty = wire::kMaxPenalty,
                               .frequency_penalty = wire::kMaxPenalty,
                               .presence_penalty = wire::kMaxPenalty,
                               .seed = std::numeric_limits<std::uint64_t>::max(),
                               .logit_bias = {{3, wire::kMaxLogitShift}}};
  for (const wire::Sampling& sampling : {least, most}) {
    wire::Generate generate = raw("abc", 10);
    generate.sampling = sampling;
    const auto done = client.generate(generate, {});
    EXPECT_TRUE(done) << done.error().message;
  }
}

TEST_F(ServiceTest, ATextTooLongForAMessageIsRefusedWithTheLimit) {
  // Tokens of a hundred letters each.
  class Long final : public test::FakeTokenizer {
   public:
    Long() {
      for (std::string& token : tokens_) token.assign(100, token[0]);
    }
    std::string_view piece(TokenId id, bool) const override { return token(id); }
  };
  start([](EngineParts& parts) { parts.tokenizer = std::make_shared<Long>(); });
  Client client = connect();
  EXPECT_EQ(client.detokenize({.ids = std::vector<TokenId>(40'000, 0)}).value().size(), 4'000'000U);
  const auto refused = client.detokenize({.ids = std::vector<TokenId>(40'001, 0)});
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, wire::ErrorCode::invalid_argument);
  EXPECT_NE(refused.error().message.find("at most 4000000"), std::string::npos) << refused.error().message;
}

TEST_F(ServiceTest, WithoutAModelEveryRequestIsToldSo) {
  serve();
  Client client = connect();
  EXPECT_EQ(client.welcome().state, wire::State::no_model);
  EXPECT_EQ(client.generate(raw("a", 1), {}).error().code, wire::ErrorCode::no_model);
  EXPECT_EQ(client.tokenize({.text = "a"}).error().code, wire::ErrorCode::no_model);
  EXPECT_EQ(client.detokenize({.ids = {1}}).error().code, wire::ErrorCode::no_model);
  EXPECT_EQ(client.status().value().requests_failed, 1U);
}

}  // namespace
}  // namespace sirocco::daemon

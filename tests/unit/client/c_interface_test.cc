// The C interface, against a server that answers what the test says.
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>

#include <cstring>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <thread>

#include "ipc/client/sirocco.h"
#include "tests/unit/server/serving.h"

namespace sirocco {
namespace {

using wire::Done;
using wire::DoneReason;
using wire::TokenBatch;

class CInterface : public test::Serving {
 protected:
  ~CInterface() override { sirocco_free(client_); }

  void connect_c() {
    const std::string socket = path();
    sirocco_connect_options options{};
    options.size = sizeof(options);
    options.socket = socket.c_str();
    options.timeout_ms = options.answer_timeout_ms = 20'000;
    ASSERT_EQ(sirocco_connect(client_, &options), SIROCCO_OK) << message();
  }
  void start_and_connect() {
    start();
    connect_c();
  }
  std::string message() const { return sirocco_error_message(client_); }

  static sirocco_request request(const char* prompt) {
    sirocco_request request{};
    request.size = sizeof(request);
    request.prompt = prompt;
    return request;
  }
  int generate(const char* prompt) {
    const sirocco_request asked = request(prompt);
    return sirocco_generate(client_, &asked);
  }
  // The request as it reaches the daemon.
  wire::Generate arrived(const sirocco_request& asked) {
    EXPECT_EQ(sirocco_generate(client_, &asked), SIROCCO_OK) << message();
    return handler.generated(1).at(0).generate;
  }
  void expect_invalid(const sirocco_request& asked, std::string_view why) {
    EXPECT_EQ(sirocco_generate(client_, &asked), SIROCCO_INVALID);
    EXPECT_NE(message().find(why), std::string::npos) << message();
  }
  const sirocco_event* next() {
    const sirocco_event* event = nullptr;
    EXPECT_EQ(sirocco_next(client_, 20'000, &event), SIROCCO_OK) << message();
    EXPECT_NE(event, nullptr);
    return event;
  }

  sirocco_client* client_ = sirocco_new();
};

TEST_F(CInterface, NobodyAtTheSocketIsAnErrorThatSaysWhatToDo) {
  const std::string socket = path();
  sirocco_connect_options options{};
  options.size = sizeof(options);
  options.socket = socket.c_str();
  EXPECT_EQ(sirocco_connect(client_, &options), SIROCCO_NO_DAEMON);
  EXPECT_EQ(sirocco_error_code(client_), SIROCCO_NO_DAEMON);
  EXPECT_NE(message().find("no daemon at " + socket + ": start it with"), std::string::npos) << message();
  EXPECT_EQ(sirocco_fd(client_), -1);
}

TEST_F(CInterface, WithoutAConnectionEveryCallSaysSo) {
  const sirocco_status* status = nullptr;
  EXPECT_EQ(sirocco_get_status(client_, &status), SIROCCO_DISCONNECTED);
  EXPECT_EQ(generate("x"), SIROCCO_DISCONNECTED);
  EXPECT_NE(message().find("sirocco_connect() comes first"), std::string::npos);
  sirocco_cancel(client_);
}

TEST_F(CInterface, NullInPlaceOfAClientIsRefused) {
  const sirocco_event* event = nullptr;
  EXPECT_EQ(sirocco_connect(nullptr, nullptr), SIROCCO_INVALID);
  EXPECT_EQ(sirocco_next(nullptr, 0, &event), SIROCCO_INVALID);
  EXPECT_NE(std::string(sirocco_error_message(nullptr)).find("no client"), std::string::npos);
  sirocco_cancel(nullptr);
  sirocco_free(nullptr);
}

TEST_F(CInterface, AnswerIsAcceptedTextAndDone) {
  handler.answer = [this](RequestKey key, const wire::Generate&) {
    server->send(key, wire::Accepted{4, 1});
    server->send(key, TokenBatch{{7, 8}, "häuser"});
    server->send(key, Done{.reason = DoneReason::stop_string,
                           .stop_string = "\n",
                           .prompt_tokens = 4,
                           .generated_tokens = 2,
                           .queued_us = 1,
                           .prefill_us = 2,
                           .decode_us = 3,
                           .lossy_experts = 5,
                           .cached_tokens = 6,
                           .dropped_turns = 7});
  };
  start_and_connect();
  ASSERT_EQ(generate("x"), SIROCCO_OK) << message();
  const sirocco_event* event = next();
  EXPECT_EQ(event->kind, SIROCCO_EVENT_ACCEPTED);
  EXPECT_EQ(event->prompt_tokens, 4U);
  EXPECT_EQ(event->queue_position, 1U);
  event = next();
  EXPECT_EQ(event->kind, SIROCCO_EVENT_TEXT);
  EXPECT_STREQ(event->text, "häuser");
  EXPECT_EQ(event->text_bytes, std::strlen("häuser"));
  ASSERT_EQ(event->id_count, 2U);
  EXPECT_EQ(event->ids[1], 8);
  event = next();
  EXPECT_EQ(event->size, sizeof(sirocco_event));
  EXPECT_EQ(event->kind, SIROCCO_EVENT_DONE);
  EXPECT_EQ(event->reason, SIROCCO_STOP_STRING);
  EXPECT_STREQ(event->reason_name, "STOP_STRING");
  EXPECT_STREQ(event->stop_string, "\n");
  EXPECT_EQ(event->prompt_tokens, 4U);
  EXPECT_EQ(event->generated_tokens, 2U);
  EXPECT_EQ(event->queued_us, 1U);
  EXPECT_EQ(event->prefill_us, 2U);
  EXPECT_EQ(event->decode_us, 3U);
  EXPECT_EQ(event->lossy_experts, 5U);
  EXPECT_EQ(event->cached_tokens, 6U);
  EXPECT_EQ(event->dropped_turns, 7U);
}

TEST_F(CInterface, EveryFieldOfARequestReachesTheDaemon) {
  start_and_connect();
  const sirocco_logit_bias bias[] = {{5, 1.5F}, {6, -2}};
  const char* const stops[] = {"\n", "end"};
  sirocco_request asked = request("a text");
  asked.raw = asked.special = asked.omit_ids = asked.partial = asked.prefill_only = 1;
  asked.temperature = 0.5F;
  asked.top_k = 40;
  asked.top_p = 0.9F;
  asked.min_p = 0.1F;
  asked.repetition_penalty = 1.1F;
  asked.frequency_penalty = 0.2F;
  asked.presence_penalty = 0.3F;
  asked.seed = 99;
  asked.logit_bias = bias;
  asked.logit_bias_count = 2;
  asked.stop = stops;
  asked.stop_count = 2;
  asked.max_tokens = 12;
  asked.priority = SIROCCO_REALTIME;
  asked.deadline_ms = 1000;
  asked.max_queue_ms = 500;
  asked.latest_wins_key = "arm";
  asked.session = "talk";
  wire::Generate expected{.prompt = wire::TextPrompt{.text = "a text", .special = true}};
  expected.raw = expected.omit_ids = expected.partial = expected.prefill_only = true;
  expected.sampling = {.temperature = 0.5F,
                       .top_k = 40,
                       .top_p = 0.9F,
                       .min_p = 0.1F,
                       .repetition_penalty = 1.1F,
                       .frequency_penalty = 0.2F,
                       .presence_penalty = 0.3F,
                       .seed = 99,
                       .logit_bias = {{5, 1.5F}, {6, -2.0F}}};
  expected.stop = {"\n", "end"};
  expected.max_tokens = 12;
  expected.priority = wire::Priority::realtime;
  expected.deadline_ms = 1000;
  expected.max_queue_ms = 500;
  expected.latest_wins_key = "arm";
  expected.session = "talk";
  EXPECT_EQ(arrived(asked), expected);
}

TEST_F(CInterface, ZerosAreTheDefaultsOfTheProtocol) {
  start_and_connect();
  EXPECT_EQ(arrived(request("x")), (wire::Generate{.prompt = wire::TextPrompt{.text = "x"}}));
}

TEST_F(CInterface, ConversationReachesTheDaemonWithItsTools) {
  start_and_connect();
  const sirocco_tool_call call{"1", "weather", "{}"};
  sirocco_message messages[3]{};
  messages[0] = {SIROCCO_ROLE_USER, "How is it?not this", 10, nullptr, 0, nullptr};
  messages[1] = {SIROCCO_ROLE_ASSISTANT, nullptr, 0, &call, 1, nullptr};
  messages[2] = {SIROCCO_ROLE_TOOL, "fine", 0, nullptr, 0, "1"};
  sirocco_request asked = request(nullptr);
  asked.messages = messages;
  asked.message_count = 3;
  asked.tools = "[]";
  const wire::ChatPrompt expected{
      .messages = {{.role = wire::Role::user, .content = "How is it?"},
                   {.role = wire::Role::assistant, .tool_calls = {{.id = "1", .name = "weather", .arguments = "{}"}}},
                   {.role = wire::Role::tool, .content = "fine", .tool_call_id = "1"}},
      .tools = "[]"};
  EXPECT_EQ(arrived(asked).prompt, wire::Prompt(expected));
}

TEST_F(CInterface, TokensReachTheDaemon) {
  start_and_connect();
  const std::int32_t ids[] = {3, 1, 2};
  sirocco_request asked = request(nullptr);
  asked.ids = ids;
  asked.id_count = 3;
  EXPECT_EQ(arrived(asked).prompt, wire::Prompt(wire::TokenPrompt{{3, 1, 2}}));
}

TEST_F(CInterface, ImpossibleRequestsAreRefusedWithTheReasonAndNothingIsSent) {
  start_and_connect();
  expect_invalid(request(nullptr), "0 of prompt, messages and ids are given");
  sirocco_request asked = request("x");
  const std::int32_t id = 1;
  asked.ids = &id;
  expect_invalid(asked, "2 of prompt, messages and ids are given");
  asked = request("x");
  asked.priority = 300;
  expect_invalid(asked, "sirocco_request.priority: 300");
  asked = request("x");
  asked.stop_count = 1;
  expect_invalid(asked, "sirocco_request.stop: is NULL, but 1 are counted");
  asked = request("x");
  asked.top_p = 2;
  expect_invalid(asked, "Sampling.top_p: 2 is not within 0 to 1");
  expect_invalid(request("\xff"), "UTF-8");
  sirocco_message message{};
  message.role = 257;  // in a byte: SYSTEM
  asked = request(nullptr);
  asked.messages = &message;
  asked.message_count = 1;
  expect_invalid(asked, "messages[0].role: 257");
  const sirocco_session* session = nullptr;
  EXPECT_EQ(sirocco_session_open(client_, "a", 257, &session), SIROCCO_INVALID);
  EXPECT_EQ(sirocco_session_open(client_, nullptr, 0, &session), SIROCCO_INVALID);
  const sirocco_status* status = nullptr;
  EXPECT_EQ(sirocco_get_status(client_, &status), SIROCCO_OK) << message.content;
}

TEST_F(CInterface, StructOfANewerHeaderIsTakenIfItsNewFieldsAreZero) {
  start_and_connect();
  struct {
    sirocco_request known;
    int added[4];
  } newer{};
  newer.known = request("x");
  newer.known.size = sizeof(newer);
  newer.added[3] = 1;
  expect_invalid(newer.known, "sirocco_request: a field is set that libsirocco");
  newer.added[3] = 0;
  EXPECT_EQ(arrived(newer.known), (wire::Generate{.prompt = wire::TextPrompt{.text = "x"}}));
}

TEST_F(CInterface, StructWithoutItsSizeIsRefused) {
  start_and_connect();
  sirocco_request asked = request("x");
  asked.size = 0;
  expect_invalid(asked, "sirocco_request.size is 0: set it to sizeof(sirocco_request)");
}

TEST_F(CInterface, DescriptorTellsWhenThereIsSomething) {
  start_and_connect();
  ASSERT_EQ(generate("x"), SIROCCO_OK);
  const RequestKey key = handler.generated(1).at(0).key;
  const sirocco_event* event = nullptr;
  ASSERT_EQ(sirocco_next(client_, 0, &event), SIROCCO_OK);
  EXPECT_EQ(event, nullptr);
  pollfd polled{.fd = sirocco_fd(client_), .events = POLLIN, .revents = 0};
  EXPECT_EQ(::poll(&polled, 1, 0), 0);
  server->send(key, Done{});
  ASSERT_EQ(::poll(&polled, 1, 20'000), 1);
  ASSERT_EQ(sirocco_next(client_, 0, &event), SIROCCO_OK);
  ASSERT_NE(event, nullptr);
  EXPECT_EQ(event->kind, SIROCCO_EVENT_DONE);
}

TEST_F(CInterface, AnotherThreadCancelsWhileOneWaits) {
  start_and_connect();
  ASSERT_EQ(generate("x"), SIROCCO_OK);
  std::thread canceller([&] {
    sirocco_cancel(client_);
    server->send(handler.cancelled(1).at(0), Done{.reason = DoneReason::cancelled});
  });
  EXPECT_EQ(next()->reason, SIROCCO_CANCELLED);
  canceller.join();
}

TEST_F(CInterface, ErrorOfTheDaemonKeepsItsCodeAndRetry) {
  handler.answer = [this](RequestKey key, const wire::Generate&) {
    server->send(key, wire::Error{wire::ErrorCode::busy, "the queue is full", 250});
  };
  start_and_connect();
  ASSERT_EQ(generate("x"), SIROCCO_OK);
  const sirocco_event* event = nullptr;
  EXPECT_EQ(sirocco_next(client_, 20'000, &event), SIROCCO_BUSY);
  EXPECT_EQ(event, nullptr);
  EXPECT_EQ(message(), "the queue is full (BUSY)");
  EXPECT_EQ(sirocco_error_retry_after_ms(client_), 250U);
}

TEST_F(CInterface, DaemonThatEndsIsAnErrorAndTheClientConnectsAgain) {
  start_and_connect();
  ASSERT_EQ(generate("x"), SIROCCO_OK);
  handler.generated(1);
  server.reset();
  const sirocco_event* event = nullptr;
  // First the ending of the request, then that of the connection; from then on there is nobody.
  int code = sirocco_next(client_, 20'000, &event);
  EXPECT_EQ(code, SIROCCO_SHUTTING_DOWN) << message();
  for (int i = 0; i < 3 && code != SIROCCO_DISCONNECTED; ++i) {
    EXPECT_EQ(code, SIROCCO_SHUTTING_DOWN) << message();
    ASSERT_EQ(generate("x"), SIROCCO_OK) << message();
    code = sirocco_next(client_, 20'000, &event);
  }
  EXPECT_EQ(code, SIROCCO_DISCONNECTED);
  EXPECT_NE(message().find("the daemon closed the connection"), std::string::npos) << message();
  start_and_connect();
  const sirocco_status* status = nullptr;
  EXPECT_EQ(sirocco_get_status(client_, &status), SIROCCO_OK) << message();
}

TEST_F(CInterface, TokenizeAndDetokenizeAnswer) {
  start_and_connect();
  const std::int32_t* ids = nullptr;
  std::size_t count = 0;
  ASSERT_EQ(sirocco_tokenize(client_, "x", 0, SIROCCO_BOS, &ids, &count), SIROCCO_OK) << message();
  ASSERT_EQ(count, 3U);
  EXPECT_EQ(ids[2], 3);
  EXPECT_EQ(sirocco_tokenize(client_, "x", 0, 8, &ids, &count), SIROCCO_INVALID);
  const char* text = nullptr;
  std::size_t bytes = 0;
  ASSERT_EQ(sirocco_detokenize(client_, ids, count, &text, &bytes), SIROCCO_OK) << message();
  EXPECT_STREQ(text, "text");
  EXPECT_EQ(bytes, 4U);
}

TEST_F(CInterface, SessionsAnswerWithTheirState) {
  start_and_connect();
  const sirocco_session* session = nullptr;
  for (const int code :
       {sirocco_session_open(client_, "a", SIROCCO_OVERFLOW_DROP_OLDEST, &session),
        sirocco_session_fork(client_, "a", "b", &session), sirocco_session_rewind(client_, "a", 1, &session)}) {
    EXPECT_EQ(code, SIROCCO_OK) << message();
    EXPECT_STREQ(session->name, "a");
    EXPECT_EQ(session->overflow, SIROCCO_OVERFLOW_FAIL);
  }
  EXPECT_EQ(sirocco_session_close(client_, "a", 1), SIROCCO_OK) << message();
  const sirocco_session* const* sessions = nullptr;
  std::size_t count = 0;
  EXPECT_EQ(sirocco_session_list(client_, &sessions, &count), SIROCCO_OK) << message();
  ASSERT_EQ(count, 1U);
  EXPECT_STREQ(sessions[0]->name, "");  // the fake echoes the name of the request
}

TEST_F(CInterface, StatusIsAStructAndTheWholeReportAsJson) {
  start_and_connect();
  const sirocco_status* status = nullptr;
  ASSERT_EQ(sirocco_get_status(client_, &status), SIROCCO_OK) << message();
  EXPECT_EQ(status->state, SIROCCO_STATE_READY);
  EXPECT_STREQ(status->state_name, "READY");
  EXPECT_STREQ(status->daemon_version, "test");
  EXPECT_EQ(status->model, nullptr);
  EXPECT_EQ(nlohmann::json::parse(status->json).at("connections"), 1);
}

TEST_F(CInterface, CodesHaveTheNumbersAndNamesOfTheProtocol) {
  EXPECT_STREQ(sirocco_code_name(SIROCCO_OK), "OK");
  EXPECT_STREQ(sirocco_code_name(SIROCCO_NO_MEMORY), "NO_MEMORY");
  for (const int code : {SIROCCO_MALFORMED, SIROCCO_TIMEOUT, SIROCCO_BUSY, SIROCCO_NO_MODEL, SIROCCO_IO})
    EXPECT_EQ(sirocco_code_name(code), wire::error_name(static_cast<wire::ErrorCode>(code)));
  for (int code = 100; code < 1000; ++code)
    EXPECT_EQ(std::string_view(sirocco_code_name(code)), wire::error_name(static_cast<wire::ErrorCode>(code)));
  EXPECT_STREQ(sirocco_code_name(-1), "");
  EXPECT_STREQ(sirocco_code_name(65536 + 300), "");
}

TEST(CInterfaceVersion, IsThatOfTheHeader) {
  EXPECT_EQ(sirocco_api_version(), SIROCCO_API_VERSION);
  EXPECT_STRNE(sirocco_version(), "");
}

}  // namespace
}  // namespace sirocco

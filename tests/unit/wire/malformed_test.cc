// Whatever a client sends, decode() returns a valid message or an error, in memory bounded by the frame.
#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <cmath>
#include <limits>

#include "ipc/wire/codec.h"
#include "ipc/wire/limits.h"
#include "ipc/wire/validate.h"
#include "sirocco_generated.h"
#include "tests/unit/wire/examples.h"

namespace sirocco::wire {
namespace {

using Payload = std::vector<std::byte>;
using Builder = flatbuffers::FlatBufferBuilder;

Payload payload_of(const Message& message) {
  const std::vector<std::byte> frame = encode(message, 1);
  return {frame.begin() + 16, frame.end()};
}

std::uint16_t type_of(const Message& message) {
  return static_cast<std::uint16_t>(message_type(message));
}

template <class Table>
tl::expected<Message, WireError> decode_built(MessageType type, Builder& builder, flatbuffers::Offset<Table> root) {
  builder.Finish(root);
  return decode(static_cast<std::uint16_t>(type),
                std::as_bytes(std::span(builder.GetBufferPointer(), builder.GetSize())));
}

// A message that decodes is valid, and so comes back from its own encoding.
bool error_or_valid(std::uint16_t type, const Payload& payload) {
  const auto message = decode(type, payload);
  if (!message) return !message.error().message.empty();
  return validate(*message).has_value() && decode(type, payload_of(*message)) == *message;
}

TEST(Malformed, TruncatedMessagesAreRefused) {
  for (const Message& message : test::example_messages()) {
    const Payload whole = payload_of(message);
    for (std::size_t size = 0; size < whole.size(); ++size) {
      const auto cut = decode(type_of(message), std::span(whole).first(size));
      // The last bytes may be padding, which carries nothing.
      if (size + 4 > whole.size() && cut) {
        EXPECT_EQ(*cut, message);
      } else {
        ASSERT_FALSE(cut) << message_name(message_type(message)) << " cut to " << size;
        EXPECT_EQ(cut.error().code, ErrorCode::malformed);
      }
    }
  }
}

TEST(Malformed, BadOffsetsAnywhereAreAnErrorOrAValidMessage) {
  for (const Message& message : test::example_messages()) {
    const Payload whole = payload_of(message);
    for (std::size_t at = 0; at + 4 <= whole.size(); at += 2) {
      for (const std::uint32_t value : {0x00000000U, 0xFFFFFFFFU, 0x7FFFFFFFU, 0x80000000U, 0x00000001U, 0xFFFFFFF0U}) {
        Payload bad = whole;
        std::memcpy(&bad[at], &value, sizeof(value));
        ASSERT_TRUE(error_or_valid(type_of(message), bad)) << message_name(message_type(message)) << " at " << at;
      }
    }
  }
}

TEST(Malformed, AMessageReadAsAnyOtherTypeIsAnErrorOrValid) {
  for (const Message& message : test::example_messages()) {
    for (std::uint16_t type = 1; type <= 14; ++type) EXPECT_TRUE(error_or_valid(type, payload_of(message)));
  }
}

TEST(Malformed, FlippedBytesAreAnErrorOrAValidMessage) {
  const std::vector<Message> messages = test::example_messages();
  EXPECT_TRUE(rc::check([&] {
    const Message& message = messages[*rc::gen::inRange<std::size_t>(0, messages.size())];
    Payload payload = payload_of(message);
    const int flips = *rc::gen::inRange(1, 5);
    for (int i = 0; i < flips; ++i) {
      payload[*rc::gen::inRange<std::size_t>(0, payload.size())] =
          static_cast<std::byte>(*rc::gen::arbitrary<std::uint8_t>());
    }
    RC_ASSERT(error_or_valid(type_of(message), payload));
  }));
}

TEST(Malformed, UnionTagOutOfRangeIsNamed) {
  Builder b;
  const auto text = fbs::CreateTextPrompt(b, b.CreateString("x")).Union();
  const auto message =
      decode_built(MessageType::generate, b, fbs::CreateGenerate(b, static_cast<fbs::Prompt>(9), text));
  ASSERT_FALSE(message);
  EXPECT_EQ(message.error(), (WireError{ErrorCode::invalid_message, "Generate.prompt_type: 9 is not one of 1 to 3"}));
}

TEST(Malformed, UnionWithoutValueIsRefused) {
  const WireError missing{ErrorCode::invalid_message, "Generate.prompt: missing"};
  Builder tagged;
  EXPECT_EQ(decode_built(MessageType::generate, tagged, fbs::CreateGenerate(tagged, fbs::Prompt::ChatPrompt)).error(),
            missing);
  Builder empty;
  EXPECT_EQ(decode_built(MessageType::generate, empty, fbs::CreateGenerate(empty)).error(), missing);
}

TEST(Malformed, EnumerationsOutOfRangeAreNamed) {
  Builder b;
  EXPECT_EQ(decode_built(MessageType::done, b, fbs::CreateDone(b, static_cast<fbs::DoneReason>(8))).error().message,
            "Done.reason: 8 is not one of 1 to 7");
  Builder unset;
  EXPECT_EQ(decode_built(MessageType::done, unset, fbs::CreateDone(unset)).error().message,
            "Done.reason: 0 is not one of 1 to 7");
  Builder code;
  EXPECT_EQ(
      decode_built(MessageType::error, code, fbs::CreateError(code, static_cast<fbs::ErrorCode>(108))).error().message,
      "Error.code: 108 is not a code of this version");
  Builder state;
  EXPECT_EQ(
      decode_built(MessageType::status_report, state, fbs::CreateStatusReport(state, 0, static_cast<fbs::State>(7)))
          .error()
          .message,
      "StatusReport.state: 7 is not one of 1 to 6");
}

TEST(Malformed, LogitBiasNeedsAsManyValuesAsIds) {
  Builder b;
  const auto ids = b.CreateVector(std::vector<std::int32_t>{1, 2});
  const auto sampling = fbs::CreateSampling(b, 0, 0, 1, 0, 1, 0, 0, 0, ids);
  const auto text = fbs::CreateTextPrompt(b, b.CreateString("x")).Union();
  const auto generate = fbs::CreateGenerate(b, fbs::Prompt::TextPrompt, text, false, sampling);
  EXPECT_EQ(decode_built(MessageType::generate, b, generate).error().message,
            "Sampling.logit_bias_values: 0 entries, but logit_bias_ids has 2");
}

// 1000 tables that all point to one megabyte of text would be a gigabyte once copied.
TEST(Malformed, PartsUsedTwiceCannotGrowAMessageBeyondItsBudget) {
  Builder b;
  const auto content = b.CreateString(std::string(1'000'000, 'x'));
  std::vector<flatbuffers::Offset<fbs::ChatMessage>> messages;
  for (int i = 0; i < 500; ++i) messages.push_back(fbs::CreateChatMessage(b, fbs::Role::USER, content));
  const auto chat = fbs::CreateChatPrompt(b, b.CreateVector(messages)).Union();
  const auto message = decode_built(MessageType::generate, b, fbs::CreateGenerate(b, fbs::Prompt::ChatPrompt, chat));
  ASSERT_FALSE(message);
  EXPECT_EQ(message.error().message, "message describes more than its frame can hold: parts are used twice");
}

TEST(Malformed, MoreTablesThanTheVerifierCountsAreRefused) {
  Builder b;
  const auto one = fbs::CreateChatMessage(b, fbs::Role::USER);
  const std::vector<flatbuffers::Offset<fbs::ChatMessage>> messages(kVerifierTables, one);
  const auto chat = fbs::CreateChatPrompt(b, b.CreateVector(messages)).Union();
  const auto message = decode_built(MessageType::generate, b, fbs::CreateGenerate(b, fbs::Prompt::ChatPrompt, chat));
  ASSERT_FALSE(message);
  EXPECT_EQ(message.error().code, ErrorCode::malformed);
}

TEST(Malformed, PayloadAboveTheFrameLimitIsRefusedBeforeItIsRead) {
  EXPECT_EQ(decode(9, Payload(kMaxPayload + 1)).error().code, ErrorCode::frame_too_large);
}

// The field that validate() names when `change` has been applied to a valid request.
template <class Change>
std::string refused(Change change) {
  Generate generate = test::example_generate(TextPrompt{"x"});
  change(generate);
  const auto valid = validate(generate);
  if (valid) return "nothing";
  EXPECT_EQ(valid.error().code, ErrorCode::invalid_message);
  const auto decoded = decode(3, payload_of(generate));
  EXPECT_FALSE(decoded) << "what may not be sent may not arrive";
  return valid.error().message.substr(0, valid.error().message.find(':'));
}

TEST(Validate, SamplingOutOfRangeIsNamed) {
  constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  for (const float bad : {kNan, kInfinity, -kInfinity, -1000.0F}) {
    EXPECT_EQ(refused([&](Generate& g) { g.sampling.temperature = bad; }), "Sampling.temperature");
    EXPECT_EQ(refused([&](Generate& g) { g.sampling.top_p = bad; }), "Sampling.top_p");
    EXPECT_EQ(refused([&](Generate& g) { g.sampling.min_p = bad; }), "Sampling.min_p");
    EXPECT_EQ(refused([&](Generate& g) { g.sampling.repetition_penalty = bad; }), "Sampling.repetition_penalty");
    EXPECT_EQ(refused([&](Generate& g) { g.sampling.frequency_penalty = bad; }), "Sampling.frequency_penalty");
    EXPECT_EQ(refused([&](Generate& g) { g.sampling.presence_penalty = bad; }), "Sampling.presence_penalty");
  }
  EXPECT_EQ(refused([&](Generate& g) { g.sampling.logit_bias = {{1, kNan}}; }), "Sampling.logit_bias_values");
  EXPECT_EQ(refused([](Generate& g) { g.sampling.logit_bias = {{-1, 0.0F}}; }), "Sampling.logit_bias_ids");
  EXPECT_EQ(refused([](Generate& g) { g.sampling.logit_bias.resize(kMaxLogitBias + 1); }), "Sampling.logit_bias_ids");
  EXPECT_EQ(refused([](Generate& g) { g.sampling.top_p = 0; }), "Sampling.top_p");
  EXPECT_EQ(refused([](Generate& g) { g.sampling.repetition_penalty = 0; }), "Sampling.repetition_penalty");
}

TEST(Validate, RequestOutOfRangeIsNamed) {
  EXPECT_EQ(refused([](Generate& g) { g.stop.resize(kMaxStops + 1, "x"); }), "Generate.stop");
  EXPECT_EQ(refused([](Generate& g) { g.stop = {""}; }), "Generate.stop");
  EXPECT_EQ(refused([](Generate& g) { g.stop = {std::string(kMaxNameBytes + 1, 'x')}; }), "Generate.stop");
  EXPECT_EQ(refused([](Generate& g) { g.max_tokens = kMaxGenerateTokens + 1; }), "Generate.max_tokens");
  EXPECT_EQ(refused([](Generate& g) { g.deadline_ms = kMaxDeadlineMs + 1; }), "Generate.deadline_ms");
  EXPECT_EQ(refused([](Generate& g) { g.max_queue_ms = kMaxDeadlineMs + 1; }), "Generate.max_queue_ms");
  EXPECT_EQ(refused([](Generate& g) {
              g.partial = true;
              g.deadline_ms = 0;
            }),
            "Generate.partial");
  EXPECT_EQ(refused([](Generate& g) { g.priority = static_cast<Priority>(4); }), "Generate.priority");
  EXPECT_EQ(refused([](Generate& g) { g.session = "../etc"; }), "Generate.session");
  EXPECT_EQ(refused([](Generate& g) { g.latest_wins_key = std::string(kMaxKeyBytes + 1, 'x'); }),
            "Generate.latest_wins_key");
  EXPECT_EQ(refused([](Generate& g) { g.prompt = TokenPrompt{}; }), "Generate.prompt.ids");
  EXPECT_EQ(refused([](Generate& g) { g.prompt = TokenPrompt{{1, -1}}; }), "Generate.prompt.ids[1]");
  EXPECT_EQ(refused([](Generate& g) { g.prompt = ChatPrompt{}; }), "Generate.prompt.messages");
  EXPECT_EQ(refused([](Generate& g) {
              g.prompt = TokenPrompt{{1}};
              g.raw = true;
            }),
            "Generate.raw");
  EXPECT_EQ(refused([](Generate& g) {
              g.prompt = TextPrompt{"<s>", true};
              g.raw = false;
            }),
            "Generate.prompt.special");
  EXPECT_EQ(refused([](Generate&) {}), "nothing");
}

TEST(Validate, ConversationOutOfRangeIsNamed) {
  const auto chat = [](auto change) {
    ChatPrompt prompt{.messages = {{.role = Role::user, .content = "x"}}, .tools = ""};
    change(prompt);
    return refused([&](Generate& g) { g.prompt = prompt; });
  };
  EXPECT_EQ(chat([](ChatPrompt& p) { p.messages[0].role = static_cast<Role>(0); }), "ChatMessage.role");
  EXPECT_EQ(chat([](ChatPrompt& p) { p.messages.resize(kMaxChatMessages + 1); }), "Generate.prompt.messages");
  EXPECT_EQ(chat([](ChatPrompt& p) { p.messages[0].tool_calls.resize(1); }), "ChatMessage.tool_calls");
  EXPECT_EQ(chat([](ChatPrompt& p) { p.messages[0].tool_call_id = "a"; }), "ChatMessage.tool_call_id");
  EXPECT_EQ(chat([](ChatPrompt& p) {
              p.messages[0].role = Role::assistant;
              p.messages[0].tool_calls = {{"id", "two\nlines", "{}"}};
            }),
            "ToolCall.name");
  EXPECT_EQ(chat([](ChatPrompt& p) {
              p.messages.assign(2, {.role = Role::user, .content = std::string(kMaxTextBytes / 2 + 1, 'x')});
            }),
            "Generate.prompt");
}

TEST(Validate, ASessionHasANameThatIsOneAndOnlyWhatItsActionNeeds) {
  const auto field = [](const Session& session) {
    const auto valid = validate(session);
    return valid ? "" : valid.error().message.substr(0, valid.error().message.find(':'));
  };
  EXPECT_EQ(field({.action = SessionAction::open, .name = "kitchen"}), "");
  EXPECT_EQ(field({.action = SessionAction::open}), "Session.name");
  EXPECT_EQ(field({.action = SessionAction::open, .name = "../etc"}), "Session.name");
  EXPECT_EQ(field({.action = SessionAction::list, .name = "kitchen"}), "Session.name");
  EXPECT_EQ(field({.action = SessionAction::fork, .name = "kitchen"}), "Session.to");
  EXPECT_EQ(field({.action = SessionAction::close, .name = "kitchen", .to = "cellar"}), "Session.to");
  EXPECT_EQ(field({.action = static_cast<SessionAction>(6), .name = "kitchen"}), "Session.action");
  EXPECT_EQ(field({.action = SessionAction::open, .name = "a", .overflow = static_cast<SessionOverflow>(0)}),
            "Session.overflow");
  EXPECT_FALSE(validate(SessionReport{std::vector<SessionState>(kMaxSessions + 1)}));
}

TEST(Validate, TextThatIsNotUtf8IsNamed) {
  EXPECT_EQ(refused([](Generate& g) { g.prompt = TextPrompt{"\xC3"}; }), "Generate.prompt.text");
  EXPECT_EQ(validate(TokenBatch{{}, "\xFF"}).error().message, "TokenBatch.text: not well-formed UTF-8");
  EXPECT_EQ(validate(Hello{1, 1, "a\nb"}).error().message, "Hello.client: has control characters");
}

TEST(Validate, VersionsAreARangeFromOne) {
  EXPECT_FALSE(validate(Hello{0, 1, ""}));
  EXPECT_FALSE(validate(Hello{2, 1, ""}));
  EXPECT_TRUE(validate(Hello{1, 65535, ""}));
}

TEST(Validate, StopStringGoesWithItsReasonAlone) {
  EXPECT_FALSE(validate(Done{.reason = DoneReason::stop_string}));
  EXPECT_FALSE(validate(Done{.reason = DoneReason::max_tokens, .stop_string = "x"}));
  EXPECT_TRUE(validate(Done{.reason = DoneReason::stop_string, .stop_string = "x"}));
}

TEST(Validate, SpeedsAreNumbers) {
  StatusReport report = test::example_report();
  report.decode_tokens_per_s = std::numeric_limits<double>::quiet_NaN();
  EXPECT_EQ(validate(report).error().message, "StatusReport.decode_tokens_per_s: nan is not within 0 to 1000000000000");
}

}  // namespace
}  // namespace sirocco::wire

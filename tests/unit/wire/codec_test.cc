#include "ipc/wire/codec.h"

#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>

#include "ipc/wire/frame.h"
#include "ipc/wire/validate.h"
#include "tests/support/source_dir.h"
#include "tests/unit/wire/examples.h"

namespace sirocco::wire {
namespace {

tl::expected<Message, WireError> round_trip(const Message& message) {
  const std::vector<std::byte> frame = encode(message, 7);
  const FrameHeader header = read_header(std::span(frame).first<kHeaderBytes>());
  EXPECT_EQ(header.length, frame.size() - kHeaderBytes);
  EXPECT_EQ(header.request_id, 7U);
  return decode(header.type, std::span(frame).subspan(kHeaderBytes));
}

TEST(Codec, EveryFieldOfEveryMessageComesBack) {
  for (const Message& message : test::example_messages()) {
    const auto back = round_trip(message);
    ASSERT_TRUE(back) << back.error().message;
    EXPECT_EQ(*back, message) << message_name(message_type(message));
  }
}

TEST(Codec, ExamplesCoverEveryType) {
  std::set<MessageType> types;
  for (const Message& message : test::example_messages()) types.insert(message_type(message));
  EXPECT_EQ(types.size(), std::variant_size_v<Message>);
}

TEST(Codec, DefaultGenerateIsGreedyAndInteractive) {
  const Generate generate{.prompt = TextPrompt{""}};
  EXPECT_EQ(round_trip(generate), Message{generate});
  EXPECT_EQ(generate.sampling.temperature, 0);
}

TEST(Codec, AnyBatchComesBack) {
  EXPECT_TRUE(rc::check([](const std::vector<std::uint16_t>& ids, const std::vector<std::uint8_t>& text) {
    TokenBatch batch;
    batch.ids.assign(ids.begin(), ids.end());
    for (const std::uint8_t c : text) batch.text += static_cast<char>(c % 128);
    RC_ASSERT(round_trip(batch) == Message{batch});
  }));
}

TEST(Codec, PayloadMayHaveAnyAlignment) {
  const Message message = test::example_report();
  const std::vector<std::byte> frame = encode(message, 1);
  for (std::size_t shift = 0; shift < 8; ++shift) {
    std::vector<std::byte> shifted(shift);
    shifted.insert(shifted.end(), frame.begin() + kHeaderBytes, frame.end());
    EXPECT_EQ(decode(14, std::span(shifted).subspan(shift)), message);
  }
}

TEST(Codec, LargestTokenAnswerFitsAFrame) {
  const Tokenized tokenized{std::vector<std::int32_t>(kMaxIds, 5)};
  ASSERT_TRUE(validate(tokenized));
  EXPECT_LE(encode(tokenized, 1).size(), kMaxPayload);
  EXPECT_EQ(round_trip(tokenized), Message{tokenized});
}

TEST(Codec, LargestTextFitsAFrame) {
  const Generate generate{.prompt = TextPrompt{std::string(kMaxTextBytes, 'a')}};
  ASSERT_TRUE(validate(generate));
  EXPECT_LE(encode(generate, 1).size(), kMaxPayload);
}

// A conversation with as many messages and calls as are allowed stays below the verifier's count of tables.
TEST(Codec, LargestConversationIsAccepted) {
  ChatPrompt prompt;
  prompt.messages.resize(kMaxChatMessages);
  prompt.messages[0].role = Role::assistant;
  prompt.messages[0].tool_calls.resize(kMaxToolCalls);
  const Generate generate{.prompt = prompt};
  EXPECT_EQ(round_trip(generate), Message{generate});
}

TEST(Codec, LargestReportIsAccepted) {
  StatusReport report = test::example_report();
  report.memory.resize(kMaxMemoryItems);
  report.active.resize(kMaxActiveRequests);
  report.reasons.resize(kMaxReasons);
  EXPECT_EQ(round_trip(report), Message{report});
}

TEST(Codec, UnknownTypesAreNamedAndNotMalformed) {
  const std::vector<std::byte> frame = encode(Cancel{}, 1);
  for (const std::uint16_t type : std::vector<std::uint16_t>{0, 25, 65535}) {
    const auto message = decode(type, std::span(frame).subspan(kHeaderBytes));
    ASSERT_FALSE(message);
    EXPECT_EQ(message.error().code, ErrorCode::unknown_type);
    EXPECT_NE(message.error().message.find(std::to_string(type)), std::string::npos);
  }
}

TEST(Names, AreThoseOfTheSchema) {
  EXPECT_EQ(error_name(ErrorCode::slow_consumer), "SLOW_CONSUMER");
  EXPECT_EQ(error_name(static_cast<ErrorCode>(0)), "");
  EXPECT_EQ(error_name(static_cast<ErrorCode>(999)), "");
  EXPECT_EQ(state_name(State::no_model), "NO_MODEL");
  EXPECT_EQ(done_reason_name(DoneReason::max_tokens), "MAX_TOKENS");
  EXPECT_EQ(request_state_name(RequestState::decode), "DECODE");
  EXPECT_EQ(request_state_name(static_cast<RequestState>(5)), "");
  EXPECT_EQ(message_name(MessageType::status_report), "StatusReport");
  EXPECT_EQ(message_name(static_cast<MessageType>(99)), "");
}

TEST(Document, ExampleFrameIsWhatIsSent) {
  std::ifstream file(sirocco::test::source_dir() / "docs/protocol.md");
  const std::string page{std::istreambuf_iterator<char>(file), {}};
  const std::size_t begin = page.find("```hex\n") + 7;
  std::istringstream hex(page.substr(begin, page.find("```", begin) - begin));
  std::vector<std::byte> frame;
  for (unsigned byte = 0; hex >> std::hex >> byte;) frame.push_back(static_cast<std::byte>(byte));
  EXPECT_EQ(frame, encode(Hello{1, 1, "demo"}, 0));
}

// The fuzzer starts from whole frames, so that it need not find the format by chance.
TEST(FuzzCorpus, HasAValidFrameOfEveryType) {
  std::set<std::uint16_t> types;
  for (const auto& entry :
       std::filesystem::directory_iterator(sirocco::test::source_dir() / "tests/fuzz/corpus/wire")) {
    std::ifstream file(entry.path(), std::ios::binary);
    const std::string bytes{std::istreambuf_iterator<char>(file), {}};
    FrameReader reader(kMaxPayload);
    reader.push(std::as_bytes(std::span(bytes)));
    const auto frame = reader.next();
    if (frame && *frame && decode((*frame)->type, (*frame)->payload)) types.insert((*frame)->type);
  }
  EXPECT_EQ(types.size(), std::variant_size_v<Message>);
}

}  // namespace
}  // namespace sirocco::wire

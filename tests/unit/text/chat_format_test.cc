#include "engine/text/chat_format.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <optional>

#include "tests/support/models.h"
#include "tests/unit/text/vocabularies.h"

namespace sirocco {
namespace {

using Ids = std::vector<TokenId>;

// Templates reduced to what tells them apart: the control tokens that they write.
constexpr std::string_view kV1 = "{{ bos_token }}{{ '[INST] ' + message['content'] + ' [/INST]' }}";
constexpr std::string_view kV2 = "{{ '[AVAILABLE_TOOLS]' }}{{ '[INST] ' }}{{ '[TOOL_RESULTS] [{\"name\": ' }}";
constexpr std::string_view kV3 = "{{ '[AVAILABLE_TOOLS]' }}{{ '[INST]' }}{{ '[TOOL_RESULTS]' }}{{ ', \"call_id\": ' }}";
constexpr std::string_view kV7 =
    "{{ '[SYSTEM_PROMPT]' + system + '[/SYSTEM_PROMPT]' }}{{ '[INST]' }}{{ '\"call_id\"' }}";

ChatMessage message(Role role, std::string_view content) {
  ChatMessage out;
  out.role = role;
  out.content = content;
  return out;
}

// mistral-v7's vocabulary with its control tokens as v1 had them: none but <s> and </s>.
GgufMetadata without_controls() {
  GgufMetadata metadata = test::vocabulary_metadata("mistral-v7");
  auto kinds = metadata.integers("tokenizer.ggml.token_type").value();
  const auto control = static_cast<std::int64_t>(TokenKind::control);
  std::replace(kinds.begin() + 3, kinds.end(), control, static_cast<std::int64_t>(TokenKind::unused));
  metadata.set("tokenizer.ggml.token_type", GgufArray(kinds));
  return metadata;
}

Result<std::shared_ptr<const ChatFormat>> recognise(GgufMetadata metadata, std::string_view chat_template) {
  metadata.set("tokenizer.chat_template", std::string(chat_template));
  auto tokenizer = Tokenizer::from_metadata(metadata);
  if (!tokenizer) return fail(tokenizer.error());
  return ChatFormat::from_metadata(metadata, *tokenizer);
}

std::shared_ptr<const ChatFormat> format(std::string_view vocabulary, std::string_view chat_template) {
  return recognise(test::vocabulary_metadata(vocabulary), chat_template).value();
}

std::optional<Ids> encode(const ChatFormat& format, std::string_view json) {
  const auto conversation = parse_conversation(json);
  if (!conversation) return std::nullopt;
  const auto ids = format.encode(conversation->messages, conversation->tools);
  return ids ? std::optional(*ids) : std::nullopt;
}

const nlohmann::json& chats() {
  static const nlohmann::json document = test::golden("chats.json");
  return document;
}

void expect_chats(const ChatFormat& format, std::string_view golden, bool plain_only) {
  const nlohmann::json& rows = chats().at("ids").at(std::string(golden));
  for (std::size_t row = 0; row < rows.size(); ++row) {
    const auto index = plain_only ? chats().at("plain_cases")[row].get<std::size_t>() : row;
    const auto text = chats().at("cases")[index].get<std::string>();
    // The reference leaves tools out without a word in v1; ours refuses them (V1RefusesTools… below).
    const auto conversation = parse_conversation(text).value();
    const bool refused = rows[row].is_null() || (golden == "mistral-v1" && !conversation.tools.empty());
    const auto expected = refused ? std::nullopt : std::optional(rows[row].get<Ids>());
    EXPECT_EQ(encode(format, text), expected) << golden << ", case " << index << ": " << text;
  }
}

TEST(MistralChat, EqualsMistralCommonAndRefusesWhatItRefuses) {
  expect_chats(*format("mistral-v7", kV2), "mistral-v2", false);
  expect_chats(*format("mistral-v7", kV3), "mistral-v3", false);
  expect_chats(*format("mistral-v7", kV7), "mistral-v7", false);
  expect_chats(*format("tekken-20k", kV3), "mistral-v3-tekken", false);
  expect_chats(*format("tekken-20k", kV7), "mistral-v7-tekken", false);
  expect_chats(**recognise(without_controls(), kV1), "mistral-v1", false);
}

TEST(MistralChat, V1RefusesToolsInsteadOfForgettingThem) {
  const auto v1 = recognise(without_controls(), kV1).value();
  const ChatMessage hello = message(Role::user, "hello");
  const auto ids = v1->encode({&hello, 1}, R"([{"type": "function", "function": {"name": "now"}}])");
  ASSERT_FALSE(ids);
  EXPECT_EQ(ids.error().message(), "tools: the format mistral-v1 has none");
}

TEST(Chatml, EqualsTheTemplate) {
  const auto templates = chats().at("templates");
  expect_chats(*format("tiny-smollm", templates["smollm2"].get<std::string>()), "chatml/smollm2-template", true);
  expect_chats(*format("tiny-smollm", templates["plain"].get<std::string>()), "chatml/plain-template", true);
}

TEST(Chatml, OfTheDemoModelEqualsTransformers) {
  SIROCCO_NEEDS_DEMO_MODEL();
  const auto metadata = test::vocabulary_metadata("smollm2");
  const auto demo = ChatFormat::from_metadata(metadata, test::vocabulary("smollm2")).value();
  EXPECT_EQ(demo->name(), "chatml");
  expect_chats(*demo, "smollm2", true);
}

TEST(Chatml, ThoughtsOfEarlierAnswersAreLeftOutWhereTheTemplateDoesSo) {
  const auto plain = chats().at("templates")["plain"].get<std::string>();
  const auto thinking = format("tiny-qwen2", plain + "{{ content.split('</think>')[-1] }}");
  const std::string_view with = R"([{"role": "user", "content": "a"},
      {"role": "assistant", "content": "<think>\nso\n</think>\n\nb"}, {"role": "user", "content": "c"}])";
  const std::string_view without = R"([{"role": "user", "content": "a"},
      {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}])";
  EXPECT_EQ(encode(*thinking, with), encode(*thinking, without));
  EXPECT_NE(encode(*format("tiny-qwen2", plain), with), encode(*format("tiny-qwen2", plain), without));
}

TEST(Chatml, BosComesFirstWhereTheTemplateWritesIt) {
  GgufMetadata metadata = test::vocabulary_metadata("tiny-smollm");
  metadata.set("tokenizer.ggml.bos_token_id", std::uint32_t{0});
  const auto plain = chats().at("templates")["plain"].get<std::string>();
  const std::string_view hello = R"([{"role": "user", "content": "a"}])";
  Ids expected = encode(**recognise(metadata, plain), hello).value();
  expected.insert(expected.begin(), 0);
  EXPECT_EQ(encode(**recognise(metadata, "{{ bos_token }}" + plain), hello), expected);
}

// Every control token that a prompt has must come from the format, whatever the texts in it say.
TEST(ChatFormat, ControlTokensInAMessageStayText) {
  const auto count = [](const ChatFormat& chat, const Tokenizer& tokenizer, std::string_view content) {
    const std::array messages = {message(Role::user, content), message(Role::assistant, content),
                                 message(Role::user, content)};
    const Ids ids = chat.encode(messages).value();
    EXPECT_NE(tokenizer.decode(ids).find(content), std::string::npos);
    return std::count_if(ids.begin(), ids.end(),
                         [&](TokenId id) { return tokenizer.token_kind(id) == TokenKind::control; });
  };
  const std::string_view mistral = "x[INST]x[/INST]x</s>x<s>x[SYSTEM_PROMPT]x[TOOL_CALLS]x";
  EXPECT_EQ(count(*format("mistral-v7", kV7), *test::vocabulary("mistral-v7"), mistral), 6);
  EXPECT_EQ(count(*format("tekken-20k", kV3), *test::vocabulary("tekken-20k"), mistral), 6);
  const auto plain = chats().at("templates")["plain"].get<std::string>();
  EXPECT_EQ(count(*format("tiny-smollm", plain), *test::vocabulary("tiny-smollm"),
                  "x<|im_end|>x<|im_start|>system x<|endoftext|>"),
            7);
}

TEST(ChatFormat, IsRecognisedByTheTemplateAndTheControlTokens) {
  EXPECT_EQ(format("mistral-v7", kV2)->name(), "mistral-v2");
  EXPECT_EQ(format("mistral-v7", kV3)->name(), "mistral-v3");
  EXPECT_EQ(format("mistral-v7", "[INST]{{ content }}[/INST]")->name(), "mistral-v3");
  EXPECT_EQ(format("mistral-v7", kV7)->name(), "mistral-v7");
  EXPECT_EQ(format("tekken-20k", kV3)->name(), "mistral-v3-tekken");
  EXPECT_EQ(format("tekken-20k", kV7)->name(), "mistral-v7-tekken");
  EXPECT_EQ((*recognise(without_controls(), kV1))->name(), "mistral-v1");
  EXPECT_FALSE(recognise(without_controls(), kV3));               // v3 without its control tokens
  EXPECT_FALSE(recognise(without_controls(), "[INST] <<SYS>>"));  // Llama 2
  EXPECT_FALSE(recognise(test::vocabulary_metadata("tekken-20k"), "[SYSTEM_PROMPT][INST][TOOL_CALLS][ARGS]"));  // v11
  EXPECT_FALSE(recognise(test::vocabulary_metadata("tiny-smollm"), "<|im_start|>user<|im_sep|><|im_end|>assistant"));
  EXPECT_FALSE(recognise(test::vocabulary_metadata("mistral-v7"), "<|im_start|>assistant<|im_end|>"));
}

TEST(ChatFormat, AnAnswerEndsWithTheFormatsOwnToken) {
  EXPECT_EQ(format("mistral-v7", kV7)->end_tokens(), Ids{2});
  const auto plain = chats().at("templates")["plain"].get<std::string>();
  EXPECT_EQ(format("tiny-smollm", plain)->end_tokens(),
            Ids{test::vocabulary("tiny-smollm")->find("<|im_end|>").value()});
}

TEST(ChatFormat, AnUnknownTemplateIsQuotedAndTheKnownFormatsAreNamed) {
  const auto unknown =
      recognise(test::vocabulary_metadata("tiny-smollm"), "{{ '<|user|>' }}\n" + std::string(100, '.'));
  ASSERT_FALSE(unknown);
  EXPECT_EQ(unknown.error().message(),
            "tokenizer.chat_template: \"{{ '<|user|>' }} " + std::string(63, '.') +
                "…\" is not a format known here for a bpe/smollm vocabulary (chatml, mistral-v7, mistral-v7-tekken, "
                "mistral-v3-tekken, mistral-v2, mistral-v3, mistral-v1); use a raw text or token ids");
  const auto none = ChatFormat::from_metadata({}, test::vocabulary("tiny-smollm"));
  ASSERT_FALSE(none);
  EXPECT_EQ(none.error().message(),
            "tokenizer.chat_template: the file has none, so messages cannot be encoded; use a raw text or token ids");
}

TEST(ChatFormat, ErrorsNameTheMessage) {
  const auto error = [](const ChatFormat& chat, std::string_view json) {
    const auto conversation = parse_conversation(json).value();
    return chat.encode(conversation.messages, conversation.tools).error().message();
  };
  const auto v3 = format("mistral-v7", kV3);
  EXPECT_EQ(error(*v3, "[]"), "messages: at least one is needed");
  EXPECT_EQ(error(*v3, R"([{"role": "user", "content": "a"}, {"role": "tool", "tool_call_id": "123456789"}])"),
            "messages[1]: tool after user is not allowed in the format mistral-v3");
  EXPECT_EQ(error(*v3, R"([{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}])"),
            "messages[1]: the last message must be a user's or a tool's, not assistant");
  EXPECT_EQ(error(*v3, R"([{"role": "user"}, {"role": "assistant", "tool_calls":
                           [{"id": "x", "function": {"name": "f"}}]}, {"role": "tool", "tool_call_id": "x"}])"),
            "messages[1]: the tool call id \"x\" must be 9 letters or digits");
  EXPECT_EQ(error(*v3, R"({"messages": [{"role": "user"}], "tools": [{"type": "function"}]})"),
            R"(tools[0]: {"type": "function", "function": {"name": ..., ...}} is expected)");
  const auto chatml = format("tiny-smollm", chats().at("templates")["plain"].get<std::string>());
  EXPECT_EQ(error(*chatml, R"([{"role": "user"}, {"role": "tool"}])"), "messages[1]: the format chatml has no tools");
}

}  // namespace
}  // namespace sirocco

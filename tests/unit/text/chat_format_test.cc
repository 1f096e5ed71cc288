#include "engine/text/chat_format.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <map>
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

// tiny-qwen2 with the BOS and EOS that the golden templates were given.
GgufMetadata metadata_of_templates() {
  GgufMetadata metadata = test::vocabulary_metadata("tiny-qwen2");
  const auto id = [](std::string_view token) {
    return static_cast<std::uint32_t>(test::vocabulary("tiny-qwen2")->find(token).value());
  };
  metadata.set("tokenizer.ggml.bos_token_id", id("<|endoftext|>"));
  metadata.set("tokenizer.ggml.eos_token_id", id("<|im_end|>"));
  return metadata;
}

// How many of the golden conversations each template's format takes. The others it refuses, because the template makes
// something else than ChatML of them; 0: it is not recognised. What it takes must be what transformers makes of it.
TEST(Chatml, IsWhatTheTemplateMakesOrRefused) {
  const std::map<std::string, std::size_t> expected = {
      {"plain", 19},
      {"text outside of tags", 19},
      {"default system prompt", 19},
      {"thinks at once", 16},      // as the last message an answer keeps its thoughts
      {"thinks if it likes", 13},  // and before a last system message
      {"macros and tools that are not there", 19},
      {"answers begin with the question", 6},
      {"strict, with BOS and EOS", 10},
      {"trims", 0},
      {"trims answers", 0},
      {"no line break", 0},
      {"another separator", 0},
      {"tools in any case", 9},
      {"an example first", 0},
      {"a name for the user", 0}};
  const nlohmann::json document = test::golden("templates.json");
  std::map<std::string, std::size_t> taken;
  for (const auto& [name, entry] : document.at("templates").items()) {
    taken[name] = 0;
    const auto chatml = recognise(metadata_of_templates(), entry.at("template").get<std::string>());
    if (!chatml) continue;
    for (std::size_t i = 0; i < document.at("conversations").size(); ++i) {
      const auto ids = encode(**chatml, document.at("conversations")[i].dump());
      if (!ids) continue;
      ++taken[name];
      EXPECT_EQ(*ids, entry.at("ids")[i].get<Ids>()) << name << ", conversation " << i;
    }
  }
  EXPECT_EQ(taken, expected);
}

TEST(Chatml, ATemplateThatWritesSomethingElseIsQuotedWithIt) {
  const nlohmann::json templates = test::golden("templates.json").at("templates");
  const auto error = [&](std::string_view chat_template) {
    return recognise(metadata_of_templates(), chat_template).error().message();
  };
  const auto golden = [&](std::string_view name) {
    return templates.at(std::string(name)).at("template").get<std::string>();
  };
  EXPECT_EQ(
      error(golden("trims")),
      "tokenizer.chat_template: \"{% for message in messages %}{{'<|im_start|>' + message['role'] + ' ' + message[…\": "
      "not ChatML as known here: it makes of (user): \"<|im_start|>user\\nu<|im_end|>\\n<|im_start|>assistant\\n\"; "
      "use a raw text or token ids");
  EXPECT_EQ(
      error("<|im_start|>{{ f() }}"),
      "tokenizer.chat_template: \"<|im_start|>{{ f() }}\": line 1: the call f() is not known here; use a raw text or "
      "token ids");
}

TEST(Chatml, ARoleWhereTheTemplateHasNoPlaceForItIsNamed) {
  const nlohmann::json templates = test::golden("templates.json").at("templates");
  const auto strict = templates.at("answers begin with the question").at("template").get<std::string>();
  const auto chatml = recognise(metadata_of_templates(), strict).value();
  const auto error = [&](std::initializer_list<Role> roles) {
    std::vector<ChatMessage> messages;
    for (const Role role : roles) messages.push_back(message(role, "x"));
    return chatml->encode(messages).error().message();
  };
  EXPECT_EQ(error({Role::user, Role::user}), "messages[1]: user after user is not allowed by the model's template");
  EXPECT_EQ(error({Role::assistant}), "messages[0]: assistant at first is not allowed by the model's template");
  EXPECT_EQ(error({Role::user, Role::assistant}),
            "messages[1]: assistant at last is not allowed by the model's template");
}

TEST(Chatml, ItsTokensMustBeControlTokens) {
  GgufMetadata metadata = test::vocabulary_metadata("tiny-smollm");
  auto kinds = metadata.integers("tokenizer.ggml.token_type").value();
  const auto start = static_cast<std::size_t>(test::vocabulary("tiny-smollm")->find("<|im_start|>").value());
  kinds[start] = static_cast<std::int64_t>(TokenKind::user_defined);
  metadata.set("tokenizer.ggml.token_type", GgufArray(kinds));
  const auto plain = chats().at("templates")["plain"].get<std::string>();
  const std::string error = recognise(metadata, plain).error().message();
  EXPECT_TRUE(
      error.ends_with("tokenizer.ggml.token_type: <|im_start|> is no control token, so a user's text could contain "
                      "it; convert the model again; use a raw text or token ids"))
      << error;
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
  EXPECT_EQ(error(*v3, R"({"messages": [{"role": "user"}],
                           "tools": [{"type": "function", "function": {"name": "f", "parameters": []}}]})"),
            "tools[0].function.parameters: array is given, object expected");
  const std::string deep(1000, '[');
  EXPECT_EQ(error(*v3, R"([{"role": "user"}, {"role": "assistant", "tool_calls": [{"id": "123456789",
                           "function": {"name": "f", "arguments": ")" +
                           deep + R"("}}]}, {"role": "tool", "tool_call_id": "123456789"}])"),
            "the arguments of f: JSON: more than 900 levels deep");
  const auto chatml = format("tiny-smollm", chats().at("templates")["plain"].get<std::string>());
  EXPECT_EQ(error(*chatml, R"([{"role": "user"}, {"role": "tool"}])"), "messages[1]: the format chatml has no tools");
}

}  // namespace
}  // namespace sirocco

#include <gtest/gtest.h>

#include "engine/text/chat_format.h"

namespace sirocco {
namespace {

std::string error(std::string_view json) {
  const auto conversation = parse_conversation(json);
  return conversation ? "no error" : conversation.error().message();
}

TEST(ParseConversation, ReadsWhatTheOpenAiApiWrites) {
  const auto conversation = parse_conversation(R"({"model": "any", "messages": [
      {"role": "developer", "content": "Be brief."},
      {"role": "user", "content": [
          {"type": "text", "text": "a"}, {"type": "text", "text": ""}, {"type": "text", "text": "b"}]},
      {"role": "assistant", "content": null, "tool_calls": [
          {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{\"x\": 1}"}}]},
      {"role": "tool", "tool_call_id": "call_1", "name": "f", "content": "2"}],
      "tools": [{"type": "function", "function": {"name": "f"}}]})");
  ASSERT_TRUE(conversation) << conversation.error().message();
  const auto& messages = conversation->messages;
  ASSERT_EQ(messages.size(), 4U);
  EXPECT_EQ(messages[0].role, Role::system);
  EXPECT_EQ(messages[1].role, Role::user);
  EXPECT_EQ(messages[1].content, "a\n\nb");
  EXPECT_EQ(messages[2].role, Role::assistant);
  EXPECT_EQ(messages[2].content, "");
  ASSERT_EQ(messages[2].tool_calls.size(), 1U);
  EXPECT_EQ(messages[2].tool_calls[0].id, "call_1");
  EXPECT_EQ(messages[2].tool_calls[0].name, "f");
  EXPECT_EQ(messages[2].tool_calls[0].arguments, "{\"x\": 1}");
  EXPECT_EQ(messages[3].role, Role::tool);
  EXPECT_EQ(messages[3].tool_call_id, "call_1");
  EXPECT_EQ(messages[3].name, "f");
  EXPECT_EQ(conversation->tools, R"([{"type": "function", "function": {"name": "f"}}])");
}

TEST(ParseConversation, ABareArrayIsTheMessages) {
  const auto conversation = parse_conversation(R"([{"role": "user", "content": "hi"}])");
  ASSERT_TRUE(conversation);
  ASSERT_EQ(conversation->messages.size(), 1U);
  EXPECT_EQ(conversation->messages[0].content, "hi");
  EXPECT_EQ(conversation->tools, "");
}

TEST(ParseConversation, ErrorsSayWhere) {
  EXPECT_EQ(error("{}"), "an array of messages or {\"messages\": [...]} is expected");
  EXPECT_EQ(error("[1]"), "messages[0]: an object is expected");
  EXPECT_EQ(error(R"([{"content": "x"}])"), "messages[0]: \"role\" is missing");
  EXPECT_EQ(error(R"([{"role": "user"}, {"role": "robot"}])"),
            "messages[1].role: \"robot\" is not known (system, developer, user, assistant, tool)");
  EXPECT_EQ(error(R"([{"role": "user", "content": 5}])"),
            "messages[0].content: a string or an array of parts is expected, not number");
  EXPECT_EQ(error(R"([{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "image_url"}]}])"),
            "messages[0].content[1]: type \"image_url\" is not supported, only \"text\" is");
  EXPECT_EQ(error(R"([{"role": "assistant", "tool_calls": [{"id": "a"}]}])"),
            "messages[0].tool_calls[0]: an object with a \"function\" is expected");
  EXPECT_EQ(error(R"([{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": {}}}]}])"),
            "messages[0].tool_calls[0].function.arguments: a string is expected, not object");
  EXPECT_EQ(error(R"([{"role": "user", "tool_calls": [{"function": {"name": "f"}}]}])"),
            "messages[0].tool_calls: only an assistant's message has them");
  EXPECT_EQ(error(R"({"messages": [], "tools": {}})"), "tools: an array is expected");
  EXPECT_TRUE(error(R"([{"role": "user",}])").starts_with("JSON: ")) << error(R"([{"role": "user",}])");
}

}  // namespace
}  // namespace sirocco

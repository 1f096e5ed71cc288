#include <gtest/gtest.h>

#include "engine/text/chat_format.h"
#include "engine/text/json_text.h"

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
  EXPECT_EQ(conversation->tools, R"([{"type":"function","function":{"name":"f"}}])");
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

TEST(ParseConversation, DepthIsLimited) {
  EXPECT_EQ(error(std::string(1'000'000, '[')), "JSON: more than 64 levels deep");
  EXPECT_TRUE(parse_json(std::string(60, '[') + std::string(60, ']')));
}

TEST(PythonJson, WritesWhatJsonDumpsWrites) {
  // python3 -c 'import json; print(json.dumps(json.loads(INPUT), ensure_ascii=False))'
  const auto written = [](std::string_view json) { return python_json(parse_json(json).value()); };
  EXPECT_EQ(written(R"({"b":[1,-2,{}],"a":null,"c":[true,false,[]]})"),
            R"({"b": [1, -2, {}], "a": null, "c": [true, false, []]})");
  EXPECT_EQ(written("[0.0,-0.0,1.0,1.5,0.1,100000.0,1e15,1e16,1e-4,1e-5,1.5e300,123456789012345680.0,2.5e-7]"),
            "[0.0, -0.0, 1.0, 1.5, 0.1, 100000.0, 1000000000000000.0, 1e+16, 0.0001, 1e-05, 1.5e+300, "
            "1.2345678901234568e+17, 2.5e-07]");
  EXPECT_EQ(written(R"(["\u00e9\u4f60\ud83d\udc4b","\"\\\/\b\f\n\r\t\u0001\u007f"])"),
            "[\"é你👋\", \"\\\"\\\\/\\b\\f\\n\\r\\t\\u0001\x7f\"]");
  EXPECT_EQ(written(R"({"a": 1, "b": 2, "a": 3})"), R"({"a": 3, "b": 2})");
  EXPECT_EQ(written("[9223372036854775807, 18446744073709551615, -9223372036854775808]"),
            "[9223372036854775807, 18446744073709551615, -9223372036854775808]");
}

}  // namespace
}  // namespace sirocco

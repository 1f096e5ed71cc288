// parse_conversation: the OpenAI API's messages and tools.
#include <array>

#include "engine/text/chat_format.h"
#include "engine/text/json_text.h"

namespace sirocco {
namespace {

constexpr std::array<std::pair<std::string_view, Role>, 5> kRoles = {{{"system", Role::system},
                                                                      {"developer", Role::system},
                                                                      {"user", Role::user},
                                                                      {"assistant", Role::assistant},
                                                                      {"tool", Role::tool}}};

Result<std::string> string_at(const Json& object, const char* key, std::string_view where) {
  const auto found = object.find(key);
  if (found == object.end()) return fail(ErrorCode::invalid_argument, "{}: \"{}\" is missing", where, key);
  if (!found->is_string()) {
    return fail(ErrorCode::invalid_argument, "{}.{}: a string is expected, not {}", where, key, found->type_name());
  }
  return found->get<std::string>();
}

// Absent and null are empty.
Result<std::string> optional_string_at(const Json& object, const char* key, std::string_view where) {
  const auto found = object.find(key);
  if (found == object.end() || found->is_null()) return std::string();
  return string_at(object, key, where);
}

Result<Role> parse_role(const Json& message, std::string_view where) {
  SIROCCO_TRY(const std::string name, string_at(message, "role", where));
  for (const auto& [known, role] : kRoles) {
    if (name == known) return role;
  }
  return fail(ErrorCode::invalid_argument, "{}.role: \"{}\" is not known (system, developer, user, assistant, tool)",
              where, name);
}

// A string, null, or parts {"type": "text", "text": …}, joined by an empty line as mistral-common joins them.
Result<std::string> parse_content(const Json& message, std::string_view where) {
  const auto content = message.find("content");
  if (content == message.end() || content->is_null()) return std::string();
  if (content->is_string()) return content->get<std::string>();
  if (!content->is_array()) {
    return fail(ErrorCode::invalid_argument, "{}.content: a string or an array of parts is expected, not {}", where,
                content->type_name());
  }
  std::string text;
  for (std::size_t i = 0; i < content->size(); ++i) {
    const std::string here = fmt::format("{}.content[{}]", where, i);
    const Json& part = (*content)[i];
    if (!part.is_object()) return fail(ErrorCode::invalid_argument, "{}: an object is expected", here);
    SIROCCO_TRY(const std::string type, string_at(part, "type", here));
    if (type != "text") {
      return fail(ErrorCode::unsupported, "{}: type \"{}\" is not supported, only \"text\" is", here, type);
    }
    SIROCCO_TRY(const std::string piece, string_at(part, "text", here));
    if (!text.empty() && !piece.empty()) text += "\n\n";
    text += piece;
  }
  return text;
}

Result<std::vector<ToolCall>> parse_tool_calls(const Json& message, std::string_view where) {
  std::vector<ToolCall> calls;
  const auto found = message.find("tool_calls");
  if (found == message.end() || found->is_null()) return calls;
  if (!found->is_array()) return fail(ErrorCode::invalid_argument, "{}.tool_calls: an array is expected", where);
  for (std::size_t i = 0; i < found->size(); ++i) {
    const std::string here = fmt::format("{}.tool_calls[{}]", where, i);
    const Json& call = (*found)[i];
    if (!call.is_object() || !call.contains("function") || !call["function"].is_object()) {
      return fail(ErrorCode::invalid_argument, "{}: an object with a \"function\" is expected", here);
    }
    ToolCall& out = calls.emplace_back();
    SIROCCO_TRY(out.id, optional_string_at(call, "id", here));
    SIROCCO_TRY(out.name, string_at(call["function"], "name", here + ".function"));
    SIROCCO_TRY(out.arguments, optional_string_at(call["function"], "arguments", here + ".function"));
  }
  return calls;
}

Result<ChatMessage> parse_message(const Json& json, std::string_view where) {
  if (!json.is_object()) return fail(ErrorCode::invalid_argument, "{}: an object is expected", where);
  ChatMessage message;
  SIROCCO_TRY(message.role, parse_role(json, where));
  SIROCCO_TRY(message.content, parse_content(json, where));
  SIROCCO_TRY(message.name, optional_string_at(json, "name", where));
  SIROCCO_TRY(message.tool_calls, parse_tool_calls(json, where));
  SIROCCO_TRY(message.tool_call_id, optional_string_at(json, "tool_call_id", where));
  if (!message.tool_calls.empty() && message.role != Role::assistant) {
    return fail(ErrorCode::invalid_argument, "{}.tool_calls: only an assistant's message has them", where);
  }
  return message;
}

}  // namespace

Result<Conversation> parse_conversation(std::string_view json) {
  SIROCCO_TRY(const Json document, parse_json(json));
  const bool bare = document.is_array();
  if (!bare && !(document.is_object() && document.contains("messages") && document["messages"].is_array())) {
    return fail(ErrorCode::invalid_argument, "an array of messages or {{\"messages\": [...]}} is expected");
  }
  Conversation conversation;
  const Json& messages = bare ? document : document["messages"];
  for (std::size_t i = 0; i < messages.size(); ++i) {
    SIROCCO_TRY(auto message, parse_message(messages[i], fmt::format("messages[{}]", i)));
    conversation.messages.push_back(std::move(message));
  }
  if (!bare && document.contains("tools") && !document["tools"].is_null()) {
    if (!document["tools"].is_array()) return fail(ErrorCode::invalid_argument, "tools: an array is expected");
    if (!document["tools"].empty()) conversation.tools = document["tools"].dump();
  }
  return conversation;
}

}  // namespace sirocco

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

Result<std::string> string_at(const Json& object, std::string_view key, std::string_view where) {
  const Json* found = object.find(key);
  if (found == nullptr) return fail(ErrorCode::invalid_argument, "{}: \"{}\" is missing", where, key);
  if (found->string() == nullptr) {
    return fail(ErrorCode::invalid_argument, "{}.{}: a string is expected, not {}", where, key, found->kind());
  }
  return *found->string();
}

// Absent and null are the same.
const Json* optional_at(const Json& object, std::string_view key) {
  const Json* found = object.find(key);
  return found == nullptr || found->is_null() ? nullptr : found;
}
Result<std::string> optional_string_at(const Json& object, std::string_view key, std::string_view where) {
  return optional_at(object, key) == nullptr ? std::string() : string_at(object, key, where);
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
  const Json* content = optional_at(message, "content");
  if (content == nullptr) return std::string();
  if (content->string() != nullptr) return *content->string();
  const std::vector<Json>* parts = content->array();
  if (parts == nullptr) {
    return fail(ErrorCode::invalid_argument, "{}.content: a string or an array of parts is expected, not {}", where,
                content->kind());
  }
  std::string text;
  for (std::size_t i = 0; i < parts->size(); ++i) {
    const std::string here = fmt::format("{}.content[{}]", where, i);
    const Json& part = (*parts)[i];
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
  const Json* found = optional_at(message, "tool_calls");
  if (found == nullptr) return calls;
  if (found->array() == nullptr) return fail(ErrorCode::invalid_argument, "{}.tool_calls: an array is expected", where);
  for (std::size_t i = 0; i < found->array()->size(); ++i) {
    const std::string here = fmt::format("{}.tool_calls[{}]", where, i);
    const Json& call = (*found->array())[i];
    const Json* function = call.find("function");
    if (function == nullptr || !function->is_object()) {
      return fail(ErrorCode::invalid_argument, "{}: an object with a \"function\" is expected", here);
    }
    ToolCall& out = calls.emplace_back();
    SIROCCO_TRY(out.id, optional_string_at(call, "id", here));
    SIROCCO_TRY(out.name, string_at(*function, "name", here + ".function"));
    SIROCCO_TRY(out.arguments, optional_string_at(*function, "arguments", here + ".function"));
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
  const Json* listed = document.find("messages");
  const std::vector<Json>* messages = listed == nullptr ? document.array() : listed->array();
  if (messages == nullptr) {
    return fail(ErrorCode::invalid_argument, "an array of messages or {{\"messages\": [...]}} is expected");
  }
  Conversation conversation;
  for (std::size_t i = 0; i < messages->size(); ++i) {
    SIROCCO_TRY(auto message, parse_message((*messages)[i], fmt::format("messages[{}]", i)));
    conversation.messages.push_back(std::move(message));
  }
  if (const Json* tools = optional_at(document, "tools")) {
    if (tools->array() == nullptr) return fail(ErrorCode::invalid_argument, "tools: an array is expected");
    if (!tools->array()->empty()) conversation.tools = python_json(*tools);
  }
  return conversation;
}

}  // namespace sirocco

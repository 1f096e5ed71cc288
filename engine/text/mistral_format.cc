#include "engine/text/mistral_format.h"

#include <algorithm>
#include <utility>

#include "engine/text/json_text.h"

namespace sirocco {
namespace {

constexpr std::string_view kParagraph = "\n\n";  // between what is joined

void join_text(std::string& text, std::string_view more) {
  if (!text.empty() && !more.empty()) text += kParagraph;
  text += more;
}

// The value that JSON text means, or the text itself where it is none; nothing at all is an empty object.
Json json_or_text(std::string_view text) {
  if (text.empty()) return Json::object();
  auto value = parse_json(text);
  return value ? *std::move(value) : Json(std::string(text));
}

bool is_alphanumeric(char c) {
  return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

// What may follow: mistral-common's table.
bool may_follow(Role previous, Role next) {
  switch (previous) {
    case Role::system:
      return next != Role::tool;
    case Role::user:
      return next != Role::tool;
    case Role::assistant:
      return next != Role::system;
    case Role::tool:
      return next != Role::system;
  }
  return false;
}

std::string_view role_name(Role role) {
  switch (role) {
    case Role::system:
      return "system";
    case Role::user:
      return "user";
    case Role::assistant:
      return "assistant";
    case Role::tool:
      return "tool";
  }
  return "";
}

}  // namespace

Result<std::shared_ptr<const ChatFormat>> MistralFormat::create(std::string_view name, MistralVersion version,
                                                                std::shared_ptr<const Tokenizer> tokenizer) {
  std::shared_ptr<MistralFormat> format(new MistralFormat(name, version, std::move(tokenizer)));
  SIROCCO_TRY(format->bos_, control_token(*format->tokenizer_, "<s>"));
  SIROCCO_TRY(format->eos_, control_token(*format->tokenizer_, "</s>"));
  return format;
}

Result<std::vector<TokenId>> MistralFormat::encode(std::span<const ChatMessage> messages,
                                                   std::string_view tools) const {
  SIROCCO_CHECK(check(messages));
  Prompt prompt;
  join(messages, prompt);
  SIROCCO_CHECK(read_tools(tools, prompt));
  prompt.ids.push_back(bos_);
  for (std::size_t i = 0; i < prompt.messages.size(); ++i) SIROCCO_CHECK(encode_message(i, prompt));
  return std::move(prompt.ids);
}

// ---- what the format allows

Result<void> MistralFormat::check_tool_name(std::string_view name, std::string_view where) const {
  const bool characters =
      std::all_of(name.begin(), name.end(), [](char c) { return is_alphanumeric(c) || c == '_' || c == '-'; });
  if (!characters || name.empty() || name.size() > 64) {
    return fail(ErrorCode::invalid_argument, "{}: the name \"{}\" must be 1 to 64 letters, digits, _ or -", where,
                name);
  }
  return {};
}

Result<void> MistralFormat::check_message(const ChatMessage& message, std::size_t index) const {
  const std::string where = fmt::format("messages[{}]", index);
  const bool uses_tools = message.role == Role::tool || !message.tool_calls.empty();
  if (uses_tools && version_ == MistralVersion::v1) {
    return fail(ErrorCode::unsupported, "{}: the format {} has no tools", where, name_);
  }
  if (message.role == Role::assistant && message.content.empty() && message.tool_calls.empty()) {
    return fail(ErrorCode::invalid_argument, "{}: an assistant's message needs content or tool calls", where);
  }
  if (!message.content.empty() && !message.tool_calls.empty() && version_ < MistralVersion::v7) {
    return fail(ErrorCode::invalid_argument, "{}: the format {} allows content or tool calls, not both", where, name_);
  }
  std::vector<std::string_view> ids;
  for (const ToolCall& call : message.tool_calls) {
    SIROCCO_CHECK(check_tool_name(call.name, where));
    ids.push_back(call.id);
  }
  if (message.role == Role::tool) {
    if (!message.name.empty()) SIROCCO_CHECK(check_tool_name(message.name, where));
    ids.push_back(message.tool_call_id);
  }
  for (const std::string_view id : ids) {
    const bool good = id.size() == 9 && std::all_of(id.begin(), id.end(), is_alphanumeric);
    if (!good && version_ >= MistralVersion::v3) {
      return fail(ErrorCode::invalid_argument, "{}: the tool call id \"{}\" must be 9 letters or digits", where, id);
    }
  }
  return {};
}

Result<void> MistralFormat::check(std::span<const ChatMessage> messages) const {
  if (messages.empty()) return fail(ErrorCode::invalid_argument, "messages: at least one is needed");
  std::ptrdiff_t open_calls = 0;
  for (std::size_t i = 0; i < messages.size(); ++i) {
    const Role role = messages[i].role;
    SIROCCO_CHECK(check_message(messages[i], i));
    if (i > 0 && !may_follow(messages[i - 1].role, role)) {
      return fail(ErrorCode::invalid_argument, "messages[{}]: {} after {} is not allowed in the format {}", i,
                  role_name(role), role_name(messages[i - 1].role), name_);
    }
    if (role == Role::assistant && open_calls != 0) {
      return fail(ErrorCode::invalid_argument, "messages[{}]: the tool calls before it need one result each", i);
    }
    if (role == Role::assistant) open_calls = static_cast<std::ptrdiff_t>(messages[i].tool_calls.size());
    if (role == Role::tool) --open_calls;
  }
  const Role last = messages.back().role;
  const bool alone = messages.size() == 1;
  if (last != Role::user && !(alone ? last == Role::system : last == Role::tool)) {
    return fail(ErrorCode::invalid_argument, "messages[{}]: the last message must be a user's or a tool's, not {}",
                messages.size() - 1, role_name(last));
  }
  if (open_calls != 0) {
    return fail(ErrorCode::invalid_argument, "messages[{}]: tool calls and results differ in number",
                messages.size() - 1);
  }
  return {};
}

// ---- one message for each change of role

void MistralFormat::join(std::span<const ChatMessage> messages, Prompt& prompt) const {
  std::optional<Role> previous;
  for (const ChatMessage& message : messages) {
    const bool same = previous == message.role;
    previous = message.role;
    if (message.role == Role::system && version_ < MistralVersion::v7) {
      join_text(prompt.system, message.content);
    } else if (same && (message.role == Role::user || message.role == Role::assistant)) {
      ChatMessage& last = prompt.messages.back();
      join_text(last.content, message.content);
      last.tool_calls.insert(last.tool_calls.end(), message.tool_calls.begin(), message.tool_calls.end());
    } else {
      prompt.messages.push_back(message);
    }
  }
  const bool needs_user = version_ < MistralVersion::v7;
  if (needs_user && (prompt.messages.empty() || prompt.messages.front().role != Role::user)) {
    prompt.messages.insert(prompt.messages.begin(), ChatMessage{});
  }
  bool found = false;
  for (std::size_t i = 0; i < prompt.messages.size(); ++i) {
    if (prompt.messages[i].role != Role::user) continue;
    if (!std::exchange(found, true)) prompt.first_user = i;
    prompt.last_user = i;
  }
}

// Each tool anew with the members the model knows, in their order.
Result<void> MistralFormat::read_tools(std::string_view tools, Prompt& prompt) const {
  if (tools.empty()) return {};
  if (version_ == MistralVersion::v1) return fail(ErrorCode::unsupported, "tools: the format {} has none", name_);
  const auto parsed = parse_json(tools);
  if (!parsed) return fail(parsed.error().at("tools"));
  if (!parsed->is_array()) return fail(ErrorCode::invalid_argument, "tools: an array is expected");
  Json out = Json::array();
  for (std::size_t i = 0; i < parsed->size(); ++i) {
    const Json& tool = (*parsed)[i];
    const std::string where = fmt::format("tools[{}]", i);
    const bool shaped = tool.is_object() && tool.contains("function") && tool["function"].is_object() &&
                        tool["function"].contains("name") && tool["function"]["name"].is_string();
    if (!shaped || tool.value("type", Json("function")) != "function") {
      return fail(ErrorCode::invalid_argument,
                  "{}: {{\"type\": \"function\", \"function\": {{\"name\": ..., ...}}}} is expected", where);
    }
    const Json& function = tool["function"];
    SIROCCO_CHECK(check_tool_name(function["name"].get_ref<const std::string&>(), where));
    const auto member = [&](const char* key, const Json& otherwise) {
      const auto found = function.find(key);
      return found == function.end() || found->is_null() ? otherwise : *found;
    };
    Json known = {{"type", "function"}};
    known["function"]["name"] = function["name"];
    known["function"]["description"] = member("description", "");
    known["function"]["parameters"] = member("parameters", Json::object());
    out.push_back(std::move(known));
  }
  if (!out.empty()) prompt.tools = python_json(out);
  return {};
}

// ---- ids

void MistralFormat::Prompt::text(const Tokenizer& tokenizer, std::string_view text) {
  const auto encoded = tokenizer.encode(text);
  ids.insert(ids.end(), encoded.begin(), encoded.end());
}

Result<void> MistralFormat::control(std::string_view token, Prompt& prompt) const {
  SIROCCO_TRY(const TokenId id, control_token(*tokenizer_, token));
  prompt.ids.push_back(id);
  return {};
}

Result<void> MistralFormat::encode_message(std::size_t index, Prompt& prompt) const {
  switch (prompt.messages[index].role) {
    case Role::user:
      return encode_user(index, prompt);
    case Role::assistant:
      return encode_assistant(index, prompt);
    case Role::tool:
      return encode_tool_result(index, prompt);
    case Role::system:
      break;  // v7 only: join() has taken the others
  }
  SIROCCO_CHECK(control("[SYSTEM_PROMPT]", prompt));
  prompt.text(*tokenizer_, prompt.messages[index].content);
  return control("[/SYSTEM_PROMPT]", prompt);
}

// The system prompt stands in the first user message in v1, in the last one in v2 and v3; tools before the last one.
Result<void> MistralFormat::encode_user(std::size_t index, Prompt& prompt) const {
  const bool v1 = version_ == MistralVersion::v1;
  std::string content = prompt.messages[index].content;
  if (index == (v1 ? prompt.first_user : prompt.last_user) && !prompt.system.empty()) {
    content = prompt.system + std::string(kParagraph) + content;
  }
  if (v1) {
    prompt.text(*tokenizer_, "[INST] " + content + " [/INST]");
    return {};
  }
  if (index == prompt.last_user && !prompt.tools.empty()) {
    SIROCCO_CHECK(control("[AVAILABLE_TOOLS]", prompt));
    prompt.text(*tokenizer_, prompt.tools);
    SIROCCO_CHECK(control("[/AVAILABLE_TOOLS]", prompt));
  }
  SIROCCO_CHECK(control("[INST]", prompt));
  prompt.text(*tokenizer_, content);
  return control("[/INST]", prompt);
}

std::string MistralFormat::tool_calls_json(const ChatMessage& message) const {
  Json calls = Json::array();
  for (const ToolCall& call : message.tool_calls) {
    Json one = {{"name", call.name}, {"arguments", json_or_text(call.arguments)}};
    if (version_ >= MistralVersion::v3) one["id"] = call.id;
    calls.push_back(std::move(one));
  }
  return python_json(calls);
}

Result<void> MistralFormat::encode_assistant(std::size_t index, Prompt& prompt) const {
  const ChatMessage& message = prompt.messages[index];
  // v2 forgets the calls and results of earlier turns.
  if (version_ == MistralVersion::v2 && !message.tool_calls.empty() && index < prompt.last_user) return {};
  if (!message.content.empty()) {
    std::string_view content = message.content;
    if (version_ != MistralVersion::v1) {
      content = content.substr(0, content.find_last_not_of(' ') + 1);
    }
    prompt.text(*tokenizer_, content);
  }
  if (!message.tool_calls.empty()) {
    SIROCCO_CHECK(control("[TOOL_CALLS]", prompt));
    prompt.text(*tokenizer_, tool_calls_json(message));
  }
  prompt.ids.push_back(eos_);
  return {};
}

Result<void> MistralFormat::encode_tool_result(std::size_t index, Prompt& prompt) const {
  const ChatMessage& message = prompt.messages[index];
  if (version_ == MistralVersion::v2 && index < prompt.last_user) return {};
  if (version_ == MistralVersion::v2 && prompt.messages[index - 1].role == Role::tool) {
    return fail(ErrorCode::unsupported, "messages: the format {} takes one tool result for each answer", name_);
  }
  SIROCCO_CHECK(control("[TOOL_RESULTS]", prompt));
  if (version_ == MistralVersion::v7) {
    prompt.text(*tokenizer_, message.tool_call_id);
    SIROCCO_CHECK(control("[TOOL_CONTENT]", prompt));
    prompt.text(*tokenizer_, message.content);
  } else if (version_ == MistralVersion::v3) {
    prompt.text(*tokenizer_,
                python_json({{"content", json_or_text(message.content)}, {"call_id", message.tool_call_id}}));
  } else {
    const Json name = message.name.empty() ? Json() : Json(message.name);
    prompt.text(*tokenizer_, python_json(Json::array({{{"name", name}, {"content", json_or_text(message.content)}}})));
  }
  return control("[/TOOL_RESULTS]", prompt);
}

}  // namespace sirocco

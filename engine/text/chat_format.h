// Conversations as token ids, never by rendering a string and tokenising it: what a user writes cannot become a control
// token. The file's own template (tokenizer.chat_template) decides which format is used; one that is not recognised is
// an error that names it. Immutable; any thread may call.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "engine/text/tokenizer.h"

namespace sirocco {

enum class Role : std::uint8_t { system, user, assistant, tool };

struct ToolCall {
  std::string id;  // as the client or the model named it, may be empty
  std::string name;
  std::string arguments;  // JSON text
};

struct ChatMessage {
  Role role = Role::user;
  std::string content;
  std::vector<ToolCall> tool_calls;  // of an assistant
  std::string tool_call_id;          // of a tool's answer
  std::string name;                  // of the tool that answers, may be empty; other roles' names are not used
};

class ChatFormat {
 public:
  // Recognises the template and the control tokens it needs. Errors: no template; one that is not recognised (the
  // message quotes its beginning and names the formats that are known).
  static Result<std::shared_ptr<const ChatFormat>> from_metadata(const GgufMetadata& metadata,
                                                                 std::shared_ptr<const Tokenizer> tokenizer);
  virtual ~ChatFormat() = default;

  // The prompt that lets the model answer the last message, BOS included where the format has one. `tools` is the
  // OpenAI "tools" array as JSON text, empty for none. Errors: roles in an order the format does not allow.
  virtual Result<std::vector<TokenId>> encode(std::span<const ChatMessage> messages,
                                              std::string_view tools = {}) const = 0;

  virtual std::string_view name() const = 0;  // "mistral-v3-tekken", "chatml", …

  // Tokens that end an answer, besides Tokenizer::is_end.
  virtual std::vector<TokenId> end_tokens() const = 0;
};

// The id of a control token by its written form. Errors: the vocabulary has none.
Result<TokenId> control_token(const Tokenizer& tokenizer, std::string_view token);

// {"messages": [...], "tools": [...]} or a bare array of messages, as the OpenAI API writes them.
struct Conversation {
  std::vector<ChatMessage> messages;
  std::string tools;  // JSON text or empty
};
Result<Conversation> parse_conversation(std::string_view json);

}  // namespace sirocco

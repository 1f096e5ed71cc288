// Mistral's instruct formats v1, v2, v3 and v7, token for token as mistral-common encodes them: consecutive messages of
// one role are joined, JSON is written anew, control tokens are ids between texts that are encoded one by one. (v1 has
// no control tokens: its [INST] is text.)
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "engine/text/chat_format.h"
#include "engine/text/json_text.h"

namespace sirocco {

enum class MistralVersion : std::uint8_t { v1 = 1, v2 = 2, v3 = 3, v7 = 7 };

class MistralFormat final : public ChatFormat {
 public:
  static Result<std::shared_ptr<const ChatFormat>> create(std::string_view name, MistralVersion version,
                                                          std::shared_ptr<const Tokenizer> tokenizer);

  Result<std::vector<TokenId>> encode(std::span<const ChatMessage> messages, std::string_view tools) const override;
  std::string_view name() const override { return name_; }
  std::vector<TokenId> end_tokens() const override { return {eos_}; }

 private:
  MistralFormat(std::string_view name, MistralVersion version, std::shared_ptr<const Tokenizer> tokenizer)
      : name_(name), version_(version), tokenizer_(std::move(tokenizer)) {}

  // One message encoded: what it is part of, and where the ids go.
  struct Prompt {
    std::vector<ChatMessage> messages;  // joined
    std::string system;                 // v1 to v3, where it is part of a user's message
    std::string tools;                  // JSON as the model sees it
    std::size_t first_user = 0;
    std::size_t last_user = 0;
    std::vector<TokenId> ids;

    void text(const Tokenizer& tokenizer, std::string_view text);
  };
  Result<void> check(std::span<const ChatMessage> messages) const;
  Result<void> check_message(const ChatMessage& message, std::size_t index) const;
  Result<void> check_tool_name(std::string_view name, std::string_view where) const;
  void join(std::span<const ChatMessage> messages, Prompt& prompt) const;
  Result<Json> read_tool(const Json& tool, std::string_view where) const;
  Result<void> read_tools(std::string_view tools, Prompt& prompt) const;
  Result<void> control(std::string_view token, Prompt& prompt) const;
  Result<void> encode_message(std::size_t index, Prompt& prompt) const;
  Result<void> encode_user(std::size_t index, Prompt& prompt) const;
  Result<void> encode_assistant(std::size_t index, Prompt& prompt) const;
  Result<void> encode_tool_result(std::size_t index, Prompt& prompt) const;
  Result<std::string> tool_calls_json(const ChatMessage& message) const;
  Result<std::string> tool_result_json(const ChatMessage& message) const;

  std::string name_;
  MistralVersion version_;
  std::shared_ptr<const Tokenizer> tokenizer_;
  TokenId bos_ = 0;
  TokenId eos_ = 0;
};

}  // namespace sirocco

// ChatML: <|im_start|>role, a line break, the text, <|im_end|> and a line break. SmolLM2, Qwen and many others.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "engine/text/chat_format.h"

namespace sirocco {

class ChatmlFormat final : public ChatFormat {
 public:
  // The control tokens are there; details (a system prompt where the client gives none, whether BOS comes first,
  // whether the thoughts of earlier answers are left out) are read from the template.
  static Result<std::shared_ptr<const ChatFormat>> create(std::string_view chat_template,
                                                          std::shared_ptr<const Tokenizer> tokenizer);

  Result<std::vector<TokenId>> encode(std::span<const ChatMessage> messages, std::string_view tools) const override;
  std::string_view name() const override { return "chatml"; }
  std::vector<TokenId> end_tokens() const override { return {end_}; }

 private:
  ChatmlFormat(std::string_view chat_template, std::shared_ptr<const Tokenizer> tokenizer, TokenId start, TokenId end);
  void append(std::string_view role, std::string_view content, std::vector<TokenId>& ids) const;

  std::shared_ptr<const Tokenizer> tokenizer_;
  TokenId start_;
  TokenId end_;
  std::string default_system_;  // empty: none
  bool begins_with_bos_;
  bool leaves_out_thoughts_;
};

}  // namespace sirocco

// ChatML: <|im_start|>role, a line break, the text, <|im_end|> and a line break. SmolLM2, Qwen and many others, each
// with a template of its own that does a little more or less.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "engine/text/chat_format.h"

namespace sirocco {

class ChatmlFormat final : public ChatFormat {
 public:
  // Runs the template on a few short conversations to learn what it does: a system prompt where the client gives none,
  // BOS, the beginning of the answer (<think>), what it leaves out of earlier answers, which order of roles it takes.
  // Errors: it writes something else than ChatML, or does what is not known here (the message says what).
  static Result<std::shared_ptr<const ChatFormat>> create(std::string_view chat_template, std::string_view eos_token,
                                                          std::shared_ptr<const Tokenizer> tokenizer);

  // Errors: tools, and an order of roles of which the template makes something else.
  Result<std::vector<TokenId>> encode(std::span<const ChatMessage> messages, std::string_view tools) const override;
  std::string_view name() const override { return "chatml"; }
  std::vector<TokenId> end_tokens() const override { return {end_}; }

 private:
  ChatmlFormat(std::shared_ptr<const Tokenizer> tokenizer, TokenId start, TokenId end)
      : tokenizer_(std::move(tokenizer)), start_(start), end_(end) {}

  // A token that the format writes, or text between two of them; in text of the template's own, control tokens are
  // some.
  struct Part {
    std::optional<TokenId> token;
    std::string text;
    bool own = false;
  };
  std::vector<Part> parts(std::span<const ChatMessage> messages) const;
  std::string text(std::span<const ChatMessage> messages) const;  // the parts as a template writes them

  // What the template makes of messages.
  using Template = std::function<Result<std::string>(std::span<const ChatMessage>)>;
  Result<void> learn(const Template& rendered);
  Result<void> learn_beginning_and_end(const Template& rendered);
  Result<void> learn_earlier_answers(const Template& rendered);
  void learn_order(const Template& rendered);

  // Of earlier answers: all, what follows </think>, or that also without line breaks in front where nothing was
  // thought.
  enum class Answers : std::uint8_t { whole, without_thoughts, without_thoughts_and_line_breaks };
  std::string_view kept_of(std::string_view answer) const;

  std::shared_ptr<const Tokenizer> tokenizer_;
  TokenId start_;
  TokenId end_;
  bool begins_with_bos_ = false;
  std::string default_system_;  // empty: none
  std::string opening_;         // of the answer, after "assistant\n"
  Answers answers_ = Answers::whole;
  // By role; instead of tools, the border of the conversation: which may follow which.
  std::array<std::array<bool, 4>, 4> may_follow_{};
};

}  // namespace sirocco

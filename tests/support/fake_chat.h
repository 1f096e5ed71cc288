// A chat format for the fake engine's letters: each message is a capital for its role, its text, and an F; the prompt
// ends with the capital of the assistant.
#pragma once

#include "tests/support/fake_engine.h"

namespace sirocco::test {

class FakeChat final : public ChatFormat {
 public:
  Result<std::vector<TokenId>> encode(std::span<const ChatMessage> messages, std::string_view tools) const override {
    std::string text(tools);
    for (const ChatMessage& message : messages) text += capital(message.role) + message.content + "F";
    return FakeTokenizer().encode(text + capital(Role::assistant), false);
  }
  std::string_view name() const override { return "fake"; }
  std::vector<TokenId> end_tokens() const override { return {}; }

 private:
  static std::string capital(Role role) { return {static_cast<char>('A' + static_cast<int>(role))}; }
};

inline ChatMessage message(Role role, std::string content) {
  ChatMessage one;
  one.role = role;
  one.content = std::move(content);
  return one;
}

}  // namespace sirocco::test

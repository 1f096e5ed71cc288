// What is shown of an answer: where its text begins and ends.
#include <gtest/gtest.h>

#include "tests/support/fake_engine.h"

namespace sirocco {
namespace {

using test::FakeEngine;

// As sentencepiece: each word has its space in front, and decoding drops the first one of a text.
class SpacedTokenizer final : public Tokenizer {
 public:
  SpacedTokenizer() {
    const test::FakeTokenizer letters;
    for (std::size_t i = 0; i < letters.vocabulary_size(); ++i) {
      const auto id = static_cast<TokenId>(i);
      tokens_.push_back(" " + std::string(letters.token(id)));
      kinds_.push_back(letters.token_kind(id));
    }
    ends_ = {test::kEnd};
  }
  std::vector<TokenId> encode(std::string_view text, bool special) const override {
    return test::FakeTokenizer().encode(text, special);
  }
  std::string_view piece(TokenId id, bool) const override { return id == test::kEnd ? "" : token(id); }
  bool strips_leading_space() const override { return true; }
  std::string_view kind() const override { return "spaced"; }
};

class FirstMessage final : public ChatFormat {
 public:
  Result<std::vector<TokenId>> encode(std::span<const ChatMessage> messages, std::string_view) const override {
    return test::FakeTokenizer().encode(messages.front().content, false);
  }
  std::string_view name() const override { return "first"; }
  std::vector<TokenId> end_tokens() const override { return {}; }
};

std::string answer_to(Prompt prompt) {
  FakeEngine fake([](EngineParts& parts) {
    parts.tokenizer = std::make_shared<SpacedTokenizer>();
    parts.chat = std::make_shared<FirstMessage>();
  });
  GenerateRequest request;
  request.prompt = std::move(prompt);
  request.max_tokens = 2;
  return fake.events.wait(fake.engine->submit(request).value().id).text;
}

TEST(AnswerText, OfARawPromptGoesOnWithItsTextAndOfAConversationBegins) {
  EXPECT_EQ(answer_to(TextPrompt{.text = "a"}), " d z");
  EXPECT_EQ(answer_to(std::vector<TokenId>{0}), " d z");
  EXPECT_EQ(answer_to(std::vector<TokenId>{test::kEnd}), "r A");  // a control token is no text to go on with
  Conversation conversation;
  conversation.messages.emplace_back().content = "a";
  EXPECT_EQ(answer_to(conversation), "d z");
}

// The ids of all tokens have been sent, so their text must be too: a stop string that may still come holds it back.
TEST(AnswerText, HeldBackForAStopStringIsShownWhenTheRequestIsCancelled) {
  FakeEngine fake;
  test::Gate gate;
  fake.backend->before = [&](const Step&) -> Result<void> {
    gate.pass();
    return {};
  };
  GenerateRequest request;
  request.prompt = TextPrompt{.text = "a"};
  request.max_tokens = 20;
  request.stops = {"dzsb never"};
  const RequestId id = fake.engine->submit(request).value().id;
  gate.let_through(3);
  gate.wait_for_arrivals(4);
  EXPECT_EQ(fake.events.now(id).text, "");
  fake.engine->cancel(id);
  gate.open();
  const auto answer = fake.events.wait(id);
  ASSERT_TRUE(answer.done);
  EXPECT_EQ(answer.done->reason, FinishReason::cancelled);
  EXPECT_EQ(answer.ids.size(), 4U);
  EXPECT_EQ(answer.text, "dzsb");
}

}  // namespace
}  // namespace sirocco

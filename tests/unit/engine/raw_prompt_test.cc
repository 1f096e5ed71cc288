#include <gtest/gtest.h>

#include "tests/support/fake_engine.h"

namespace sirocco {
namespace {

class BeginsWithA final : public Tokenizer {
 public:
  BeginsWithA() {
    const test::FakeTokenizer letters;
    for (std::size_t i = 0; i < letters.vocabulary_size(); ++i) {
      tokens_.emplace_back(letters.token(static_cast<TokenId>(i)));
      kinds_.push_back(letters.token_kind(static_cast<TokenId>(i)));
    }
    bos_ = 0;
    add_bos_ = true;
  }
  // "!" is how the control token 0 is written.
  std::vector<TokenId> encode(std::string_view text, bool special) const override {
    std::vector<TokenId> ids;
    for (const char c : text) ids.push_back(c == '!' ? (special ? 0 : 31) : c - 'a');
    return ids;
  }
  std::string_view piece(TokenId id, bool) const override { return token(id); }
  bool strips_leading_space() const override { return false; }
  std::string_view kind() const override { return "begins with a"; }
};

TEST(RawPrompt, BeginsWithOneBosAndControlTokensAreTextUnlessSpecial) {
  test::FakeEngine fake([](EngineParts& parts) { parts.tokenizer = std::make_shared<BeginsWithA>(); });
  const auto ids = [&](std::string text, bool special) {
    return fake.engine->tokenize(TextPrompt{.text = std::move(text), .special = special}).value();
  };
  using Ids = std::vector<TokenId>;
  EXPECT_EQ(ids("bc", false), (Ids{0, 1, 2}));
  EXPECT_EQ(ids("!bc", false), (Ids{0, 31, 1, 2}));
  EXPECT_EQ(ids("!bc", true), (Ids{0, 1, 2}));
  EXPECT_EQ(ids("b!c", true), (Ids{0, 1, 0, 2}));
  EXPECT_EQ(ids("", false), Ids{0});
}

}  // namespace
}  // namespace sirocco

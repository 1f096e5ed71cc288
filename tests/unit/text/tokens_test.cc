// Every text of tests/golden/text, tokenised as the models' own references do: mistral-common (sentencepiece and
// tiktoken) and the tokenizers package.
#include <gtest/gtest.h>

#include "tests/support/models.h"
#include "tests/unit/text/vocabularies.h"

namespace sirocco {
namespace {

void expect_tokens(const std::string& name, bool special) {
  const auto tokenizer = test::vocabulary(name);
  const auto expected =
      test::golden("tokens.json").at(name + (special ? "/special" : "")).get<std::vector<std::vector<TokenId>>>();
  ASSERT_EQ(expected.size(), test::texts().size());
  for (std::size_t i = 0; i < expected.size(); ++i) {
    EXPECT_EQ(tokenizer->encode(test::texts()[i], special), expected[i]) << "text " << i << ": " << test::texts()[i];
  }
}

class TinyTokens : public testing::TestWithParam<const char*> {};
INSTANTIATE_TEST_SUITE_P(Vocabularies, TinyTokens,
                         testing::Values("tiny-gpt-2", "tiny-smollm", "tiny-llama-bpe", "tiny-qwen2"));

TEST(Tokens, OfSentencepieceEqualMistralCommon) {
  expect_tokens("mistral-v7", false);
}
TEST(Tokens, OfTekkenEqualMistralCommon) {
  expect_tokens("tekken-20k", false);
}
TEST_P(TinyTokens, EqualTheTokenizersPackage) {
  expect_tokens(GetParam(), false);
}
TEST_P(TinyTokens, WithSpecialOnesEqualTheTokenizersPackage) {
  expect_tokens(GetParam(), true);
}
TEST(Tokens, OfTheDemoModelEqualTransformers) {
  SIROCCO_NEEDS_DEMO_MODEL();
  expect_tokens("smollm2", false);
  expect_tokens("smollm2", true);
}

}  // namespace
}  // namespace sirocco

#include "engine/text/pre_tokenizer.h"

#include <gtest/gtest.h>

#include "tests/unit/text/vocabularies.h"

namespace sirocco {
namespace {

std::vector<std::size_t> piece_lengths(std::string_view name, std::string_view text) {
  const auto rules = pre_tokenizer_rules(name, false);
  EXPECT_TRUE(rules.has_value());
  const auto pre_tokenizer = PreTokenizer::create(rules->pattern);
  EXPECT_TRUE(pre_tokenizer.has_value());
  std::vector<std::size_t> lengths;
  std::string together;
  pre_tokenizer->split(text, [&](std::string_view piece) {
    lengths.push_back(piece.size());
    together.append(piece);
  });
  EXPECT_EQ(together, text);
  return lengths;
}

class Split : public testing::TestWithParam<const char*> {};
INSTANTIATE_TEST_SUITE_P(Names, Split, testing::Values("gpt-2", "smollm", "llama-bpe", "qwen2", "tekken"));

TEST_P(Split, EqualsTheTokenizersPackage) {
  const auto expected = test::golden("splits.json").at(GetParam()).get<std::vector<std::vector<std::size_t>>>();
  ASSERT_EQ(expected.size(), test::texts().size());
  for (std::size_t i = 0; i < expected.size(); ++i) {
    EXPECT_EQ(piece_lengths(GetParam(), test::texts()[i]), expected[i]) << "text " << i << ": " << test::texts()[i];
  }
}

// PCRE2's usual limits stop after ten million steps: a text of one long run needs more.
TEST_P(Split, HasNoLimitOnTheLengthOfARun) {
  constexpr std::size_t length = 12'000'000;
  const std::string_view name = GetParam();
  EXPECT_EQ(piece_lengths(name, std::string(length, 'A')), std::vector<std::size_t>{length});
  EXPECT_EQ(piece_lengths(name, std::string(length, '!')), std::vector<std::size_t>{length});
  EXPECT_EQ(piece_lengths(name, std::string(length, ' ') + "!"), (std::vector<std::size_t>{length - 1, 2}));
}

TEST(PreTokenizerRules, MistralsControlTokensMeanTekkenWhateverTheFileSays) {
  EXPECT_EQ(pre_tokenizer_rules("pixtral", true)->name, "tekken");
  EXPECT_EQ(pre_tokenizer_rules("default", true)->name, "tekken");
  EXPECT_EQ(pre_tokenizer_rules("", true)->name, "tekken");
}

TEST(PreTokenizerRules, NoNameIsAnErrorAndNotAGuess) {
  const std::string told =
      ", so how the model's tokenizer cuts a text cannot be told; convert the model again (known: gpt-2, smollm, "
      "llama-bpe, qwen2, tekken)";
  EXPECT_EQ(pre_tokenizer_rules("", false).error().message(), "tokenizer.ggml.pre: missing" + told);
  EXPECT_EQ(pre_tokenizer_rules("default", false).error().message(), "tokenizer.ggml.pre: \"default\"" + told);
}

TEST(PreTokenizerRules, AnUnknownNameIsAnErrorThatNamesItAndTheKnownOnes) {
  const auto rules = pre_tokenizer_rules("pixtral", false);
  ASSERT_FALSE(rules);
  EXPECT_EQ(rules.error().message(),
            "tokenizer.ggml.pre: \"pixtral\" is not known (known: gpt-2, smollm, llama-bpe, qwen2, tekken)");
}

}  // namespace
}  // namespace sirocco

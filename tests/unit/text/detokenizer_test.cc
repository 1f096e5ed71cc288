#include "engine/text/detokenizer.h"

#include <gtest/gtest.h>
#include <rapidcheck.h>

#include "engine/base/utf8.h"
#include "tests/unit/text/vocabularies.h"

namespace sirocco {
namespace {

const std::vector<const char*> kVocabularies = {"mistral-v7", "tekken-20k", "tiny-smollm", "tiny-qwen2"};

// The bytes of one character in tokens of their own.
std::vector<TokenId> byte_by_byte(const Tokenizer& tokenizer, std::string_view bytes) {
  std::vector<TokenId> ids;
  for (const char byte : bytes) {
    for (TokenId id = 0; id < static_cast<TokenId>(tokenizer.vocabulary_size()); ++id) {
      const bool its_own = tokenizer.token_kind(id) == TokenKind::byte || tokenizer.strips_leading_space() == false;
      if (its_own && tokenizer.piece(id) == std::string_view(&byte, 1)) {
        ids.push_back(id);
        break;
      }
    }
  }
  return ids;
}

TEST(Detokenizer, HoldsACharacterBackUntilItIsWhole) {
  for (const char* name : kVocabularies) {
    const auto tokenizer = test::vocabulary(name);
    const auto ids = byte_by_byte(*tokenizer, "👋é");
    ASSERT_EQ(ids.size(), 6U) << name;
    Detokenizer detokenizer(tokenizer);
    EXPECT_EQ(detokenizer.push(ids[0]), "");
    EXPECT_EQ(detokenizer.push(ids[1]), "");
    EXPECT_EQ(detokenizer.push(ids[2]), "");
    EXPECT_EQ(detokenizer.push(ids[3]), "👋");
    EXPECT_EQ(detokenizer.push(ids[4]), "");
    EXPECT_EQ(detokenizer.push(ids[5]), "é");
    EXPECT_EQ(detokenizer.flush(), "");
  }
}

TEST(Detokenizer, WhatCannotBecomeACharacterIsReplacedAtOnceAndTheRestAtTheEnd) {
  const auto tokenizer = test::vocabulary("mistral-v7");
  const auto ids = byte_by_byte(*tokenizer, "\xF0\x9F\xE4\xBD");
  Detokenizer detokenizer(tokenizer);
  EXPECT_EQ(detokenizer.push(ids[0]), "");
  EXPECT_EQ(detokenizer.push(ids[1]), "");
  EXPECT_EQ(detokenizer.push(ids[2]), kReplacementCharacter);
  EXPECT_EQ(detokenizer.push(ids[3]), "");
  EXPECT_EQ(detokenizer.flush(), kReplacementCharacter);
  EXPECT_EQ(detokenizer.flush(), "");
}

TEST(Detokenizer, OnlyTheFirstSpaceOfSentencepieceIsDropped) {
  const auto tokenizer = test::vocabulary("mistral-v7");
  const TokenId hello = tokenizer->find("▁Hello").value();
  Detokenizer detokenizer(tokenizer);
  EXPECT_EQ(detokenizer.push(1), "");  // <s> writes nothing and is not the beginning
  EXPECT_EQ(detokenizer.push(hello), "Hello");
  EXPECT_EQ(detokenizer.push(hello), " Hello");
  EXPECT_EQ(tokenizer->decode({hello, hello}), "Hello Hello");
  EXPECT_EQ(tokenizer->decode({tokenizer->find("<0x20>").value(), hello}), "  Hello");
}

// "Once upon" + " a time" in two parts: the space between them is the text's own.
TEST(Detokenizer, OfAContinuationTheFirstSpaceStays) {
  const auto tokenizer = test::vocabulary("mistral-v7");
  const auto ids = tokenizer->encode("Once upon a time");
  Detokenizer first(tokenizer);
  Detokenizer rest(tokenizer, {.continues = true});
  std::string text;
  for (std::size_t i = 0; i < ids.size(); ++i) text += i < 2 ? first.push(ids[i]) : rest.push(ids[i]);
  EXPECT_EQ(text, "Once upon a time");
  EXPECT_EQ(text, tokenizer->decode(ids));
}

TEST(Detokenizer, ControlTokensAreWrittenOnlyWhenAskedFor) {
  const auto tokenizer = test::vocabulary("tiny-smollm");
  const TokenId end = tokenizer->find("<|im_end|>").value();
  EXPECT_EQ(Detokenizer(tokenizer).push(end), "");
  EXPECT_EQ(Detokenizer(tokenizer, {.special = true}).push(end), "<|im_end|>");
}

TEST(Detokenizer, PushingEverythingAndFlushingIsDecoding) {
  for (const char* name : kVocabularies) {
    const auto tokenizer = test::vocabulary(name);
    const auto size = static_cast<TokenId>(tokenizer->vocabulary_size());
    // Small ids are the bytes and controls, where the difficulties are.
    const auto id = rc::gen::oneOf(rc::gen::inRange<TokenId>(0, size), rc::gen::inRange<TokenId>(0, size / 16));
    const bool holds = rc::check(name, [&] {
      const auto ids = *rc::gen::container<std::vector<TokenId>>(id);
      const bool special = *rc::gen::arbitrary<bool>();
      Detokenizer detokenizer(tokenizer, {.special = special});
      std::string text;
      for (const TokenId one : ids) {
        const std::string piece = detokenizer.push(one);
        RC_ASSERT(utf8_valid_prefix(piece) == piece.size());
        text += piece;
      }
      RC_ASSERT(text + detokenizer.flush() == tokenizer->decode(ids, special));
    });
    EXPECT_TRUE(holds) << name;
  }
}

}  // namespace
}  // namespace sirocco

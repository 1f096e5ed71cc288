// Byte-level byte-pair encoding: GPT-2's scheme, as SmolLM, Llama 3, Qwen and Mistral's Tekken use it, each with its
// own pre-tokeniser. Built from a GGUF file whose tokenizer.ggml.model is "gpt2".
#pragma once

#include <array>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "engine/text/bpe_merges.h"
#include "engine/text/literal_matcher.h"
#include "engine/text/pre_tokenizer.h"
#include "engine/text/tokenizer.h"
#include "engine/text/vocabulary.h"

namespace sirocco {

class BpeTokenizer final : public Tokenizer {
 public:
  static Result<std::shared_ptr<const Tokenizer>> create(const GgufMetadata& metadata, Vocabulary vocabulary);

  // User-defined tokens in the text are always themselves, as in the tokenizers package; control tokens only if
  // `special`. A byte that the vocabulary has no token for is dropped, as both tokenizers and llama.cpp do (SmolLM2
  // lacks U+0004 and a few more).
  std::vector<TokenId> encode(std::string_view text, bool special) const override;
  std::string_view piece(TokenId id, bool special) const override;
  bool strips_leading_space() const override { return false; }
  std::string_view kind() const override { return kind_; }

 private:
  explicit BpeTokenizer(Vocabulary vocabulary) : Tokenizer(std::move(vocabulary)) {}
  Result<void> build(const GgufMetadata& metadata, const PreTokenizerRules& rules);
  void encode_text(std::string_view text, std::vector<TokenId>& ids) const;
  void encode_piece(std::string_view piece, std::vector<TokenId>& ids, std::vector<TokenId>& merged,
                    BpeMerges::Scratch& scratch) const;

  std::string kind_;
  bool compose_ = false;
  bool whole_pieces_ = false;
  std::vector<std::string> bytes_;          // what each token decodes to, control tokens as they are written
  TokenIndex by_bytes_;                     // normal tokens; views into bytes_
  std::array<TokenId, 256> byte_tokens_{};  // -1: the vocabulary has none
  BpeMerges merges_;
  std::unique_ptr<const PreTokenizer> pre_tokenizer_;
  LiteralMatcher user_defined_;
  LiteralMatcher user_defined_and_control_;
};

}  // namespace sirocco

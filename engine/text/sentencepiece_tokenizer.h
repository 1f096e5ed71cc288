// Sentencepiece's BPE through its own library, the model rebuilt from the GGUF file (tokenizer.ggml.model "llama"):
// Llama 2, Mistral v1 to v7, Mixtral.
#pragma once

#include <array>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "engine/text/literal_matcher.h"
#include "engine/text/tokenizer.h"
#include "engine/text/vocabulary.h"

namespace sentencepiece {
class SentencePieceProcessor;
}

namespace sirocco {

class SentencepieceTokenizer final : public Tokenizer {
 public:
  static Result<std::shared_ptr<const Tokenizer>> create(const GgufMetadata& metadata, Vocabulary vocabulary);
  ~SentencepieceTokenizer() override;

  // The library finds user-defined tokens in the text by itself. With `special`, what lies between two control tokens
  // is encoded as a text of its own (with the space in front), which is what mistral-common does with each chunk.
  std::vector<TokenId> encode(std::string_view text, bool special) const override;
  std::string_view piece(TokenId id, bool special) const override;
  bool strips_leading_space() const override { return add_space_prefix_; }
  std::string_view kind() const override { return "sentencepiece"; }

 private:
  explicit SentencepieceTokenizer(Vocabulary vocabulary);
  void encode_text(std::string_view text, std::vector<TokenId>& ids) const;
  void encode_valid(std::string_view text, std::vector<TokenId>& ids) const;

  std::unique_ptr<sentencepiece::SentencePieceProcessor> processor_;
  bool add_space_prefix_ = true;
  bool words_are_apart_ = true;             // no token reaches from a word over the space after it
  std::vector<std::string> bytes_;          // what each token decodes to, control tokens as they are written
  std::array<TokenId, 256> byte_tokens_{};  // the unknown token where the vocabulary has none
  LiteralMatcher control_;
};

}  // namespace sirocco

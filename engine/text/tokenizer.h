// Text to token ids and back, from what a GGUF file says of its vocabulary (tokenizer.ggml.*): sentencepiece through
// its library, byte-pair encoding with PCRE2 pre-tokenisers. Immutable; any thread may call.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "engine/base/ids.h"
#include "engine/base/result.h"
#include "engine/gguf/gguf_file.h"

namespace sirocco {

// What the file says of one token (tokenizer.ggml.token_type).
enum class TokenKind : std::uint8_t { normal = 1, unknown = 2, control = 3, user_defined = 4, unused = 5, byte = 6 };

struct Vocabulary;
class LiteralMatcher;

class Tokenizer {
 public:
  // Chooses by tokenizer.ggml.model ("llama": sentencepiece, "gpt2": BPE) and .pre. An unknown one is an error that
  // names it.
  static Result<std::shared_ptr<const Tokenizer>> from_metadata(const GgufMetadata& metadata);

  virtual ~Tokenizer() = default;

  // Ids of `text`, exactly as the model's reference tokeniser does it; no BOS is added. Control tokens that appear in
  // the text are plain text unless `special`. Invalid UTF-8 is encoded byte by byte and never an error.
  virtual std::vector<TokenId> encode(std::string_view text, bool special = false) const = 0;

  // The bytes a token stands for when decoded in the middle of a text. Empty for control tokens unless `special`, in
  // which case their written form ("<|im_end|>").
  virtual std::string_view piece(TokenId id, bool special = false) const = 0;

  // True if the decoder drops the space that this tokeniser puts in front of a text (sentencepiece).
  virtual bool strips_leading_space() const = 0;

  virtual std::string_view kind() const = 0;  // "sentencepiece", "bpe/smollm": for status and inspect

  std::size_t vocabulary_size() const { return tokens_.size(); }
  std::string_view token(TokenId id) const {
    return tokens_.at(static_cast<std::size_t>(id));
  }  // as written in the file
  TokenKind token_kind(TokenId id) const { return kinds_.at(static_cast<std::size_t>(id)); }
  std::optional<TokenId> find(std::string_view token) const;  // by its written form
  std::optional<TokenId> bos() const { return bos_; }
  bool add_bos() const { return add_bos_; }
  bool is_end(TokenId id) const;  // eos, eot and the like: generation ends here

  // True if `piece` of `id`, at the beginning of a text, is decoded without the space it begins with.
  bool piece_loses_space(TokenId id, std::string_view piece) const;

  // All of it at once; what is not UTF-8 becomes U+FFFD. For tests and the CLI.
  std::string decode(const std::vector<TokenId>& ids, bool special = false) const;

 protected:
  Tokenizer() = default;
  explicit Tokenizer(Vocabulary vocabulary);
  LiteralMatcher literals(std::initializer_list<TokenKind> kinds) const;  // the written forms of tokens of these kinds

  std::vector<std::string> tokens_;
  std::vector<TokenKind> kinds_;
  std::optional<TokenId> bos_;
  std::vector<TokenId> ends_;  // sorted
  bool add_bos_ = false;

 private:
  std::unordered_map<std::string_view, TokenId> by_text_;  // views into tokens_; the first of equal ones
};

}  // namespace sirocco

#include "engine/text/tokenizer.h"

#include <algorithm>

#include "engine/base/printable.h"
#include "engine/base/utf8.h"
#include "engine/text/bpe_tokenizer.h"
#include "engine/text/literal_matcher.h"
#include "engine/text/sentencepiece_tokenizer.h"
#include "engine/text/vocabulary.h"

namespace sirocco {

Result<std::shared_ptr<const Tokenizer>> Tokenizer::from_metadata(const GgufMetadata& metadata) {
  SIROCCO_TRY(const std::string model, metadata.string("tokenizer.ggml.model"));
  SIROCCO_TRY(Vocabulary vocabulary, read_vocabulary(metadata));
  if (model == "llama") return SentencepieceTokenizer::create(metadata, std::move(vocabulary));
  if (model == "gpt2") return BpeTokenizer::create(metadata, std::move(vocabulary));
  return fail(
      ErrorCode::unsupported,
      "tokenizer.ggml.model: \"{}\" is not known (known: llama, which is sentencepiece, and gpt2, which is BPE)",
      printable(model));
}

Tokenizer::Tokenizer(Vocabulary vocabulary)
    : tokens_(std::move(vocabulary.tokens)),
      kinds_(std::move(vocabulary.kinds)),
      bos_(vocabulary.bos),
      ends_(std::move(vocabulary.ends)),
      add_bos_(vocabulary.add_bos.value_or(false)) {
  by_text_.reserve(tokens_.size());
  for (std::size_t i = 0; i < tokens_.size(); ++i) by_text_.emplace(tokens_[i], static_cast<TokenId>(i));
}

LiteralMatcher Tokenizer::literals(std::initializer_list<TokenKind> wanted) const {
  std::vector<std::pair<std::string, TokenId>> found;
  for (std::size_t i = 0; i < tokens_.size(); ++i) {
    if (std::find(wanted.begin(), wanted.end(), kinds_[i]) == wanted.end()) continue;
    found.emplace_back(tokens_[i], static_cast<TokenId>(i));
  }
  return LiteralMatcher(std::move(found));
}

std::optional<TokenId> Tokenizer::find(std::string_view token) const {
  const auto found = by_text_.find(token);
  return found == by_text_.end() ? std::nullopt : std::optional(found->second);
}

bool Tokenizer::is_end(TokenId id) const {
  return std::binary_search(ends_.begin(), ends_.end(), id);
}

bool Tokenizer::piece_loses_space(TokenId id, std::string_view piece) const {
  return strips_leading_space() && piece.starts_with(' ') && token_kind(id) != TokenKind::byte &&
         token_kind(id) != TokenKind::unknown;
}

std::string Tokenizer::decode(const std::vector<TokenId>& ids, bool special) const {
  std::string bytes;
  bool at_start = true;
  for (const TokenId id : ids) {
    std::string_view text = piece(id, special);
    if (text.empty()) continue;
    if (at_start && piece_loses_space(id, text)) text.remove_prefix(1);
    at_start = false;
    bytes.append(text);
  }
  return utf8_replace_invalid(bytes);
}

}  // namespace sirocco

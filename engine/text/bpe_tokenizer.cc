#include "engine/text/bpe_tokenizer.h"

#include "engine/base/utf8.h"
#include "engine/text/byte_alphabet.h"
#include "engine/text/normal_form.h"

namespace sirocco {
namespace {

bool is_ascii(std::string_view text) {
  for (const char c : text) {
    if (static_cast<unsigned char>(c) >= 0x80) return false;
  }
  return true;
}

}  // namespace

Result<std::shared_ptr<const Tokenizer>> BpeTokenizer::create(const GgufMetadata& metadata, Vocabulary vocabulary) {
  std::string pre;
  if (metadata.contains("tokenizer.ggml.pre")) {
    SIROCCO_TRY(pre, metadata.string("tokenizer.ggml.pre"));
  }
  const bool mistral =
      vocabulary.has_control("[INST]") && vocabulary.has_control("[/INST]") && vocabulary.has_control("[TOOL_CALLS]");
  SIROCCO_TRY(const PreTokenizerRules rules, pre_tokenizer_rules(pre, mistral));
  if (!vocabulary.add_bos) vocabulary.add_bos = rules.add_bos_default;

  std::shared_ptr<BpeTokenizer> tokenizer(new BpeTokenizer(std::move(vocabulary)));
  SIROCCO_CHECK(tokenizer->build(metadata, rules));
  return tokenizer;
}

Result<void> BpeTokenizer::build(const GgufMetadata& metadata, const PreTokenizerRules& rules) {
  kind_ = fmt::format("bpe/{}", rules.name);
  compose_ = rules.compose;
  whole_pieces_ = rules.whole_pieces;

  TokenIndex by_text;  // what bytes and merges may be, as the file writes it
  bytes_.reserve(tokens_.size());
  for (std::size_t i = 0; i < tokens_.size(); ++i) {
    const bool normal = kinds_[i] == TokenKind::normal;
    if (normal) by_text.emplace(tokens_[i], static_cast<TokenId>(i));
    // A normal token with characters outside the alphabet stands for itself: the decoder of tokenizers does so.
    auto bytes = normal ? bytes_of_characters(tokens_[i]) : std::nullopt;
    bytes_.push_back(bytes ? *std::move(bytes) : tokens_[i]);
  }
  for (std::size_t i = 0; i < tokens_.size(); ++i) {
    if (kinds_[i] == TokenKind::normal) by_bytes_.emplace(bytes_[i], static_cast<TokenId>(i));
    // A token of the model that was added a second time by its name.
    if (kinds_[i] == TokenKind::user_defined) by_text.emplace(tokens_[i], static_cast<TokenId>(i));
  }
  for (std::size_t byte = 0; byte < byte_tokens_.size(); ++byte) {
    const auto found = by_text.find(byte_character(static_cast<unsigned char>(byte)));
    byte_tokens_[byte] = found == by_text.end() ? -1 : found->second;
  }

  if (rules.ranked_by_id) {
    SIROCCO_TRY(merges_, BpeMerges::from_ids(bytes_, by_bytes_));
  } else {
    SIROCCO_TRY(const auto list, metadata.strings("tokenizer.ggml.merges"));
    SIROCCO_TRY(merges_, BpeMerges::from_list(list, by_text));
  }
  SIROCCO_TRY(auto pre_tokenizer, PreTokenizer::create(rules.pattern));
  pre_tokenizer_ = std::make_unique<const PreTokenizer>(std::move(pre_tokenizer));
  user_defined_ = literals({TokenKind::user_defined});
  user_defined_and_control_ = literals({TokenKind::user_defined, TokenKind::control, TokenKind::unknown});
  return {};
}

std::vector<TokenId> BpeTokenizer::encode(std::string_view text, bool special) const {
  std::vector<TokenId> ids;
  const LiteralMatcher& matcher = special ? user_defined_and_control_ : user_defined_;
  matcher.split(
      text, [&](std::string_view between) { encode_text(between, ids); }, [&](TokenId id) { ids.push_back(id); });
  return ids;
}

// Valid stretches are encoded as the reference does; a byte that is not UTF-8 becomes its own token between them.
void BpeTokenizer::encode_text(std::string_view text, std::vector<TokenId>& ids) const {
  std::vector<TokenId> merged;
  BpeMerges::Scratch scratch;
  const auto on_piece = [&](std::string_view piece) { encode_piece(piece, ids, merged, scratch); };
  while (!text.empty()) {
    const std::string_view valid = text.substr(0, utf8_valid_prefix(text));
    if (compose_ && !is_ascii(valid)) {
      pre_tokenizer_->split(normal_form_c(valid), on_piece);
    } else {
      pre_tokenizer_->split(valid, on_piece);
    }
    text.remove_prefix(valid.size());
    if (text.empty()) return;
    const TokenId id = byte_tokens_[static_cast<unsigned char>(text.front())];
    if (id >= 0) ids.push_back(id);
    text.remove_prefix(1);
  }
}

void BpeTokenizer::encode_piece(std::string_view piece, std::vector<TokenId>& ids, std::vector<TokenId>& merged,
                                BpeMerges::Scratch& scratch) const {
  if (whole_pieces_) {
    if (const auto whole = by_bytes_.find(piece); whole != by_bytes_.end()) {
      ids.push_back(whole->second);
      return;
    }
  }
  merged.clear();
  for (const char c : piece) {
    const TokenId id = byte_tokens_[static_cast<unsigned char>(c)];
    if (id >= 0) merged.push_back(id);
  }
  merges_.apply(merged, scratch);
  ids.insert(ids.end(), merged.begin(), merged.end());
}

std::string_view BpeTokenizer::piece(TokenId id, bool special) const {
  const TokenKind kind = token_kind(id);
  const bool written = kind == TokenKind::normal || kind == TokenKind::user_defined;
  return written || special ? std::string_view(bytes_[static_cast<std::size_t>(id)]) : std::string_view();
}

}  // namespace sirocco

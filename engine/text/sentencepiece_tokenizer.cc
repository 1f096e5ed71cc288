#include "engine/text/sentencepiece_tokenizer.h"

#include <sentencepiece_processor.h>

#include <algorithm>
#include <charconv>
#include <cmath>

#include "engine/base/utf8.h"
#include "engine/text/model_proto.h"

namespace sirocco {
namespace {

constexpr std::string_view kSpace = "\xE2\x96\x81";             // U+2581 stands for a space in the vocabulary
constexpr std::string_view kUnknownSurface = " \xE2\x81\x87 ";  // what the library decodes the unknown token to

std::string with_spaces(std::string_view token) {
  std::string out;
  for (std::size_t at = 0; at < token.size();) {
    const bool space = token.substr(at).starts_with(kSpace);
    out.push_back(space ? ' ' : token[at]);
    at += space ? kSpace.size() : 1;
  }
  return out;
}

// "<0x0A>" → 10
std::optional<unsigned char> byte_of(std::string_view token) {
  unsigned value = 0;
  if (token.size() != 6 || !token.starts_with("<0x") || token.back() != '>') return std::nullopt;
  const char* end = token.data() + 5;
  if (std::from_chars(token.data() + 3, end, value, 16).ptr != end) return std::nullopt;
  return static_cast<unsigned char>(value);
}

// True if the token has a space after something else.
bool reaches_over_space(std::string_view token) {
  while (token.starts_with(kSpace)) token.remove_prefix(kSpace.size());
  return token.find(kSpace) != std::string_view::npos || token.find(' ') != std::string_view::npos;
}

Result<std::vector<float>> read_scores(const GgufMetadata& metadata, std::size_t size) {
  constexpr std::string_view key = "tokenizer.ggml.scores";
  SIROCCO_TRY(auto scores, metadata.numbers(key));
  if (scores.size() != size) return fail(ErrorCode::corrupt, "{}: {} entries for {} tokens", key, scores.size(), size);
  const auto broken = std::find_if(scores.begin(), scores.end(), [](float score) { return !std::isfinite(score); });
  if (broken != scores.end()) {
    return fail(ErrorCode::corrupt, "{}[{}]: {} is no score", key, broken - scores.begin(), *broken);
  }
  if (size > 1 && std::all_of(scores.begin(), scores.end(), [&](float score) { return score == scores.front(); })) {
    return fail(ErrorCode::unsupported,
                "{}: all {}, so the order of merges is lost; convert the model again with its tokenizer.model", key,
                scores.front());
  }
  return scores;
}

}  // namespace

SentencepieceTokenizer::SentencepieceTokenizer(Vocabulary vocabulary) : Tokenizer(std::move(vocabulary)) {}
SentencepieceTokenizer::~SentencepieceTokenizer() = default;

Result<std::shared_ptr<const Tokenizer>> SentencepieceTokenizer::create(const GgufMetadata& metadata,
                                                                        Vocabulary vocabulary) {
  SIROCCO_TRY(const auto scores, read_scores(metadata, vocabulary.tokens.size()));
  if (!vocabulary.add_bos) vocabulary.add_bos = true;
  const std::string model = sentencepiece_model(vocabulary, scores);

  std::shared_ptr<SentencepieceTokenizer> out(new SentencepieceTokenizer(std::move(vocabulary)));
  out->processor_ = std::make_unique<sentencepiece::SentencePieceProcessor>();
  if (const auto status = out->processor_->LoadFromSerializedProto(model); !status.ok()) {
    return fail(ErrorCode::corrupt, "tokenizer.ggml.tokens: sentencepiece refuses them: {}", status.ToString());
  }
  if (metadata.contains("tokenizer.ggml.add_space_prefix")) {
    SIROCCO_TRY(out->add_space_prefix_, metadata.boolean("tokenizer.ggml.add_space_prefix"));
  }

  // Not the library's unk_id(), which is -1 where that token is not named <unk>.
  const auto unknown = std::find(out->kinds_.begin(), out->kinds_.end(), TokenKind::unknown);
  if (unknown == out->kinds_.end())
    return fail(ErrorCode::corrupt, "tokenizer.ggml.token_type: no token stands for what is unknown (type 2)");
  out->byte_tokens_.fill(static_cast<TokenId>(unknown - out->kinds_.begin()));
  for (std::size_t i = 0; i < out->tokens_.size(); ++i) {
    const std::string& token = out->tokens_[i];
    const TokenKind kind = out->kinds_[i];
    const auto byte = kind == TokenKind::byte ? byte_of(token) : std::nullopt;
    if (kind != TokenKind::control && reaches_over_space(token)) out->words_are_apart_ = false;
    if (byte) out->byte_tokens_[*byte] = static_cast<TokenId>(i);
    out->bytes_.push_back(byte                         ? std::string(1, static_cast<char>(*byte))
                          : kind == TokenKind::control ? token
                          : kind == TokenKind::unknown ? std::string(kUnknownSurface)
                                                       : with_spaces(token));
  }
  out->control_ = out->literals({TokenKind::control, TokenKind::unknown});
  return out;
}

std::vector<TokenId> SentencepieceTokenizer::encode(std::string_view text, bool special) const {
  std::vector<TokenId> ids;
  if (!special) {
    encode_text(text, ids);
    return ids;
  }
  control_.split(
      text, [&](std::string_view between) { encode_text(between, ids); }, [&](TokenId id) { ids.push_back(id); });
  return ids;
}

// The library would turn bytes that are not UTF-8 into U+FFFD, so it gets the valid stretches only, the first one with
// the space in front that add_dummy_prefix means.
void SentencepieceTokenizer::encode_text(std::string_view text, std::vector<TokenId>& ids) const {
  if (text.empty()) return;
  std::string valid = add_space_prefix_ ? " " : "";
  while (true) {
    const std::size_t length = utf8_valid_prefix(text);
    valid.append(text.substr(0, length));
    encode_valid(valid, ids);
    text.remove_prefix(length);
    if (text.empty()) return;
    ids.push_back(byte_tokens_[static_cast<unsigned char>(text.front())]);
    text.remove_prefix(1);
    valid.clear();
  }
}

// The library merges over the whole text at once, which gets slow for long ones. Where no token reaches over the end of
// a word, merging on both sides of it is independent: a few kilobytes at a time give the same tokens.
void SentencepieceTokenizer::encode_valid(std::string_view text, std::vector<TokenId>& ids) const {
  constexpr std::size_t stretch = 2048;
  std::vector<int> encoded;
  while (!text.empty()) {
    std::size_t end = text.size();
    for (std::size_t i = stretch; words_are_apart_ && i < text.size(); ++i) {
      const std::string_view before = text.substr(0, i);
      if (text[i] != ' ' || before.ends_with(' ') || before.ends_with(kSpace)) continue;
      end = i;
      break;
    }
    if (!processor_->Encode(text.substr(0, end), &encoded).ok()) throw std::bad_alloc();  // nothing else can fail
    ids.insert(ids.end(), encoded.begin(), encoded.end());
    text.remove_prefix(end);
  }
}

std::string_view SentencepieceTokenizer::piece(TokenId id, bool special) const {
  if (token_kind(id) == TokenKind::control && !special) return {};
  return bytes_[static_cast<std::size_t>(id)];
}

}  // namespace sirocco

#include "engine/text/vocabulary.h"

#include <algorithm>
#include <array>
#include <limits>

#include "engine/text/tokenizer.h"

namespace sirocco {
namespace {

constexpr std::array<std::string_view, 3> kEndKeys = {"tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id",
                                                      "tokenizer.ggml.eom_token_id"};

// Control tokens that end an answer, whatever the file's ids say: many files name only one of several.
constexpr std::array<std::string_view, 7> kEndNames = {"</s>",       "<|im_end|>",      "<|endoftext|>", "<|eot_id|>",
                                                       "<|eom_id|>", "<|end_of_text|>", "<|end|>"};

Result<std::optional<TokenId>> token_id(const GgufMetadata& metadata, std::string_view key, std::size_t size) {
  if (!metadata.contains(key)) return std::optional<TokenId>();
  SIROCCO_TRY(const std::uint64_t id, metadata.integer(key));
  if (id >= size) return fail(ErrorCode::corrupt, "{}: {}, but the vocabulary has {} tokens", key, id, size);
  return static_cast<TokenId>(id);
}

Result<std::vector<TokenKind>> token_kinds(const GgufMetadata& metadata, std::size_t size) {
  constexpr std::string_view key = "tokenizer.ggml.token_type";
  if (!metadata.contains(key)) return std::vector<TokenKind>(size, TokenKind::normal);
  SIROCCO_TRY(const auto numbers, metadata.integers(key));
  if (numbers.size() != size) {
    return fail(ErrorCode::corrupt, "{}: {} entries for {} tokens", key, numbers.size(), size);
  }
  std::vector<TokenKind> kinds;
  kinds.reserve(size);
  for (const std::int64_t number : numbers) {
    if (number < 1 || number > 6) {
      return fail(ErrorCode::corrupt, "{}[{}]: {} is not a token type (1 to 6)", key, kinds.size(), number);
    }
    kinds.push_back(static_cast<TokenKind>(number));
  }
  return kinds;
}

}  // namespace

bool Vocabulary::has_control(std::string_view token) const {
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    if (tokens[i] == token && kinds[i] == TokenKind::control) return true;
  }
  return false;
}

Result<Vocabulary> read_vocabulary(const GgufMetadata& metadata) {
  Vocabulary out;
  SIROCCO_TRY(out.tokens, metadata.strings("tokenizer.ggml.tokens"));
  const std::size_t size = out.tokens.size();
  if (size == 0 || size > static_cast<std::size_t>(std::numeric_limits<TokenId>::max())) {
    return fail(ErrorCode::corrupt, "tokenizer.ggml.tokens: {} tokens", size);
  }
  SIROCCO_TRY(out.kinds, token_kinds(metadata, size));
  SIROCCO_TRY(out.bos, token_id(metadata, "tokenizer.ggml.bos_token_id", size));

  for (const std::string_view key : kEndKeys) {
    SIROCCO_TRY(const std::optional<TokenId> id, token_id(metadata, key, size));
    if (id) out.ends.push_back(*id);
  }
  for (std::size_t i = 0; i < size; ++i) {
    const bool named = std::find(kEndNames.begin(), kEndNames.end(), out.tokens[i]) != kEndNames.end();
    if (named && out.kinds[i] == TokenKind::control) out.ends.push_back(static_cast<TokenId>(i));
  }
  std::sort(out.ends.begin(), out.ends.end());
  out.ends.erase(std::unique(out.ends.begin(), out.ends.end()), out.ends.end());

  if (metadata.contains("tokenizer.ggml.add_bos_token")) {
    SIROCCO_TRY(out.add_bos, metadata.boolean("tokenizer.ggml.add_bos_token"));
  }
  return out;
}

}  // namespace sirocco

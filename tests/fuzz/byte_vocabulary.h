// Vocabularies for fuzzing without a file: a token for every byte, a few words of more than one, and control tokens.
#pragma once

#include <array>
#include <string>
#include <string_view>
#include <vector>

#include "engine/gguf/gguf_file.h"
#include "engine/text/byte_alphabet.h"
#include "engine/text/tokenizer.h"

namespace sirocco::fuzz {

class VocabularyWriter {
 public:
  void add(std::string_view token, TokenKind kind) {
    tokens_.emplace_back(token);
    kinds_.push_back(static_cast<std::int32_t>(kind));
  }
  void add_bytes_of_bpe() {
    for (int byte = 0; byte < 256; ++byte) add(byte_character(static_cast<unsigned char>(byte)), TokenKind::normal);
  }
  void add_bytes_of_sentencepiece() {
    for (int byte = 0; byte < 256; ++byte) add(fmt::format("<0x{:02X}>", byte), TokenKind::byte);
  }
  std::size_t size() const { return tokens_.size(); }

  void write(GgufMetadata& metadata) && {
    std::vector<float> scores;
    for (std::size_t i = 0; i < tokens_.size(); ++i) scores.push_back(-static_cast<float>(i));
    metadata.set("tokenizer.ggml.tokens", GgufArray(std::move(tokens_)));
    metadata.set("tokenizer.ggml.token_type", GgufArray(std::move(kinds_)));
    metadata.set("tokenizer.ggml.scores", GgufArray(std::move(scores)));
  }

 private:
  std::vector<std::string> tokens_;
  std::vector<std::int32_t> kinds_;
};

// The control tokens of every chat format that is known.
inline constexpr std::array<std::string_view, 12> kChatControls = {"<unk>",
                                                                   "<s>",
                                                                   "</s>",
                                                                   "[INST]",
                                                                   "[/INST]",
                                                                   "[AVAILABLE_TOOLS]",
                                                                   "[/AVAILABLE_TOOLS]",
                                                                   "[TOOL_CALLS]",
                                                                   "[TOOL_RESULTS]",
                                                                   "[/TOOL_RESULTS]",
                                                                   "[SYSTEM_PROMPT]",
                                                                   "[/SYSTEM_PROMPT]"};

// Mistral's control tokens, for `pre` "tekken", or for sentencepiece if `pre` is empty; ChatML's for any other.
inline GgufMetadata chat_vocabulary(std::string_view pre) {
  GgufMetadata metadata;
  VocabularyWriter vocabulary;
  const bool mistral = pre.empty() || pre == "tekken";
  if (mistral) {
    for (const std::string_view token : kChatControls)
      vocabulary.add(token, token == "<unk>" ? TokenKind::unknown : TokenKind::control);
  } else {
    for (const std::string_view token : {"<|endoftext|>", "<|im_start|>", "<|im_end|>"})
      vocabulary.add(token, TokenKind::control);
  }
  if (pre.empty()) {
    vocabulary.add_bytes_of_sentencepiece();
    for (const std::string_view token : {"\u2581", "a", "\u2581a", "[", "INST", "]"})
      vocabulary.add(token, TokenKind::normal);
  } else {
    vocabulary.add_bytes_of_bpe();
    for (const std::string_view token : {"<|", "|>", "IN", "ST"}) vocabulary.add(token, TokenKind::normal);
    metadata.set("tokenizer.ggml.pre", std::string(pre));
    metadata.set("tokenizer.ggml.merges", GgufArray(std::vector<std::string>{"< |", "| >", "I N", "S T"}));
  }
  metadata.set("tokenizer.ggml.model", std::string(pre.empty() ? "llama" : "gpt2"));
  metadata.set("tokenizer.ggml.bos_token_id", std::uint32_t{mistral ? 1U : 0U});
  metadata.set("tokenizer.ggml.eos_token_id", std::uint32_t{2});
  std::move(vocabulary).write(metadata);
  return metadata;
}

// The control tokens among ids, in order: what a prompt's structure is made of.
inline std::vector<TokenId> controls(const Tokenizer& tokenizer, const std::vector<TokenId>& ids) {
  std::vector<TokenId> found;
  for (const TokenId id : ids) {
    if (tokenizer.token_kind(id) == TokenKind::control) found.push_back(id);
  }
  return found;
}

}  // namespace sirocco::fuzz

// A vocabulary as a model file brings it, and a text: either the vocabulary is refused, or whatever is encoded is made
// of its tokens, never of a control token, and decodes to what it was. The input is parts, each ended by the byte 0xFF:
// two letters (the kind of tokenizer and what to add), bos and eos as numbers, tokens and merges, each ended by 0xFE; a
// token begins with the digit of its kind. The rest is the text.
#include <charconv>
#include <cstdlib>
#include <new>

#include "engine/base/utf8.h"
#include "engine/text/detokenizer.h"
#include "tests/fuzz/byte_vocabulary.h"

namespace sirocco {
namespace {

void require(bool promise) {
  if (!promise) std::abort();
}

std::string_view take_until(std::string_view& rest, char end) {
  const std::string_view part = rest.substr(0, rest.find(end));
  rest.remove_prefix(std::min(part.size() + 1, rest.size()));
  return part;
}

void set_id(GgufMetadata& metadata, std::string_view key, std::string_view number) {
  std::uint32_t id = 0;
  if (std::from_chars(number.data(), number.data() + number.size(), id).ec == std::errc())
    metadata.set(std::string(key), id);
}

struct Input {
  GgufMetadata metadata;
  bool whole_bytes = false;  // every byte has a token
  std::string_view text;
};

Input read(std::string_view rest) {
  constexpr std::array<std::string_view, 6> pres = {"gpt-2", "smollm", "llama-bpe", "qwen2", "tekken", "none"};
  Input input;
  const std::string_view letters = take_until(rest, '\xFF');
  const auto letter = [&](std::size_t at) {
    return at < letters.size() ? static_cast<unsigned>(letters[at] & 0x7F) : 0;
  };
  const bool bpe = letter(0) % 8 < pres.size();
  input.whole_bytes = letter(1) % 2 == 1;
  input.metadata.set("tokenizer.ggml.model", std::string(bpe ? "gpt2" : "llama"));
  if (bpe) input.metadata.set("tokenizer.ggml.pre", std::string(pres.at(letter(0) % 8)));
  if ((letter(1) & 2U) != 0) input.metadata.set("tokenizer.ggml.add_space_prefix", (letter(1) & 4U) != 0);
  set_id(input.metadata, "tokenizer.ggml.bos_token_id", take_until(rest, '\xFF'));
  set_id(input.metadata, "tokenizer.ggml.eos_token_id", take_until(rest, '\xFF'));

  fuzz::VocabularyWriter vocabulary;
  for (std::string_view tokens = take_until(rest, '\xFF'); !tokens.empty();) {
    const std::string_view token = take_until(tokens, '\xFE');
    const auto kind = token.empty() ? TokenKind::normal : static_cast<TokenKind>(token.front() - '0');
    vocabulary.add(token.substr(std::min<std::size_t>(1, token.size())), kind);
  }
  if (input.whole_bytes) bpe ? vocabulary.add_bytes_of_bpe() : vocabulary.add_bytes_of_sentencepiece();
  std::vector<std::string> merges;
  for (std::string_view lines = take_until(rest, '\xFF'); !lines.empty();)
    merges.emplace_back(take_until(lines, '\xFE'));
  input.metadata.set("tokenizer.ggml.merges", GgufArray(std::move(merges)));
  std::move(vocabulary).write(input.metadata);
  input.text = rest;
  return input;
}

void use(const std::shared_ptr<const Tokenizer>& tokenizer, std::string_view text, bool comes_back) {
  const std::vector<TokenId> ids = tokenizer->encode(text);
  for (const TokenId id : ids) require(id >= 0 && static_cast<std::size_t>(id) < tokenizer->vocabulary_size());
  require(fuzz::controls(*tokenizer, ids).empty());
  for (const TokenId id : tokenizer->encode(text, true))
    require(id >= 0 && static_cast<std::size_t>(id) < tokenizer->vocabulary_size());

  std::string bytes;
  for (const TokenId id : ids) bytes.append(tokenizer->piece(id));
  if (comes_back) require(bytes == text);
  // As a stream it is the same text, and valid at every moment.
  Detokenizer stream(tokenizer);
  std::string streamed;
  for (const TokenId id : ids) {
    const std::string piece = stream.push(id);
    require(utf8_valid_prefix(piece) == piece.size());
    streamed.append(piece);
  }
  streamed.append(stream.flush());
  require(streamed == tokenizer->decode(ids));
}

}  // namespace
}  // namespace sirocco

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace sirocco;
  const Input input = read(std::string_view(reinterpret_cast<const char*>(data), size));
  const auto tokenizer = Tokenizer::from_metadata(input.metadata);
  if (!tokenizer) return 0;
  // qwen2 composes characters, and sentencepiece writes a space in front.
  const bool exact = (*tokenizer)->kind() != "sentencepiece" && (*tokenizer)->kind() != "bpe/qwen2";
  use(*tokenizer, input.text, exact && input.whole_bytes);
  return 0;
}

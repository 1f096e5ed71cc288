#include "engine/text/model_proto.h"

#include <algorithm>
#include <bit>
#include <cstdint>

#include "engine/text/tokenizer.h"

namespace sirocco {
namespace {

enum class WireType : std::uint8_t { varint = 0, bytes = 2, fixed32 = 5 };

void put_varint(std::string& out, std::uint64_t value) {
  for (; value >= 0x80; value >>= 7) out.push_back(static_cast<char>(value | 0x80));
  out.push_back(static_cast<char>(value));
}
void put_tag(std::string& out, std::uint32_t field, WireType type) {
  put_varint(out, field << 3 | static_cast<std::uint32_t>(type));
}
void put_number(std::string& out, std::uint32_t field, std::uint64_t value) {
  put_tag(out, field, WireType::varint);
  put_varint(out, value);
}
void put_bytes(std::string& out, std::uint32_t field, std::string_view bytes) {
  put_tag(out, field, WireType::bytes);
  put_varint(out, bytes.size());
  out.append(bytes);
}
void put_float(std::string& out, std::uint32_t field, float value) {
  put_tag(out, field, WireType::fixed32);
  const auto bits = std::bit_cast<std::uint32_t>(value);
  for (unsigned shift = 0; shift < 32; shift += 8) out.push_back(static_cast<char>(bits >> shift));
}

// Mistral's converters write these, user-defined in the original, as normal tokens.
bool lost_its_kind(std::string_view token, TokenKind kind) {
  return kind == TokenKind::normal && token.starts_with("[REFERENCE_DOC_") && token.ends_with("]");
}

}  // namespace

std::string sentencepiece_model(const Vocabulary& vocabulary, std::span<const float> scores) {
  constexpr std::uint32_t pieces = 1, trainer = 2, normalizer = 3;                   // ModelProto
  constexpr std::uint32_t text = 1, score = 2, type = 3;                             // SentencePiece
  constexpr std::uint32_t model_type = 3, vocab_size = 4, byte_fallback = 35;        // TrainerSpec
  constexpr std::uint32_t name = 1, dummy_prefix = 3, extra_spaces = 4, escape = 5;  // NormalizerSpec
  constexpr std::uint64_t bpe = 2;

  std::string out;
  std::string part;
  for (std::size_t i = 0; i < vocabulary.tokens.size(); ++i) {
    const TokenKind kind =
        lost_its_kind(vocabulary.tokens[i], vocabulary.kinds[i]) ? TokenKind::user_defined : vocabulary.kinds[i];
    part.clear();
    // The library looks a text's single characters up among control tokens, too, and then fails: it must find none.
    put_bytes(part, text, (kind == TokenKind::control ? "control token " : "") + vocabulary.tokens[i]);
    put_float(part, score, scores[i]);
    put_number(part, type, static_cast<std::uint64_t>(kind));  // GGUF took over sentencepiece's numbers
    put_bytes(out, pieces, part);
  }

  part.clear();
  put_number(part, model_type, bpe);
  put_number(part, vocab_size, vocabulary.tokens.size());
  const auto byte_tokens = std::count(vocabulary.kinds.begin(), vocabulary.kinds.end(), TokenKind::byte);
  put_number(part, byte_fallback, byte_tokens == 256 ? 1 : 0);
  put_bytes(out, trainer, part);

  part.clear();
  put_bytes(part, name, "identity");
  put_number(part, dummy_prefix, 0);
  put_number(part, extra_spaces, 0);
  put_number(part, escape, 1);
  put_bytes(out, normalizer, part);
  return out;
}

}  // namespace sirocco

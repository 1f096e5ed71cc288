#define PCRE2_CODE_UNIT_WIDTH 8
#include "engine/text/pre_tokenizer.h"

#include <pcre2.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <limits>
#include <new>
#include <utility>

#include "engine/base/printable.h"

namespace sirocco {
namespace {

// The regular expressions of GPT-2 (openai/gpt-2 src/encoder.py), Llama 3 and Qwen2 (their tokenizer.json) and Tekken
// (mistral-common's tekken_240718.json; llama.cpp's lacks \p{M} and cuts Hindi, Thai, Tamil and Bengali wrongly).
constexpr std::string_view kGpt2 = R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

// SmolLM cuts out every digit first and then applies GPT-2's expression to what lies between: the same in one step.
// A run of spaces before a digit stands at the end of such a part, hence \p{N} in the lookahead.
constexpr std::string_view kSmolLm =
    R"(\p{N}|'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?[^\s\p{L}\p{N}]+|\s+(?![^\s\p{N}])|\s+)";
constexpr std::string_view kLlama3 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+)"
    R"(|\s+(?!\S)|\s+)";
constexpr std::string_view kQwen2 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+)"
    R"(|\s+(?!\S)|\s+)";
constexpr std::string_view kTekken = R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+)"
                                     R"(|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*)"
                                     R"(|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

constexpr std::array kRules = {
    PreTokenizerRules{.name = "gpt-2", .pattern = kGpt2},
    PreTokenizerRules{.name = "smollm", .pattern = kSmolLm},
    PreTokenizerRules{.name = "llama-bpe", .pattern = kLlama3, .whole_pieces = true, .add_bos_default = true},
    PreTokenizerRules{.name = "qwen2", .pattern = kQwen2, .compose = true},
    PreTokenizerRules{
        .name = "tekken", .pattern = kTekken, .whole_pieces = true, .ranked_by_id = true, .add_bos_default = true},
};

// Other names that GGUF files carry for the same rules.
constexpr std::array<std::pair<std::string_view, std::string_view>, 2> kAliases = {{
    {"llama3", "llama-bpe"},
    {"llama-v3", "llama-bpe"},
}};

// PCRE2's \s holds U+180E, which has not been white space since Unicode 6.3 and is none for the models' own engines
// (Oniguruma, Rust's regex). Both know exactly these characters.
std::string with_unicode_spaces(std::string_view pattern) {
  constexpr std::string_view space = R"(\t-\r\x{85}\p{Z})";
  std::string out;
  for (std::size_t i = 0; i < pattern.size(); ++i) {
    const std::string_view rest = pattern.substr(i);
    if (rest.starts_with("[^\\s")) {
      out.append("[^").append(space);
      i += 3;
    } else if (rest.starts_with("\\s")) {
      out.append("[").append(space).append("]");
      ++i;
    } else if (rest.starts_with("\\S")) {
      out.append("[^").append(space).append("]");
      ++i;
    } else {
      out.push_back(pattern[i]);
    }
  }
  return out;
}

std::string pcre2_message(int code) {
  std::array<PCRE2_UCHAR, 256> buffer{};
  pcre2_get_error_message(code, buffer.data(), buffer.size());
  return reinterpret_cast<const char*>(buffer.data());
}

struct MatchState {
  std::unique_ptr<pcre2_match_data, decltype(&pcre2_match_data_free)> data;
  std::unique_ptr<pcre2_match_context, decltype(&pcre2_match_context_free)> context;

  explicit MatchState(const pcre2_code* code)
      : data(pcre2_match_data_create_from_pattern(code, nullptr), pcre2_match_data_free),
        context(pcre2_match_context_create(nullptr), pcre2_match_context_free) {
    if (!data || !context) throw std::bad_alloc();
    // The limits guard against expressions that explode; ours backtrack over one run of characters at most.
    pcre2_set_match_limit(context.get(), std::numeric_limits<std::uint32_t>::max());
    pcre2_set_depth_limit(context.get(), std::numeric_limits<std::uint32_t>::max());
    pcre2_set_heap_limit(context.get(), std::numeric_limits<std::uint32_t>::max());
  }
};

}  // namespace

Result<PreTokenizerRules> pre_tokenizer_rules(std::string_view name, bool mistral) {
  // Mistral's only BPE is Tekken; files made from Pixtral and others carry the name of a wrong expression.
  if (mistral) name = "tekken";
  for (const auto& [alias, real] : kAliases) {
    if (name == alias) name = real;
  }
  for (const PreTokenizerRules& rules : kRules) {
    if (rules.name == name) return rules;
  }
  constexpr std::string_view known = "known: gpt-2, smollm, llama-bpe, qwen2, tekken";
  // Llama.cpp has an expression of its own for both, which no model was trained with, and warns of the first.
  if (name.empty() || name == "default") {
    return fail(
        ErrorCode::unsupported,
        "tokenizer.ggml.pre: {}, so how the model's tokenizer cuts a text cannot be told; convert the model again "
        "({})",
        name.empty() ? "missing" : "\"default\"", known);
  }
  return fail(ErrorCode::unsupported, "tokenizer.ggml.pre: \"{}\" is not known ({})", printable(name), known);
}

Result<PreTokenizer> PreTokenizer::create(std::string_view pattern) {
  const std::string expanded = with_unicode_spaces(pattern);
  int error = 0;
  PCRE2_SIZE offset = 0;
  pcre2_code* code = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(expanded.data()), expanded.size(),
                                   PCRE2_UTF | PCRE2_UCP, &error, &offset, nullptr);
  if (code == nullptr) {
    return fail(ErrorCode::internal, "pre-tokeniser {}: offset {}: {}", expanded, offset, pcre2_message(error));
  }
  // Where writable and executable memory is denied (systemd's MemoryDenyWriteExecute) this fails, and matching is
  // interpreted: slower, the same pieces.
  pcre2_jit_compile(code, PCRE2_JIT_COMPLETE);
  return PreTokenizer(std::shared_ptr<const void>(
      code, [](const void* held) { pcre2_code_free(static_cast<pcre2_code*>(const_cast<void*>(held))); }));
}

void PreTokenizer::split(std::string_view text, const std::function<void(std::string_view)>& on_piece) const {
  const auto* code = static_cast<const pcre2_code*>(code_.get());
  const MatchState state(code);
  const auto* subject = reinterpret_cast<PCRE2_SPTR>(text.data());
  const PCRE2_SIZE* bounds = pcre2_get_ovector_pointer(state.data.get());

  std::size_t done = 0;
  while (done < text.size()) {
    int found =
        pcre2_match(code, subject, text.size(), done, PCRE2_NO_UTF_CHECK, state.data.get(), state.context.get());
    if (found == PCRE2_ERROR_JIT_STACKLIMIT) {
      found = pcre2_match(code, subject, text.size(), done, PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT, state.data.get(),
                          state.context.get());
    }
    if (found == PCRE2_ERROR_NOMATCH) break;
    if (found < 0) throw std::bad_alloc();  // with no limits set, memory is all that can run out
    if (bounds[0] > done) on_piece(text.substr(done, bounds[0] - done));  // what nothing matches is a piece too
    on_piece(text.substr(bounds[0], bounds[1] - bounds[0]));
    done = bounds[1];
  }
  if (done < text.size()) on_piece(text.substr(done));
}

}  // namespace sirocco

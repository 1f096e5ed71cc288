// Which format a file's template means. The templates themselves are programs; what tells them apart is which control
// tokens they write and which of those the vocabulary has.
#include "engine/text/chat_format.h"

#include <algorithm>
#include <array>
#include <initializer_list>
#include <utility>

#include "engine/text/chatml_format.h"
#include "engine/text/mistral_format.h"
#include "engine/text/utf8.h"

namespace sirocco {
namespace {

enum class Kind : std::uint8_t { any, sentencepiece, tekken };

struct Known {
  std::string_view name;
  std::array<std::string_view, 3> writes;  // the template holds all of these …
  std::array<std::string_view, 4> lacks;   // … and none of these
  std::string_view control;                // is a control token of the vocabulary
  std::string_view no_control;             // is not one
  Kind kind;
  MistralVersion version;  // of the rows named mistral
};

// The first row that fits is taken.
//
// Llama 2 writes [INST] too, with <<SYS>>. Mistral's v11 and later write [ARGS] or [THINK] and are other formats, as
// Phi's ChatML with <|im_sep|> and Kimi's with <|im_middle|> are. v7 is the one with [SYSTEM_PROMPT]; v2 had no ids of
// calls; v1 had no control tokens, so its vocabulary lacks them.
constexpr std::array<Known, 7> kKnown = {{
    {"chatml",
     {"<|im_start|>", "<|im_end|>", "assistant"},
     {"<|im_sep|>", "<|im_middle|>"},
     "<|im_start|>",
     "",
     Kind::any,
     {}},
    {"mistral-v7",
     {"[SYSTEM_PROMPT]", "[INST]"},
     {"[ARGS]", "[THINK]", "[CALL_ID]", "<<SYS>>"},
     "[SYSTEM_PROMPT]",
     "",
     Kind::sentencepiece,
     MistralVersion::v7},
    {"mistral-v7-tekken",
     {"[SYSTEM_PROMPT]", "[INST]"},
     {"[ARGS]", "[THINK]", "[CALL_ID]", "<<SYS>>"},
     "[SYSTEM_PROMPT]",
     "",
     Kind::tekken,
     MistralVersion::v7},
    {"mistral-v3-tekken",
     {"[INST]"},
     {"[SYSTEM_PROMPT]", "[ARGS]", "[THINK]", "<<SYS>>"},
     "[INST]",
     "",
     Kind::tekken,
     MistralVersion::v3},
    {"mistral-v2",
     {"[INST]", "[TOOL_RESULTS]"},
     {"[SYSTEM_PROMPT]", "call_id", "<<SYS>>"},
     "[INST]",
     "",
     Kind::sentencepiece,
     MistralVersion::v2},
    {"mistral-v3",
     {"[INST]"},
     {"[SYSTEM_PROMPT]", "[ARGS]", "[THINK]", "<<SYS>>"},
     "[INST]",
     "",
     Kind::sentencepiece,
     MistralVersion::v3},
    {"mistral-v1",
     {"[INST]"},
     {"[SYSTEM_PROMPT]", "[TOOL_RESULTS]", "[AVAILABLE_TOOLS]", "<<SYS>>"},
     "",
     "[INST]",
     Kind::sentencepiece,
     MistralVersion::v1},
}};

bool fits(const Known& known, std::string_view chat_template, const Tokenizer& tokenizer) {
  const auto written = [&](std::string_view text) { return chat_template.find(text) != std::string_view::npos; };
  const auto unwanted = [&](std::string_view text) { return !text.empty() && written(text); };
  const auto is_kind = [&](std::string_view kind) { return tokenizer.kind() == kind; };
  return std::all_of(known.writes.begin(), known.writes.end(), written) &&
         std::none_of(known.lacks.begin(), known.lacks.end(), unwanted) &&
         (known.control.empty() || control_token(tokenizer, known.control)) &&
         (known.no_control.empty() || !control_token(tokenizer, known.no_control)) &&
         (known.kind == Kind::any || is_kind(known.kind == Kind::tekken ? "bpe/tekken" : "sentencepiece"));
}

// The first 80 bytes or so, on one line.
std::string beginning(std::string_view text) {
  std::string out(text.substr(0, utf8_valid_prefix(text.substr(0, 80))));
  std::replace(out.begin(), out.end(), '\n', ' ');
  return out.size() < text.size() ? out + "…" : out;
}

}  // namespace

Result<TokenId> control_token(const Tokenizer& tokenizer, std::string_view token) {
  const auto id = tokenizer.find(token);
  if (id && tokenizer.token_kind(*id) == TokenKind::control) return *id;
  return fail(ErrorCode::unsupported, "the vocabulary has no control token {}, which the chat format needs", token);
}

Result<std::shared_ptr<const ChatFormat>> ChatFormat::from_metadata(const GgufMetadata& metadata,
                                                                    std::shared_ptr<const Tokenizer> tokenizer) {
  constexpr std::string_view key = "tokenizer.chat_template";
  if (!metadata.contains(key)) {
    return fail(ErrorCode::unsupported,
                "{}: the file has none, so messages cannot be encoded; use a raw text or token ids", key);
  }
  SIROCCO_TRY(const std::string chat_template, metadata.string(key));
  std::string names;
  for (const Known& known : kKnown) {
    names += fmt::format("{}{}", names.empty() ? "" : ", ", known.name);
    if (!fits(known, chat_template, *tokenizer)) continue;
    if (known.name == "chatml") return ChatmlFormat::create(chat_template, std::move(tokenizer));
    return MistralFormat::create(known.name, known.version, std::move(tokenizer));
  }
  return fail(ErrorCode::unsupported,
              "{}: \"{}\" is not a format known here for a {} vocabulary ({}); use a raw text or token ids", key,
              beginning(chat_template), tokenizer->kind(), names);
}

}  // namespace sirocco

// Which format a file's template means. The templates themselves are programs. ChatML's is run, because there are many
// of them and they differ; Mistral's formats are those of mistral-common, and what tells them apart is which control
// tokens the template writes and which of those the vocabulary has.
#include "engine/text/chat_format.h"

#include <algorithm>
#include <array>
#include <initializer_list>
#include <utility>

#include "engine/base/printable.h"
#include "engine/text/chatml_format.h"
#include "engine/text/mistral_format.h"

namespace sirocco {
namespace {

struct Known {
  std::string_view name;
  std::array<std::string_view, 2> writes;  // the template holds all of these …
  std::array<std::string_view, 4> lacks;   // … and none of these
  std::string_view control;                // is a control token of the vocabulary
  std::string_view no_control;             // is not one
  std::string_view tokenizer;              // its kind
  MistralVersion version;
};

constexpr std::string_view kSentencepiece = "sentencepiece";
constexpr std::string_view kTekken = "bpe/tekken";

// Mistral's formats; the first row that fits is taken.
//
// Llama 2 writes [INST] too, with <<SYS>>. Mistral's v11 and later write [ARGS] or [THINK] and are other formats. v7 is
// the one with [SYSTEM_PROMPT]; v2 had no ids of calls; v1 had no control tokens, so its vocabulary lacks them.
constexpr std::array<Known, 6> kKnown = {{
    {"mistral-v7",
     {"[SYSTEM_PROMPT]", "[INST]"},
     {"[ARGS]", "[THINK]", "[CALL_ID]", "<<SYS>>"},
     "[SYSTEM_PROMPT]",
     "",
     kSentencepiece,
     MistralVersion::v7},
    {"mistral-v7-tekken",
     {"[SYSTEM_PROMPT]", "[INST]"},
     {"[ARGS]", "[THINK]", "[CALL_ID]", "<<SYS>>"},
     "[SYSTEM_PROMPT]",
     "",
     kTekken,
     MistralVersion::v7},
    {"mistral-v3-tekken",
     {"[INST]"},
     {"[SYSTEM_PROMPT]", "[ARGS]", "[THINK]", "<<SYS>>"},
     "[INST]",
     "",
     kTekken,
     MistralVersion::v3},
    {"mistral-v2",
     {"[INST]", "[TOOL_RESULTS]"},
     {"[SYSTEM_PROMPT]", "call_id", "<<SYS>>"},
     "[INST]",
     "",
     kSentencepiece,
     MistralVersion::v2},
    {"mistral-v3",
     {"[INST]"},
     {"[SYSTEM_PROMPT]", "[ARGS]", "[THINK]", "<<SYS>>"},
     "[INST]",
     "",
     kSentencepiece,
     MistralVersion::v3},
    {"mistral-v1",
     {"[INST]"},
     {"[SYSTEM_PROMPT]", "[TOOL_RESULTS]", "[AVAILABLE_TOOLS]", "<<SYS>>"},
     "",
     "[INST]",
     kSentencepiece,
     MistralVersion::v1},
}};

bool fits(const Known& known, std::string_view chat_template, const Tokenizer& tokenizer) {
  const auto written = [&](std::string_view text) { return chat_template.find(text) != std::string_view::npos; };
  const auto unwanted = [&](std::string_view text) { return !text.empty() && written(text); };
  return std::all_of(known.writes.begin(), known.writes.end(), written) &&
         std::none_of(known.lacks.begin(), known.lacks.end(), unwanted) &&
         (known.control.empty() || control_token(tokenizer, known.control)) &&
         (known.no_control.empty() || !control_token(tokenizer, known.no_control)) &&
         tokenizer.kind() == known.tokenizer;
}

// What templates call eos_token; the vocabulary has been checked.
std::string_view eos_token(const GgufMetadata& metadata, const Tokenizer& tokenizer) {
  const auto id = metadata.integer("tokenizer.ggml.eos_token_id");
  return id ? tokenizer.token(static_cast<TokenId>(*id)) : std::string_view();
}

}  // namespace

Result<TokenId> control_token(const Tokenizer& tokenizer, std::string_view token) {
  const auto id = tokenizer.find(token);
  if (!id) {
    return fail(ErrorCode::unsupported, "the vocabulary has no control token {}, which the chat format needs", token);
  }
  if (tokenizer.token_kind(*id) == TokenKind::control) return *id;
  return fail(
      ErrorCode::unsupported,
      "tokenizer.ggml.token_type: {} is no control token, so a user's text could contain it; convert the model again",
      token);
}

Result<std::shared_ptr<const ChatFormat>> ChatFormat::from_metadata(const GgufMetadata& metadata,
                                                                    std::shared_ptr<const Tokenizer> tokenizer) {
  constexpr std::string_view key = "tokenizer.chat_template";
  if (!metadata.contains(key)) {
    return fail(ErrorCode::unsupported,
                "{}: the file has none, so messages cannot be encoded; use a raw text or token ids", key);
  }
  SIROCCO_TRY(const std::string chat_template, metadata.string(key));
  if (chat_template.find("<|im_start|>") != std::string::npos) {
    auto chatml = ChatmlFormat::create(chat_template, eos_token(metadata, *tokenizer), tokenizer);
    if (chatml) return chatml;
    return fail(ErrorCode::unsupported, "{}: \"{}\": {}; use a raw text or token ids", key,
                printable(chat_template, 80), chatml.error().message());
  }
  std::string names = "chatml";
  for (const Known& known : kKnown) {
    names += fmt::format(", {}", known.name);
    if (!fits(known, chat_template, *tokenizer)) continue;
    return MistralFormat::create(known.name, known.version, std::move(tokenizer));
  }
  return fail(ErrorCode::unsupported,
              "{}: \"{}\" is not a format known here for a {} vocabulary ({}); use a raw text or token ids", key,
              printable(chat_template, 80), tokenizer->kind(), names);
}

}  // namespace sirocco

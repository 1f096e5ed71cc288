// Cuts a text into the pieces that byte-pair encoding may merge within, by the regular expression that the model was
// trained with. Immutable; any thread may call.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "engine/base/result.h"

namespace sirocco {

// What tokenizer.ggml.pre stands for.
struct PreTokenizerRules {
  std::string_view name;
  std::string_view pattern;      // as its source writes it
  bool whole_pieces = false;     // a piece that is itself in the vocabulary is not merged up from its bytes
  bool ranked_by_id = false;     // pairs merge in the order of the resulting token's id, not of the list of merges
  bool compose = false;          // the text is brought to Unicode's normal form C first
  bool add_bos_default = false;  // where the file does not say
};

// By the file's name for it, empty if it has none; `mistral` says that the vocabulary has Mistral's control tokens.
// Errors: no name, or an unknown one.
Result<PreTokenizerRules> pre_tokenizer_rules(std::string_view name, bool mistral);

class PreTokenizer {
 public:
  static Result<PreTokenizer> create(std::string_view pattern);

  // Calls `on_piece` for every piece of `text` in order; together they are the whole text, which is valid UTF-8.
  // Time is linear in practice, whatever the text: no limit on matching applies.
  void split(std::string_view text, const std::function<void(std::string_view)>& on_piece) const;

 private:
  explicit PreTokenizer(std::shared_ptr<const void> code) : code_(std::move(code)) {}
  std::shared_ptr<const void> code_;  // a pcre2_code: its header stays out of ours
};

}  // namespace sirocco

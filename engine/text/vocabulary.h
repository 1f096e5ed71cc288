// What every tokenizer reads from a GGUF file: the tokens, what each is, and those with a meaning.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "engine/base/ids.h"
#include "engine/base/result.h"
#include "engine/gguf/gguf_file.h"
#include "engine/text/tokenizer.h"

namespace sirocco {

struct Vocabulary {
  std::vector<std::string> tokens;
  std::vector<TokenKind> kinds;  // one for each token
  std::optional<TokenId> bos;
  std::vector<TokenId> ends;  // sorted, each once
  std::optional<bool> add_bos;

  bool has_control(std::string_view token) const;
};

// Errors: arrays of different lengths, unknown kinds, ids outside the vocabulary.
Result<Vocabulary> read_vocabulary(const GgufMetadata& metadata);

}  // namespace sirocco

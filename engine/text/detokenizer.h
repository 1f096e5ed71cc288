// Turns a stream of tokens into text as it arrives. Never emits half a character: bytes that may still become one are
// held back until they do, or until flush(), which turns what can no longer become valid into U+FFFD. Owned by one
// sequence, called from the engine thread.
#pragma once

#include <memory>
#include <string>

#include "engine/text/tokenizer.h"

namespace sirocco {

class Detokenizer {
 public:
  explicit Detokenizer(std::shared_ptr<const Tokenizer> tokenizer, bool special = false);

  // The text that has become complete with this token; always valid UTF-8, may be empty.
  std::string push(TokenId id);
  // The rest, at the end of the stream.
  std::string flush();

 private:
  std::shared_ptr<const Tokenizer> tokenizer_;
  bool special_;
  bool at_start_ = true;
  std::string held_;
};

}  // namespace sirocco

// Turns a stream of tokens into text as it arrives. Never emits half a character: bytes that may still become one are
// held back until they do, or until flush(), which turns what can no longer become valid into U+FFFD. Owned by one
// sequence, called from the engine thread.
#pragma once

#include <memory>
#include <string>

#include "engine/text/tokenizer.h"

namespace sirocco {

struct DetokenizerOptions {
  bool special = false;    // control tokens are written
  bool continues = false;  // the tokens go on with a text: the space that the first one begins with belongs to it
};

class Detokenizer {
 public:
  explicit Detokenizer(std::shared_ptr<const Tokenizer> tokenizer, DetokenizerOptions options = {});

  // The text that has become complete with this token; always valid UTF-8, may be empty.
  std::string push(TokenId id);
  // The rest, at the end of the stream.
  std::string flush();

 private:
  std::shared_ptr<const Tokenizer> tokenizer_;
  bool special_;
  bool at_start_;
  std::string held_;
};

}  // namespace sirocco

#include "engine/text/detokenizer.h"

#include <utility>

#include "engine/base/utf8.h"

namespace sirocco {

Detokenizer::Detokenizer(std::shared_ptr<const Tokenizer> tokenizer, DetokenizerOptions options)
    : tokenizer_(std::move(tokenizer)), special_(options.special), at_start_(!options.continues) {}

std::string Detokenizer::push(TokenId id) {
  std::string_view piece = tokenizer_->piece(id, special_);
  if (piece.empty()) return {};
  if (at_start_ && tokenizer_->piece_loses_space(id, piece)) piece.remove_prefix(1);
  at_start_ = false;
  held_.append(piece);

  std::string text;
  while (!held_.empty()) {
    const Utf8Step step = utf8_step(held_);
    if (step.state == Utf8State::incomplete) break;
    const std::string_view valid = std::string_view(held_).substr(0, utf8_valid_prefix(held_));
    text.append(valid.empty() ? kReplacementCharacter : valid);
    held_.erase(0, valid.empty() ? step.length : valid.size());
  }
  return text;
}

std::string Detokenizer::flush() {
  return utf8_replace_invalid(std::exchange(held_, {}));
}

}  // namespace sirocco

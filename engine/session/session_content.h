// What was said in a session: a conversation, or the tokens of a plain text; nothing at first, and the first prompt
// decides which of both. A plain value; its functions only look at it and change it.
#pragma once

#include <cstdint>
#include <vector>

#include "engine/base/ids.h"
#include "engine/text/chat_format.h"

namespace sirocco {

// What happens when the text is longer than the context.
enum class SessionOverflow : std::uint8_t { fail, drop_oldest };

struct SessionContent {
  Conversation conversation;
  std::vector<TokenId> tokens;             // of a plain text, the answers' included
  std::vector<std::uint32_t> turn_begins;  // of it: where each turn begins, ascending

  bool is_conversation() const { return !conversation.messages.empty(); }
  bool is_text() const { return !tokens.empty(); }

  // A turn is a message of a user with all that follows it, or what one request appended to a plain text.
  std::uint32_t turns() const;

  // Forgets the last turns. Of a conversation stays what came before the first turn; of a text nothing.
  void rewind(std::uint32_t turns);

  // Forgets the oldest turn of a conversation, and with it whatever is between the system prompt and that turn. False,
  // and nothing is done, if only one turn is left, or if this is no conversation.
  bool drop_oldest();

  // Of what was said; more than tokens times the bytes of the longest token never fit.
  std::size_t bytes() const;
};

}  // namespace sirocco

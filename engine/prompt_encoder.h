// Prompts as tokens: of a single request, and of a session that a request goes on with, made to fit the context as the
// session wants it. Immutable; any thread may call. Part of engine.cc; nobody else includes it.
#pragma once

#include <vector>

#include "engine/engine.h"

namespace sirocco {

class PromptEncoder {
 public:
  explicit PromptEncoder(const EngineParts& parts);

  // Errors: an id beyond the vocabulary, a conversation that the chat format does not allow.
  Result<std::vector<TokenId>> tokenize(const Prompt& prompt) const;

  // Of a request without a session. Also CONTEXT_OVERFLOW: if the text has more bytes than fit in any tokens, it is not
  // even read.
  Result<std::vector<TokenId>> encode(const GenerateRequest& request) const;

  // Appends the request's prompt to the turn's content, of which the whole is the prompt then. Turns are dropped, and
  // counted, where the session says so.
  Result<std::vector<TokenId>> encode(const GenerateRequest& request, SessionTurn& turn) const;

 private:
  Result<void> append(const Prompt& prompt, SessionContent& content) const;
  Result<std::vector<TokenId>> encode(const SessionContent& content, bool prefill_only) const;
  Result<std::vector<TokenId>> encode_beginning(const Conversation& conversation) const;
  Result<void> check_bytes(std::size_t bytes) const;
  Result<std::vector<TokenId>> checked(std::vector<TokenId> prompt) const;

  const EngineParts& parts_;
  std::size_t longest_token_ = 0;  // bytes, as the file writes it
};

}  // namespace sirocco

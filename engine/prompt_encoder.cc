#include "engine/prompt_encoder.h"

#include <algorithm>

namespace sirocco {
namespace {

// An answer without a limit, of which the session knows no more than that it needs room.
constexpr std::uint32_t kAnswerShare = 8;  // of the context

std::size_t bytes_of(const Prompt& prompt) {
  if (const auto* text = std::get_if<TextPrompt>(&prompt)) return text->text.size();
  std::size_t bytes = 0;
  if (const auto* conversation = std::get_if<Conversation>(&prompt))
    for (const ChatMessage& message : conversation->messages) bytes += message.content.size();
  return bytes;
}

}  // namespace

PromptEncoder::PromptEncoder(const EngineParts& parts) : parts_(parts) {
  for (std::size_t id = 0; id < parts.tokenizer->vocabulary_size(); ++id)
    longest_token_ = std::max(longest_token_, parts.tokenizer->token(static_cast<TokenId>(id)).size());
}

Result<std::vector<TokenId>> PromptEncoder::tokenize(const Prompt& prompt) const {
  const Tokenizer& tokenizer = *parts_.tokenizer;
  if (const auto* conversation = std::get_if<Conversation>(&prompt)) {
    if (!parts_.chat) return fail(*parts_.chat_error);
    return parts_.chat->encode(conversation->messages, conversation->tools);
  }
  if (const auto* text = std::get_if<TextPrompt>(&prompt)) {
    std::vector<TokenId> ids = tokenizer.encode(text->text, text->special);
    const std::optional<TokenId> bos = tokenizer.add_bos() ? tokenizer.bos() : std::nullopt;
    if (bos && (ids.empty() || ids.front() != *bos)) ids.insert(ids.begin(), *bos);
    return ids;
  }
  const auto& ids = std::get<std::vector<TokenId>>(prompt);
  for (std::size_t i = 0; i < ids.size(); ++i)
    if (ids[i] < 0 || static_cast<std::size_t>(ids[i]) >= tokenizer.vocabulary_size())
      return fail(ErrorCode::invalid_argument, "token {} at position {} is not in the vocabulary of {}", ids[i], i,
                  tokenizer.vocabulary_size());
  return ids;
}

// Tokenising takes time by the byte. No token stands for more of them than the longest has, so that a text which cannot
// fit whatever its tokens are need not be read.
Result<void> PromptEncoder::check_bytes(std::size_t bytes) const {
  if (bytes <= parts_.context * longest_token_) return {};
  return fail(ErrorCode::context_overflow, "the prompt has {} bytes, more than the context of {} tokens can hold",
              bytes, parts_.context);
}

Result<std::vector<TokenId>> PromptEncoder::checked(std::vector<TokenId> prompt) const {
  if (prompt.empty()) return fail(ErrorCode::invalid_argument, "the prompt is empty");
  if (prompt.size() >= parts_.context)
    return fail(ErrorCode::context_overflow, "the prompt has {} tokens, the context holds {} with the answer",
                prompt.size(), parts_.context);
  return prompt;
}

Result<std::vector<TokenId>> PromptEncoder::encode(const GenerateRequest& request) const {
  SIROCCO_CHECK(check_bytes(bytes_of(request.prompt)));
  const auto* conversation = std::get_if<Conversation>(&request.prompt);
  SIROCCO_TRY(std::vector<TokenId> prompt, request.prefill_only && conversation != nullptr
                                               ? encode_beginning(*conversation)
                                               : tokenize(request.prompt));
  return checked(std::move(prompt));
}

// --- sessions

Result<void> PromptEncoder::append(const Prompt& prompt, SessionContent& content) const {
  if (const auto* conversation = std::get_if<Conversation>(&prompt)) {
    if (content.is_text())
      return fail(ErrorCode::invalid_argument, "this session is a plain text: it goes on with raw text or token ids");
    auto& messages = content.conversation.messages;
    messages.insert(messages.end(), conversation->messages.begin(), conversation->messages.end());
    if (!conversation->tools.empty()) content.conversation.tools = conversation->tools;
    return {};
  }
  if (content.is_conversation())
    return fail(ErrorCode::invalid_argument, "this session is a conversation: it goes on with messages");
  const auto* text = std::get_if<TextPrompt>(&prompt);
  std::vector<TokenId> ids;
  if (text != nullptr && content.is_text()) {
    ids = parts_.tokenizer->encode(text->text, text->special);  // no BOS: it goes on
  } else {
    SIROCCO_TRY(ids, tokenize(prompt));
  }
  if (ids.empty()) return fail(ErrorCode::invalid_argument, "the prompt is empty");
  content.turn_begins.push_back(static_cast<std::uint32_t>(content.tokens.size()));
  content.tokens.insert(content.tokens.end(), ids.begin(), ids.end());
  return {};
}

// What any conversation that goes on from here begins with: what two that differ in the next message of a user have in
// common. Where the format has no place for such a message, the prompt for an answer is as much as can be said.
Result<std::vector<TokenId>> PromptEncoder::encode_beginning(const Conversation& conversation) const {
  Conversation one = conversation;
  Conversation other = conversation;
  one.messages.emplace_back().content = "a";
  other.messages.emplace_back().content = "b";
  auto ids = tokenize(one);
  const auto different = tokenize(other);
  if (!ids || !different) return tokenize(conversation);
  ids->erase(std::mismatch(ids->begin(), ids->end(), different->begin(), different->end()).first, ids->end());
  return ids;
}

Result<std::vector<TokenId>> PromptEncoder::encode(const SessionContent& content, bool prefill_only) const {
  if (!content.is_conversation()) return tokenize(content.tokens);
  return prefill_only ? encode_beginning(content.conversation) : tokenize(content.conversation);
}

// Once there is too much, half of the context is made free: what follows the system prompt is computed again each time
// that a turn is dropped.
Result<std::vector<TokenId>> PromptEncoder::encode(const GenerateRequest& request, SessionTurn& turn) const {
  SessionContent& content = turn.content;
  SIROCCO_CHECK(check_bytes(bytes_of(request.prompt)));
  SIROCCO_CHECK(append(request.prompt, content));
  const bool drops = turn.overflow == SessionOverflow::drop_oldest;
  const auto drop_to = [&](std::size_t bytes) {
    while (content.bytes() > bytes && content.drop_oldest()) ++turn.dropped_turns;
  };
  if (drops && !check_bytes(content.bytes())) drop_to(parts_.context * longest_token_);
  SIROCCO_CHECK(check_bytes(content.bytes()));
  SIROCCO_TRY(std::vector<TokenId> prompt, encode(content, request.prefill_only));
  const std::uint32_t answer = request.prefill_only      ? 1
                               : request.max_tokens == 0 ? parts_.context / kAnswerShare
                                                         : std::min(request.max_tokens, parts_.context / 2);
  if (!drops || prompt.size() + answer <= parts_.context) return checked(std::move(prompt));
  for (std::uint32_t before = UINT32_MAX; before != turn.dropped_turns && prompt.size() > parts_.context / 2;) {
    before = turn.dropped_turns;
    drop_to(std::min(content.bytes() - 1, content.bytes() * (parts_.context / 2) / prompt.size()));
    SIROCCO_TRY(prompt, encode(content, request.prefill_only));
  }
  return checked(std::move(prompt));
}

}  // namespace sirocco

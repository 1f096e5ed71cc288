#include "engine/text/chatml_format.h"

#include <utility>

namespace sirocco {
namespace {

constexpr std::string_view kStart = "<|im_start|>";
constexpr std::string_view kEnd = "<|im_end|>";

std::string_view role_name(Role role) {
  switch (role) {
    case Role::system:
      return "system";
    case Role::user:
      return "user";
    case Role::assistant:
      return "assistant";
    case Role::tool:
      return "tool";
  }
  return "user";
}

// The text that the template writes out between "<|im_start|>system\n" and "<|im_end|>": SmolLM2 and Qwen up to 2.5 put
// it in front where the first message is not a system prompt. A quote or a brace means that it is put together from
// variables instead, as all of them do with the client's own prompt.
std::string default_system_prompt(std::string_view chat_template) {
  for (const std::string_view line_break : {"\n", "\\n"}) {
    const std::string opening = std::string(kStart) + "system" + std::string(line_break);
    for (std::size_t at = chat_template.find(opening); at != std::string_view::npos;
         at = chat_template.find(opening, at + 1)) {
      const std::string_view rest = chat_template.substr(at + opening.size());
      const std::string_view text = rest.substr(0, rest.find(kEnd));
      if (!text.empty() && text.size() < rest.size() && text.find_first_of("'\"{}") == std::string_view::npos) {
        return std::string(text);
      }
    }
  }
  return {};
}

// Qwen3: an earlier answer is what follows its thoughts.
std::string_view without_thoughts(std::string_view answer) {
  constexpr std::string_view closing = "</think>";
  const std::size_t at = answer.rfind(closing);
  if (at == std::string_view::npos) return answer;
  answer.remove_prefix(at + closing.size());
  answer.remove_prefix(std::min(answer.find_first_not_of('\n'), answer.size()));
  return answer;
}

}  // namespace

Result<std::shared_ptr<const ChatFormat>> ChatmlFormat::create(std::string_view chat_template,
                                                               std::shared_ptr<const Tokenizer> tokenizer) {
  SIROCCO_TRY(const TokenId start, control_token(*tokenizer, kStart));
  SIROCCO_TRY(const TokenId end, control_token(*tokenizer, kEnd));
  return std::shared_ptr<const ChatFormat>(new ChatmlFormat(chat_template, std::move(tokenizer), start, end));
}

ChatmlFormat::ChatmlFormat(std::string_view chat_template, std::shared_ptr<const Tokenizer> tokenizer, TokenId start,
                           TokenId end)
    : tokenizer_(std::move(tokenizer)),
      start_(start),
      end_(end),
      default_system_(default_system_prompt(chat_template)),
      begins_with_bos_(chat_template.find("bos_token") != std::string_view::npos),
      leaves_out_thoughts_(chat_template.find("</think>") != std::string_view::npos) {}

void ChatmlFormat::append(std::string_view role, std::string_view content, std::vector<TokenId>& ids) const {
  const auto text = tokenizer_->encode(fmt::format("{}\n{}", role, content));
  const auto line_break = tokenizer_->encode("\n");
  ids.push_back(start_);
  ids.insert(ids.end(), text.begin(), text.end());
  ids.push_back(end_);
  ids.insert(ids.end(), line_break.begin(), line_break.end());
}

Result<std::vector<TokenId>> ChatmlFormat::encode(std::span<const ChatMessage> messages, std::string_view tools) const {
  if (messages.empty()) return fail(ErrorCode::invalid_argument, "messages: at least one is needed");
  if (!tools.empty()) return fail(ErrorCode::unsupported, "tools: the format chatml has none");

  std::vector<TokenId> ids;
  if (begins_with_bos_ && tokenizer_->bos()) ids.push_back(*tokenizer_->bos());
  if (!default_system_.empty() && messages.front().role != Role::system) append("system", default_system_, ids);
  for (std::size_t i = 0; i < messages.size(); ++i) {
    const ChatMessage& message = messages[i];
    if (message.role == Role::tool || !message.tool_calls.empty()) {
      return fail(ErrorCode::unsupported, "messages[{}]: the format chatml has no tools", i);
    }
    const bool shorten = leaves_out_thoughts_ && message.role == Role::assistant;
    append(role_name(message.role), shorten ? without_thoughts(message.content) : message.content, ids);
  }
  const auto answer = tokenizer_->encode("assistant\n");
  ids.push_back(start_);
  ids.insert(ids.end(), answer.begin(), answer.end());
  return ids;
}

}  // namespace sirocco

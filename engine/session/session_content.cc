#include "engine/session/session_content.h"

#include <algorithm>

namespace sirocco {
namespace {

// Indices of the messages with which turns begin. Messages of a user in a row are one.
std::vector<std::size_t> turns_of(const std::vector<ChatMessage>& messages) {
  std::vector<std::size_t> begins;
  for (std::size_t i = 0; i < messages.size(); ++i)
    if (messages[i].role == Role::user && (i == 0 || messages[i - 1].role != Role::user)) begins.push_back(i);
  return begins;
}

}  // namespace

std::uint32_t SessionContent::turns() const {
  return static_cast<std::uint32_t>(is_conversation() ? turns_of(conversation.messages).size() : turn_begins.size());
}

void SessionContent::rewind(std::uint32_t turns) {
  const std::uint32_t left = this->turns() - std::min(turns, this->turns());
  if (is_conversation()) {
    const std::vector<std::size_t> begins = turns_of(conversation.messages);
    if (left < begins.size()) conversation.messages.resize(begins[left]);
  } else if (left < turn_begins.size()) {
    tokens.resize(turn_begins[left]);
    turn_begins.resize(left);
  }
}

bool SessionContent::drop_oldest() {
  std::vector<ChatMessage>& messages = conversation.messages;
  const auto head =
      std::find_if(messages.begin(), messages.end(), [](const auto& m) { return m.role != Role::system; });
  const std::vector<std::size_t> begins = turns_of(messages);
  if (begins.size() < 2) return false;
  messages.erase(head, messages.begin() + static_cast<std::ptrdiff_t>(begins[1]));
  return true;
}

std::size_t SessionContent::bytes() const {
  std::size_t bytes = tokens.size() + conversation.tools.size();
  for (const ChatMessage& message : conversation.messages) {
    bytes += message.content.size();
    for (const ToolCall& call : message.tool_calls) bytes += call.name.size() + call.arguments.size();
  }
  return bytes;
}

}  // namespace sirocco

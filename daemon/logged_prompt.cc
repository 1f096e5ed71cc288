#include "daemon/logged_prompt.h"

#include <fmt/format.h>

#include <string_view>
#include <variant>

#include "daemon/quoted.h"

namespace sirocco::daemon {
namespace {

std::string_view role_name(wire::Role role) {
  switch (role) {
    case wire::Role::system:
      return "system";
    case wire::Role::user:
      return "user";
    case wire::Role::assistant:
      return "assistant";
    case wire::Role::tool:
      break;
  }
  return "tool";
}

std::string text_of(const wire::TextPrompt& prompt) {
  return prompt.text;
}

std::string text_of(const wire::ChatPrompt& prompt) {
  std::string text;
  for (const wire::ChatMessage& message : prompt.messages) {
    if (text.size() > kMaxLoggedBytes) break;
    text += fmt::format("{}{}: {}", text.empty() ? "" : "\n", role_name(message.role), message.content);
  }
  return text;
}

std::string text_of(const wire::TokenPrompt& prompt) {
  std::string text = "tokens";
  for (const std::int32_t id : prompt.ids) {
    if (text.size() > kMaxLoggedBytes) break;
    text += fmt::format(" {}", id);
  }
  return text;
}

}  // namespace

std::string logged_prompt(const wire::Prompt& prompt) {
  return in_quotes(std::visit([](const auto& p) { return text_of(p); }, prompt), kMaxLoggedBytes);
}

}  // namespace sirocco::daemon

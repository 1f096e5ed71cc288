#include "engine/text/chatml_format.h"

#include <algorithm>
#include <utility>

#include "engine/base/utf8.h"
#include "engine/text/jinja.h"

namespace sirocco {
namespace {

// In may_follow_: before the first and after the last message. Of roles there are the three below it.
constexpr std::size_t kBorder = static_cast<std::size_t>(Role::tool);

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

ChatMessage message(Role role, std::string_view content) {
  ChatMessage out;
  out.role = role;
  out.content = content;
  return out;
}

// One of each role that stands in may_follow_, with white space on both sides, to see whether the template changes it.
std::array<ChatMessage, kBorder> samples() {
  return {message(Role::system, " \ns "), message(Role::user, "\n u \n"),
          message(Role::assistant, "<think>\nt\n</think>\n\n a\n ")};
}

Result<std::string> render(std::string_view chat_template, std::string_view bos, std::string_view eos,
                           std::span<const ChatMessage> messages) {
  jinja::List list;
  for (const ChatMessage& one : messages) {
    list.push_back(jinja::make_dictionary(
        {{"role", jinja::make_text(role_name(one.role))}, {"content", jinja::make_text(one.content)}}));
  }
  // As transformers calls it; a token that the model does not have is undefined.
  jinja::Dictionary variables = {{"messages", jinja::make_list(std::move(list))},
                                 {"add_generation_prompt", jinja::Value{true}},
                                 {"tools", jinja::Value{jinja::None{}}},
                                 {"documents", jinja::Value{jinja::None{}}}};
  if (!bos.empty()) variables.emplace("bos_token", jinja::make_text(bos));
  if (!eos.empty()) variables.emplace("eos_token", jinja::make_text(eos));
  return jinja::render(chat_template, std::move(variables));
}

// On one line, and not more of it than an error message can hold.
std::string shown(std::string_view text) {
  constexpr std::size_t most = 200;
  std::string out;
  for (const char c : text.substr(0, utf8_valid_prefix(text.substr(0, most))))
    out += c == '\n' ? "\\n" : std::string(1, c);
  return text.size() > most ? out + "…" : out;
}

std::string roles(std::span<const ChatMessage> messages) {
  std::string out;
  for (const ChatMessage& one : messages) out += fmt::format("{}{}", out.empty() ? "" : ", ", role_name(one.role));
  return out;
}

tl::unexpected<Error> misplaced(const ChatMessage& message, std::size_t index, std::string_view place) {
  return fail(ErrorCode::invalid_argument, "messages[{}]: {} {} is not allowed by the model's template", index,
              role_name(message.role), place);
}

tl::unexpected<Error> not_chatml(std::span<const ChatMessage> messages, const Result<std::string>& rendered) {
  if (!rendered) {
    return fail(ErrorCode::unsupported, "{} is not known here", rendered.error().message());
  }
  return fail(ErrorCode::unsupported, "not ChatML as known here: it makes of ({}): \"{}\"", roles(messages),
              shown(*rendered));
}

}  // namespace

Result<std::shared_ptr<const ChatFormat>> ChatmlFormat::create(std::string_view chat_template,
                                                               std::string_view eos_token,
                                                               std::shared_ptr<const Tokenizer> tokenizer) {
  SIROCCO_TRY(const TokenId start, control_token(*tokenizer, "<|im_start|>"));
  SIROCCO_TRY(const TokenId end, control_token(*tokenizer, "<|im_end|>"));
  const std::string_view bos = tokenizer->bos() ? tokenizer->token(*tokenizer->bos()) : std::string_view();
  std::shared_ptr<ChatmlFormat> format(new ChatmlFormat(std::move(tokenizer), start, end));
  SIROCCO_CHECK(format->learn(
      [&](std::span<const ChatMessage> messages) { return render(chat_template, bos, eos_token, messages); }));
  return format;
}

// ---- what the template does

Result<void> ChatmlFormat::learn(const Template& rendered) {
  SIROCCO_CHECK(learn_beginning_and_end(rendered));
  SIROCCO_CHECK(learn_earlier_answers(rendered));
  learn_order(rendered);
  return {};
}

// Everything before and after the one message of a user.
Result<void> ChatmlFormat::learn_beginning_and_end(const Template& rendered) {
  const std::array user = {samples()[1]};
  const auto whole = rendered(user);
  if (!whole) return not_chatml(user, whole);
  const std::string plain = text(user);
  const std::size_t at = whole->find(plain);
  if (at == std::string::npos) return not_chatml(user, whole);
  opening_ = whole->substr(at + plain.size());

  std::string_view before = std::string_view(*whole).substr(0, at);
  const std::string system_begin = fmt::format("{}system\n", tokenizer_->token(start_));
  const std::string system_end = fmt::format("{}\n", tokenizer_->token(end_));
  const bool bare = before.empty() || before.starts_with(system_begin);
  if (!bare && tokenizer_->bos() && before.starts_with(tokenizer_->token(*tokenizer_->bos()))) {
    begins_with_bos_ = true;
    before.remove_prefix(tokenizer_->token(*tokenizer_->bos()).size());
  }
  if (before.starts_with(system_begin) && before.ends_with(system_end)) {
    default_system_ = before.substr(system_begin.size(), before.size() - system_begin.size() - system_end.size());
  }
  const auto writes_control = [&](std::string_view written) {
    return written.find(tokenizer_->token(start_)) != std::string_view::npos ||
           written.find(tokenizer_->token(end_)) != std::string_view::npos;
  };
  const bool simple = !writes_control(default_system_) && !writes_control(opening_);
  return simple && text(user) == *whole ? Result<void>() : not_chatml(user, whole);
}

Result<void> ChatmlFormat::learn_earlier_answers(const Template& rendered) {
  const auto [system, user, thought] = samples();
  const std::array plain = {user, message(Role::assistant, "\n a\n "), user};
  const std::array thoughtful = {user, thought, user};
  const auto of_plain = rendered(plain);
  const auto of_thoughtful = rendered(thoughtful);
  for (const Answers kept : {Answers::whole, Answers::without_thoughts, Answers::without_thoughts_and_line_breaks}) {
    answers_ = kept;
    if (of_plain == text(plain) && of_thoughtful == text(thoughtful)) return {};
  }
  answers_ = Answers::whole;
  return of_plain == text(plain) ? not_chatml(thoughtful, of_thoughtful) : not_chatml(plain, of_plain);
}

// Two messages at a time, in the shortest conversation that has them.
void ChatmlFormat::learn_order(const Template& rendered) {
  const auto [system, user, answer] = samples();
  const std::array by_role = {system, user, answer};
  const auto agrees = [&](std::span<const ChatMessage> messages) { return rendered(messages) == text(messages); };
  for (std::size_t previous = 0; previous <= kBorder; ++previous) {
    for (std::size_t next = 0; next <= kBorder; ++next) {
      std::vector<ChatMessage> messages;
      if (previous == static_cast<std::size_t>(Role::assistant)) messages.push_back(user);
      if (previous < kBorder) messages.push_back(by_role[previous]);
      if (next < kBorder) messages.push_back(by_role[next]);
      if (next < kBorder && next != static_cast<std::size_t>(Role::user)) messages.push_back(user);
      may_follow_[previous][next] = !messages.empty() && agrees(messages);
    }
  }
  // Qwen3 keeps the thoughts of an answer that no user's message follows.
  bool& system_last = may_follow_[static_cast<std::size_t>(Role::system)][kBorder];
  system_last = system_last && agrees(std::array{user, answer, system});
}

// ---- a conversation

std::string_view ChatmlFormat::kept_of(std::string_view answer) const {
  constexpr std::string_view closing = "</think>";
  const std::size_t thought = answers_ == Answers::whole ? std::string_view::npos : answer.rfind(closing);
  if (thought != std::string_view::npos) answer.remove_prefix(thought + closing.size());
  if (thought != std::string_view::npos || answers_ == Answers::without_thoughts_and_line_breaks) {
    answer.remove_prefix(std::min(answer.find_first_not_of('\n'), answer.size()));
  }
  return answer;
}

std::vector<ChatmlFormat::Part> ChatmlFormat::parts(std::span<const ChatMessage> messages) const {
  std::vector<Part> out;
  const auto add = [&](std::string_view role, std::string_view content) {
    out.push_back({start_, {}});
    out.push_back({{}, fmt::format("{}\n{}", role, content)});
    out.push_back({end_, {}});
    out.push_back({{}, "\n"});
  };
  if (begins_with_bos_) out.push_back({tokenizer_->bos(), {}});
  if (!default_system_.empty() && messages.front().role != Role::system) add("system", default_system_);
  for (const ChatMessage& one : messages) {
    add(role_name(one.role), one.role == Role::assistant ? kept_of(one.content) : std::string_view(one.content));
  }
  out.push_back({start_, {}});
  out.push_back({{}, "assistant\n" + opening_, true});
  return out;
}

std::string ChatmlFormat::text(std::span<const ChatMessage> messages) const {
  std::string out;
  for (const Part& part : parts(messages)) out += part.token ? std::string(tokenizer_->token(*part.token)) : part.text;
  return out;
}

Result<std::vector<TokenId>> ChatmlFormat::encode(std::span<const ChatMessage> messages, std::string_view tools) const {
  if (messages.empty()) return fail(ErrorCode::invalid_argument, "messages: at least one is needed");
  if (!tools.empty()) return fail(ErrorCode::unsupported, "tools: the format chatml has none");
  std::size_t previous = kBorder;
  for (std::size_t i = 0; i < messages.size(); ++i) {
    if (messages[i].role == Role::tool || !messages[i].tool_calls.empty()) {
      return fail(ErrorCode::unsupported, "messages[{}]: the format chatml has no tools", i);
    }
    const auto role = static_cast<std::size_t>(messages[i].role);
    if (!may_follow_[previous][role]) {
      return misplaced(messages[i], i, i == 0 ? "at first" : fmt::format("after {}", role_name(messages[i - 1].role)));
    }
    previous = role;
  }
  if (!may_follow_[previous][kBorder]) return misplaced(messages.back(), messages.size() - 1, "at last");

  std::vector<TokenId> ids;
  for (const Part& part : parts(messages)) {
    if (part.token) {
      ids.push_back(*part.token);
    } else {
      const auto encoded = tokenizer_->encode(part.text, part.own);
      ids.insert(ids.end(), encoded.begin(), encoded.end());
    }
  }
  return ids;
}

}  // namespace sirocco

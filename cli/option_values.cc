#include "cli/option_values.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <functional>
#include <limits>
#include <optional>
#include <utility>

#include "engine/base/bytes.h"

namespace sirocco {
namespace {

// The check returns what is wrong, or nothing; it is not part of --help, where the option's own words stand.
CLI::Validator validator(std::function<std::string(std::string&)> check) {
  return CLI::Validator(std::move(check), "");
}

// CLI11 takes what begins with 0 for octal.
std::optional<std::uint64_t> decimal(std::string_view text) {
  if (text.size() > 1 && text[0] == '0') return std::nullopt;
  std::uint64_t value = 0;
  const auto [rest, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || rest != text.data() + text.size()) return std::nullopt;
  return value;
}

}  // namespace

CLI::Validator whole_number(std::uint64_t low, std::uint64_t high) {
  return validator([low, high](const std::string& text) {
    const auto value = decimal(text);
    if (value && *value >= low && *value <= high) return std::string();
    return fmt::format("{:?} is not a whole number from {} to {}", text, low, high);
  });
}

CLI::Validator number() {
  return validator([](const std::string& text) {
    double value = 0;
    const auto [rest, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    const bool whole = rest == text.data() + text.size() && error != std::errc::invalid_argument;
    return whole ? std::string() : fmt::format("{:?} is not a number", text);
  });
}

CLI::Validator fraction() {
  return validator([](const std::string& text) {
    float value = 0;
    const auto [rest, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    const bool whole = rest == text.data() + text.size() && error == std::errc();
    return whole && value >= 0 && value <= 1 ? std::string() : fmt::format("{:?} is not a number from 0 to 1", text);
  });
}

CLI::Validator byte_size() {
  return validator([](const std::string& text) {
    return parse_bytes(text) ? std::string() : fmt::format("{:?} is not a size, such as 512MiB or 6GiB", text);
  });
}

CLI::Validator one_of(std::vector<std::string> words) {
  return validator([words = std::move(words)](const std::string& text) {
    if (std::find(words.begin(), words.end(), text) != words.end()) return std::string();
    return fmt::format("{:?} is not one of {}", text, fmt::join(words, ", "));
  });
}

CLI::Validator not_empty() {
  return validator([](const std::string& text) { return std::string(text.empty() ? "is empty" : ""); });
}

Result<std::vector<TokenId>> parse_token_ids(std::string_view text) {
  std::vector<TokenId> ids;
  for (std::size_t begin = 0; begin <= text.size();) {
    const std::size_t end = std::min(text.find(',', begin), text.size());
    const std::string_view element = text.substr(begin, end - begin);
    const auto id = decimal(element);
    if (!id || *id > std::numeric_limits<TokenId>::max())
      return fail(ErrorCode::invalid_argument, "element {} is {:?}, not a token id; ids are separated by commas: 1,2,3",
                  ids.size() + 1, element);
    ids.push_back(static_cast<TokenId>(*id));
    begin = end + 1;
  }
  return ids;
}

CLI::Validator token_ids() {
  return validator([](const std::string& text) {
    const auto ids = parse_token_ids(text);
    return ids ? std::string() : ids.error().message();
  });
}

}  // namespace sirocco

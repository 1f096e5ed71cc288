// parse_json: Python's grammar of JSON (json.scanner), which is RFC 8259's with NaN, Infinity and -Infinity.
#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <numeric>
#include <optional>

#include "engine/base/utf8.h"
#include "engine/text/json_text.h"

namespace sirocco {
namespace {

bool is_digit(char c) {
  return c >= '0' && c <= '9';
}

// Python's repr: the shortest digits that read back as the same number, an exponent below 1e-4 and from 1e16 on.
std::string python_float(double value) {
  if (std::isinf(value)) return value < 0 ? "-Infinity" : "Infinity";
  const double magnitude = std::abs(value);
  const bool exponent = magnitude != 0 && (magnitude < 1e-4 || magnitude >= 1e16);
  std::array<char, 64> buffer{};
  const auto end = std::to_chars(buffer.data(), buffer.data() + buffer.size(), value,
                                 exponent ? std::chars_format::scientific : std::chars_format::fixed)
                       .ptr;
  std::string text(buffer.data(), end);
  if (!exponent && text.find('.') == std::string::npos) text += ".0";
  return text;
}

double parse_float(std::string_view text) {
  double value = 0;
  const auto parsed = std::from_chars(text.data(), text.data() + text.size(), value);
  if (parsed.ec == std::errc()) return value;
  return std::strtod(std::string(text).c_str(), nullptr);  // beyond a double's range: tells infinity from zero
}

// Sorting finds equal keys without a hash that a client could make collide.
void keep_last_of_equal_keys(std::vector<JsonMember>& members) {
  std::vector<std::size_t> order(members.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
    const int compared = members[a].key.compare(members[b].key);
    return compared != 0 ? compared < 0 : a < b;
  });
  std::vector<bool> repeats(members.size());
  for (std::size_t i = 0; i < order.size();) {
    JsonMember& first = members[order[i]];
    for (++i; i < order.size() && members[order[i]].key == first.key; ++i) {
      first.value = std::move(members[order[i]].value);
      repeats[order[i]] = true;
    }
  }
  std::size_t kept = 0;
  for (std::size_t i = 0; i < members.size(); ++i) {
    if (repeats[i]) continue;
    if (kept != i) members[kept] = std::move(members[i]);
    ++kept;
  }
  members.resize(kept);
}

class JsonReader {
 public:
  explicit JsonReader(std::string_view text) : text_(text) {}

  Result<Json> document() {
    if (const std::size_t valid = utf8_valid_prefix(text_); valid < text_.size()) {
      at_ = valid;
      return malformed("not UTF-8");
    }
    SIROCCO_TRY(Json value, read());
    if (next() != '\0' || at_ < text_.size()) return malformed("nothing more is expected");
    return value;
  }

 private:
  // The next character that is not white space, which stays; 0 at the end.
  char next() {
    while (at_ < text_.size() && std::string_view(" \t\n\r").find(text_[at_]) != std::string_view::npos) ++at_;
    return at_ < text_.size() ? text_[at_] : '\0';
  }
  bool take(std::string_view word) {
    if (!text_.substr(at_).starts_with(word)) return false;
    at_ += word.size();
    return true;
  }

  tl::unexpected<Error> malformed(std::string_view what) const {
    const std::string_view before = text_.substr(0, at_);
    const auto line = std::count(before.begin(), before.end(), '\n') + 1;
    return fail(ErrorCode::invalid_argument, "JSON: line {}, byte {}: {}", line, at_ - (before.rfind('\n') + 1) + 1,
                what);
  }

  // An array or an object that has begun; a member's key is there before its value.
  struct Open {
    bool object = false;
    std::vector<Json> elements;
    std::vector<JsonMember> members;
  };

  // A value with all that it holds. No recursion: how deep a client's text may be nested is no matter of stacks.
  Result<Json> read() {
    std::vector<Open> open;
    while (true) {
      Json value;
      const char first = next();
      if (first == '[' || first == '{') {
        if (open.size() == kMaxJsonDepth) {
          return fail(ErrorCode::unsupported, "JSON: more than {} levels deep", kMaxJsonDepth);
        }
        ++at_;
        open.push_back({.object = first == '{', .elements = {}, .members = {}});
        if (next() != (first == '{' ? '}' : ']')) {
          SIROCCO_CHECK(read_key(open.back()));
          continue;
        }
        ++at_;
        value = closed(open);
      } else {
        SIROCCO_TRY(value, read_scalar());
      }
      while (true) {
        if (open.empty()) return value;
        add(std::move(value), open.back());
        const char end = open.back().object ? '}' : ']';
        const char after = next();
        if (after != ',' && after != end) return malformed(fmt::format("\",\" or \"{}\" is expected", end));
        ++at_;
        if (after == ',') break;
        value = closed(open);
      }
      SIROCCO_CHECK(read_key(open.back()));
    }
  }

  Result<void> read_key(Open& container) {
    if (!container.object) return {};
    if (next() != '"') return malformed("a key in quotes is expected");
    SIROCCO_TRY(std::string key, read_string());
    if (next() != ':') return malformed("\":\" is expected");
    ++at_;
    container.members.push_back({std::move(key), {}});
    return {};
  }

  static void add(Json&& value, Open& container) {
    if (container.object) {
      container.members.back().value = std::move(value);
    } else {
      container.elements.push_back(std::move(value));
    }
  }

  static Json closed(std::vector<Open>& open) {
    Open last = std::move(open.back());
    open.pop_back();
    if (!last.object) return Json{std::move(last.elements)};
    keep_last_of_equal_keys(last.members);
    return Json{std::move(last.members)};
  }

  Result<Json> read_scalar() {
    if (next() == '"') {
      SIROCCO_TRY(std::string text, read_string());
      return Json{std::move(text)};
    }
    if (take("null")) return Json{nullptr};
    if (take("true")) return Json{true};
    if (take("false")) return Json{false};
    return read_number();
  }

  Result<Json> read_number() {
    const std::size_t begin = at_;
    if (take("NaN") || take("Infinity") || take("-Infinity")) return Json{JsonNumber{taken_since(begin)}};
    take("-");
    if (!take("0") && !take_digits()) {
      at_ = begin;
      return malformed("a value is expected");
    }
    bool integer = true;
    for (const std::string_view part : {".", "eE"}) {
      const std::size_t end = at_;
      if (at_ == text_.size() || part.find(text_[at_]) == std::string_view::npos) continue;
      ++at_;
      if (part != "." && !take("+")) take("-");
      if (take_digits()) {
        integer = false;
      } else {
        at_ = end;  // the number ends before it: whatever it is, it is one thing too many
      }
    }
    const std::string number = taken_since(begin);
    if (!integer) return Json{JsonNumber{python_float(parse_float(number))}};
    return Json{JsonNumber{number == "-0" ? "0" : number}};
  }
  std::string taken_since(std::size_t begin) const { return std::string(text_.substr(begin, at_ - begin)); }
  bool take_digits() {
    const std::size_t begin = at_;
    while (at_ < text_.size() && is_digit(text_[at_])) ++at_;
    return at_ > begin;
  }

  Result<std::string> read_string() {
    std::string out;
    ++at_;
    while (at_ < text_.size() && static_cast<unsigned char>(text_[at_]) >= 0x20) {
      const char c = text_[at_];
      if (c == '"') return ++at_, out;
      if (c == '\\') {
        if (!read_escape(out)) return malformed("no escape that JSON knows");
      } else {
        out += c;
        ++at_;
      }
    }
    return malformed(at_ < text_.size() ? "a control character in a string" : "the string has no end");
  }

  bool read_escape(std::string& out) {
    constexpr std::string_view letters = "\"\\/bfnrt";
    constexpr std::string_view meanings = "\"\\/\b\f\n\r\t";
    const std::size_t letter = letters.find(at_ + 1 < text_.size() ? text_[at_ + 1] : '\0');
    if (letter != std::string_view::npos) {
      out += meanings[letter];
      at_ += 2;
      return true;
    }
    const auto unit = unit_at(at_);
    if (!unit) return false;
    at_ += 6;
    char32_t character = *unit;
    const auto low = *unit >= 0xD800 && *unit < 0xDC00 ? unit_at(at_) : std::nullopt;
    if (low && *low >= 0xDC00 && *low < 0xE000) {
      character = 0x10000 + ((*unit - 0xD800) << 10) + (*low - 0xDC00);
      at_ += 6;
    }
    append_utf8(character, out);
    return true;
  }
  // The number in "\uXXXX".
  std::optional<char32_t> unit_at(std::size_t at) const {
    const std::string_view escape = text_.substr(std::min(at, text_.size()), 6);
    std::uint32_t unit = 0;
    if (escape.size() < 6 || !escape.starts_with("\\u")) return std::nullopt;
    if (std::from_chars(escape.data() + 2, escape.data() + 6, unit, 16).ptr != escape.data() + 6) return std::nullopt;
    return unit;
  }

  std::string_view text_;
  std::size_t at_ = 0;
};

}  // namespace

Result<Json> parse_json(std::string_view text) {
  return JsonReader(text).document();
}

}  // namespace sirocco

#include "engine/text/jinja_lexer.h"

#include <algorithm>
#include <array>
#include <optional>

namespace sirocco::jinja {
namespace {

bool is_name_character(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
}

class Lexer {
 public:
  explicit Lexer(std::string_view source) : source_(source) {}

  Result<std::vector<Piece>> split() {
    while (true) {
      const std::size_t open = next_tag();
      add_text(source_.substr(at_, open - at_), open);
      if (open == std::string_view::npos) return std::move(pieces_);
      at_ = open + 2;
      if (at_ < source_.size() && (source_[at_] == '-' || source_[at_] == '+')) ++at_;
      if (source_[open + 1] == '#') {
        const std::size_t end = source_.find("#}", at_);
        if (end == std::string_view::npos) return fail_at(open, "a comment without an end");
        at_ = end;
        close("#}", source_[end - 1]);
      } else {
        SIROCCO_CHECK(read_tag(open));
      }
    }
  }

 private:
  tl::unexpected<Error> fail_at(std::size_t at, std::string_view what) const {
    return fail(ErrorCode::unsupported, "line {}: {}", line_of(at), what);
  }
  std::size_t line_of(std::size_t at) const {
    return 1 + static_cast<std::size_t>(
                   std::count(source_.begin(), source_.begin() + static_cast<std::ptrdiff_t>(at), '\n'));
  }

  std::size_t next_tag() const {
    for (std::size_t at = source_.find('{', at_); at != std::string_view::npos; at = source_.find('{', at + 1)) {
      if (at + 1 < source_.size() && std::string_view("{%#").find(source_[at + 1]) != std::string_view::npos) return at;
    }
    return std::string_view::npos;
  }

  // `open` is the tag after the text: "{%-" takes the white space before it away, and "{%" the spaces it is indented
  // by.
  void add_text(std::string_view text, std::size_t open) {
    const std::size_t begin = at_;
    if (open != std::string_view::npos) {
      const char sign = open + 2 < source_.size() ? source_[open + 2] : '\0';
      if (sign == '-') {
        text = text.substr(0, text.find_last_not_of(kWhiteSpace) + 1);
      } else if (sign != '+' && source_[open + 1] != '{') {
        const std::size_t line = text.rfind('\n') + 1;
        const bool starts_line = line > 0 || begin == 0 || source_[begin - 1] == '\n';
        if (starts_line && text.find_first_not_of(kWhiteSpace, line) == std::string_view::npos)
          text = text.substr(0, line);
      }
    }
    if (!text.empty())
      pieces_.push_back({.kind = Piece::Kind::text, .line = line_of(begin), .text = std::string(text), .tokens = {}});
  }

  // Steps over the end of a tag, before which `sign` stands, and over the white space that goes with it.
  void close(std::string_view end, char sign) {
    at_ += end.size();
    if (sign == '-') {
      at_ = std::min(source_.find_first_not_of(kWhiteSpace, at_), source_.size());
    } else if (sign != '+' && end != "}}" && at_ < source_.size() && source_[at_] == '\n') {
      ++at_;
    }
  }

  Result<void> read_tag(std::size_t open) {
    const bool output = source_[open + 1] == '{';
    const std::string_view end = output ? "}}" : "%}";
    Piece piece = {
        .kind = output ? Piece::Kind::output : Piece::Kind::statement, .line = line_of(open), .text = {}, .tokens = {}};
    std::size_t braces = 0;  // "}}" inside of a dictionary ends nothing
    while (true) {
      at_ = source_.find_first_not_of(kWhiteSpace, at_);
      if (at_ == std::string_view::npos) return fail_at(open, "a tag without an end");
      const std::string_view rest = source_.substr(at_);
      const bool signed_end = (rest[0] == '-' || rest[0] == '+') && rest.substr(1).starts_with(end);
      if (braces == 0 && (signed_end || rest.starts_with(end))) {
        at_ += signed_end ? 1 : 0;
        close(end, signed_end ? rest[0] : '\0');
        pieces_.push_back(std::move(piece));
        return {};
      }
      SIROCCO_CHECK(read_token(piece.tokens));
      const Token& token = piece.tokens.back();
      if (token.kind == Token::Kind::symbol && token.text == "{") ++braces;
      if (token.kind == Token::Kind::symbol && token.text == "}" && braces > 0) --braces;
    }
  }

  Result<void> read_token(std::vector<Token>& tokens) {
    const char first = source_[at_];
    if (first == '"' || first == '\'') return read_string(first, tokens);
    if (is_name_character(first)) {
      const std::size_t begin = at_;
      while (at_ < source_.size() && is_name_character(source_[at_])) ++at_;
      const std::string_view word = source_.substr(begin, at_ - begin);
      const bool digits = word.find_first_not_of("0123456789") == std::string_view::npos;
      if (!digits && first <= '9') return fail_at(begin, "a number that is no integer");
      tokens.push_back({digits ? Token::Kind::integer : Token::Kind::name, std::string(word)});
      return {};
    }
    constexpr std::array<std::string_view, 23> symbols = {"==", "!=", "<=", ">=", "+", "-", "*", "/",
                                                          "%",  "~",  "|",  ".",  ",", ":", "(", ")",
                                                          "[",  "]",  "{",  "}",  "=", "<", ">"};
    for (const std::string_view symbol : symbols) {
      if (!source_.substr(at_).starts_with(symbol)) continue;
      tokens.push_back({Token::Kind::symbol, std::string(symbol)});
      at_ += symbol.size();
      return {};
    }
    return fail_at(at_, fmt::format("\"{}\"", first));
  }

  Result<void> read_string(char quote, std::vector<Token>& tokens) {
    constexpr std::string_view letters = "\\'\"ntr";
    constexpr std::string_view meanings = "\\'\"\n\t\r";
    const std::size_t begin = at_++;
    std::string text;
    while (at_ < source_.size() && source_[at_] != quote) {
      if (source_[at_] != '\\') {
        text += source_[at_++];
        continue;
      }
      const std::size_t letter = letters.find(at_ + 1 < source_.size() ? source_[at_ + 1] : '\0');
      if (letter == std::string_view::npos) return fail_at(at_, "an escape that is not known");
      text += meanings[letter];
      at_ += 2;
    }
    if (at_ >= source_.size()) return fail_at(begin, "a string without an end");
    ++at_;
    tokens.push_back({Token::Kind::string, std::move(text)});
    return {};
  }

  std::string_view source_;
  std::size_t at_ = 0;
  std::vector<Piece> pieces_;
};

}  // namespace

Result<std::vector<Piece>> split(std::string_view source) {
  if (source.ends_with('\n')) source.remove_suffix(1);
  return Lexer(source).split();
}

}  // namespace sirocco::jinja

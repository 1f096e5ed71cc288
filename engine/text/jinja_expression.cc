#include "engine/text/jinja_expression.h"

#include <algorithm>
#include <charconv>

namespace sirocco::jinja {
namespace {

class Expression {
 public:
  Expression(std::span<const Token> tokens, Scopes& scopes) : tokens_(tokens), scopes_(scopes) {}

  Result<Value> whole() {
    SIROCCO_TRY(Value value, conditional());
    if (at_ < tokens_.size()) return unexpected();
    return value;
  }

 private:
  bool is(std::size_t at, std::string_view word) const {
    return at < tokens_.size() && tokens_[at].kind != Token::Kind::string && tokens_[at].text == word;
  }
  bool take(std::string_view word) {
    if (!is(at_, word)) return false;
    ++at_;
    return true;
  }
  Result<void> expect(std::string_view word) {
    if (!take(word)) return unexpected();
    return {};
  }
  tl::unexpected<Error> unexpected() const {
    if (at_ >= tokens_.size()) return fail(ErrorCode::unsupported, "an expression that ends too early");
    return fail(ErrorCode::unsupported, "\"{}\" where it is not expected", tokens_[at_].text);
  }

  // Where the expression at hand ends, or one of `words` stands outside of its brackets.
  std::size_t ahead(std::initializer_list<std::string_view> words) const {
    constexpr std::string_view opening = "([{", closing = ")]},:";
    std::size_t brackets = 0;
    for (std::size_t at = at_; at < tokens_.size(); ++at) {
      const Token& token = tokens_[at];
      const auto matches = [&](std::string_view word) { return is(at, word); };
      if (brackets == 0 && std::any_of(words.begin(), words.end(), matches)) return at;
      if (token.kind != Token::Kind::symbol) continue;
      if (opening.find(token.text) != std::string_view::npos) {
        ++brackets;
      } else if (closing.find(token.text) != std::string_view::npos) {
        if (brackets == 0) return at;
        if (token.text != "," && token.text != ":") --brackets;
      }
    }
    return tokens_.size();
  }

  // value if condition else other: the condition comes first, though it stands second.
  Result<Value> conditional() {
    if (++depth_ > kMaxDepth) return fail(ErrorCode::unsupported, "an expression nested too deep");
    const std::size_t condition_at = ahead({"if", "else"});
    if (!is(condition_at, "if")) {
      SIROCCO_TRY(Value value, disjunction());
      --depth_;
      return value;
    }
    const std::size_t value_at = std::exchange(at_, condition_at + 1);
    SIROCCO_TRY(const Value condition, disjunction());
    Value value;
    if (condition.truth()) {
      const std::size_t end = ahead({});
      at_ = value_at;
      SIROCCO_TRY(value, disjunction());
      if (at_ != condition_at) return unexpected();
      at_ = end;
    } else if (take("else")) {
      SIROCCO_TRY(value, conditional());
    }
    --depth_;
    return value;
  }

  Result<Value> disjunction() {
    SIROCCO_TRY(Value value, conjunction());
    while (take("or")) {
      if (value.truth()) {
        at_ = ahead({"if", "else"});
      } else {
        SIROCCO_TRY(value, conjunction());
      }
    }
    return value;
  }

  Result<Value> conjunction() {
    SIROCCO_TRY(Value value, negation());
    while (take("and")) {
      if (!value.truth()) {
        at_ = ahead({"or", "if", "else"});
      } else {
        SIROCCO_TRY(value, negation());
      }
    }
    return value;
  }

  Result<Value> negation() {
    bool negated = false;
    bool any = false;
    for (; take("not"); negated = !negated) any = true;
    SIROCCO_TRY(Value value, comparison());
    if (any) return Value{value.truth() != negated};
    return value;
  }

  Result<Value> comparison() {
    SIROCCO_TRY(Value left, sums());
    const bool outside = is(at_, "not") && is(at_ + 1, "in");
    if (outside) ++at_;
    for (const std::string_view op : {"==", "!=", "<", ">", "<=", ">=", "in"}) {
      if (!take(op)) continue;
      SIROCCO_TRY(const Value right, sums());
      bool result = false;
      if (op == "in") {
        SIROCCO_TRY(result, contains(right, left));
        result = result != outside;
      } else if (op == "==" || op == "!=") {
        SIROCCO_TRY(result, equal(left, right));
        result = result == (op == "==");
      } else {
        const auto *a = left.as<std::int64_t>(), *b = right.as<std::int64_t>();
        if (a == nullptr || b == nullptr) return fail(ErrorCode::unsupported, "\"{}\" of what are no integers", op);
        result = op == "<" ? *a < *b : op == ">" ? *a > *b : op == "<=" ? *a <= *b : *a >= *b;
      }
      return Value{result};
    }
    return left;
  }

  Result<Value> sums() {
    SIROCCO_TRY(Value value, remainder());
    while (is(at_, "+") || is(at_, "-") || is(at_, "~")) {
      const std::string_view op = tokens_[at_++].text;
      SIROCCO_TRY(Value right, remainder());
      if (op == "~") {
        SIROCCO_TRY(value.data, written(value));
        SIROCCO_TRY(right.data, written(right));
      } else if (op == "-") {
        SIROCCO_TRY(right, negative(right));
      }
      SIROCCO_TRY(value, sum(value, right));
      SIROCCO_CHECK(pay_for(value));
    }
    return value;
  }
  static Result<Value> negative(const Value& value) {
    const auto* number = value.as<std::int64_t>();
    if (number == nullptr) return fail(ErrorCode::invalid_argument, "\"-\" of what is no integer");
    return Value{*number == INT64_MIN ? INT64_MAX : -*number};
  }

  Result<Value> remainder() {
    const bool minus = take("-");
    SIROCCO_TRY(Value value, postfix());
    if (minus) {
      SIROCCO_TRY(value, negative(value));
    }
    while (take("%")) {
      SIROCCO_TRY(const Value divisor, postfix());
      const auto *a = value.as<std::int64_t>(), *b = divisor.as<std::int64_t>();
      if (a == nullptr || b == nullptr || *a < 0 || *b <= 0) {
        return fail(ErrorCode::unsupported, "\"%\" of what are no positive integers");
      }
      value = Value{*a % *b};
    }
    return value;
  }

  Result<Value> postfix() {
    SIROCCO_TRY(Value value, primary());
    while (true) {
      SIROCCO_CHECK(pay_for(value));
      if (take(".")) {
        SIROCCO_TRY(value, member(value));
      } else if (take("[")) {
        SIROCCO_TRY(value, subscript(value));
      } else if (take("|")) {
        SIROCCO_TRY(const std::string_view name, name_here());
        List given;
        if (take("(")) {
          SIROCCO_TRY(given, values_until(")"));
        }
        SIROCCO_TRY(value, apply_filter(value, name, given));
      } else if (take("is")) {
        const bool negated = take("not");
        SIROCCO_TRY(const std::string_view name, name_here());
        SIROCCO_TRY(const bool passes, passes_test(value, name));
        value = Value{passes != negated};
      } else {
        return value;
      }
    }
  }
  // One step for each value, and more for a large one.
  Result<void> pay_for(const Value& value) {
    const auto* text = value.as<std::string>();
    const List* list = value.list();
    const std::size_t steps = 1 + (text == nullptr ? 0 : text->size() / 16) + (list == nullptr ? 0 : list->size());
    if (!scopes_.spend(steps)) return fail(ErrorCode::unsupported, "a template that takes so long");
    return {};
  }

  Result<std::string_view> name_here() {
    if (at_ >= tokens_.size() || tokens_[at_].kind != Token::Kind::name) return unexpected();
    return std::string_view(tokens_[at_++].text);
  }

  // What Jinja looks up in an object by a name: of what has none, nothing; of nothing, an error.
  static Result<Value> attribute(const Value& object, std::string_view name) {
    if (object.as<Undefined>() != nullptr) {
      return fail(ErrorCode::invalid_argument, "\"{}\" of what is undefined", name);
    }
    const Dictionary* dictionary = object.dictionary();
    const auto found = dictionary == nullptr ? Dictionary::const_iterator() : dictionary->find(name);
    return dictionary == nullptr || found == dictionary->end() ? Value{} : found->second;
  }

  Result<Value> member(const Value& object) {
    SIROCCO_TRY(const std::string_view name, name_here());
    if (!take("(")) return attribute(object, name);
    SIROCCO_TRY(const List given, values_until(")"));
    const auto* text = object.as<std::string>();
    if (text != nullptr) return string_method(*text, name, given);
    return fail(ErrorCode::unsupported, "the method {}() of what is no text", name);
  }

  Result<Value> subscript(const Value& object) {
    Value bounds[3];
    std::size_t colons = 0;
    while (!take("]")) {
      if (take(":")) {
        if (++colons > 2) return unexpected();
      } else {
        SIROCCO_TRY(bounds[colons], conditional());
        if (!is(at_, "]") && !is(at_, ":")) return unexpected();
      }
    }
    const auto* name = bounds[0].as<std::string>();
    if (colons == 0 && name != nullptr) return attribute(object, *name);
    const List* list = object.list();
    if (list == nullptr) return fail(ErrorCode::unsupported, "an index into what is no list");
    if (colons > 0) return slice(*list, bounds[0], bounds[1], bounds[2]);
    const auto* index = bounds[0].as<std::int64_t>();
    if (index == nullptr) return fail(ErrorCode::unsupported, "an index that is no integer");
    return element(*list, *index);
  }

  // Values up to the bracket that closes them.
  Result<List> values_until(std::string_view closing) {
    List values;
    while (!take(closing)) {
      SIROCCO_TRY(Value value, conditional());
      values.push_back(std::move(value));
      if (!is(at_, closing)) SIROCCO_CHECK(expect(","));
    }
    return values;
  }
  Result<Value> new_namespace() {
    Dictionary members;
    while (!take(")")) {
      SIROCCO_TRY(const std::string_view name, name_here());
      SIROCCO_CHECK(expect("="));
      SIROCCO_TRY(Value value, conditional());
      members.insert_or_assign(std::string(name), std::move(value));
      if (!is(at_, ")")) SIROCCO_CHECK(expect(","));
    }
    return make_dictionary(std::move(members));
  }

  Result<Value> primary() {
    if (at_ >= tokens_.size()) return unexpected();
    const Token& token = tokens_[at_];
    if (token.kind == Token::Kind::string) {
      std::string text;
      for (; at_ < tokens_.size() && tokens_[at_].kind == Token::Kind::string; ++at_) text += tokens_[at_].text;
      return Value{std::move(text)};
    }
    if (token.kind == Token::Kind::integer) {
      std::int64_t number = 0;
      const auto parsed = std::from_chars(token.text.data(), token.text.data() + token.text.size(), number);
      if (parsed.ec != std::errc()) return unexpected();
      ++at_;
      return Value{number};
    }
    if (token.kind == Token::Kind::name) return name();
    if (take("(")) {
      SIROCCO_TRY(Value value, conditional());
      SIROCCO_CHECK(expect(")"));
      return value;
    }
    if (!take("[")) return unexpected();
    SIROCCO_TRY(List elements, values_until("]"));
    return make_list(std::move(elements));
  }

  Result<Value> name() {
    const std::string_view word = tokens_[at_++].text;
    if (take("(")) {
      if (word == "namespace") return new_namespace();
      if (word != "raise_exception") return fail(ErrorCode::unsupported, "the call {}()", word);
      SIROCCO_TRY(const List reason, values_until(")"));
      SIROCCO_TRY(const std::string text, written(reason.empty() ? Value{} : reason[0]));
      return fail(ErrorCode::invalid_argument, "the template refuses it: {}", text);
    }
    if (word == "true" || word == "True") return Value{true};
    if (word == "false" || word == "False") return Value{false};
    if (word == "none" || word == "None") return Value{None{}};
    const Value* found = scopes_.find(word);
    return found == nullptr ? Value{} : *found;
  }

  std::span<const Token> tokens_;
  Scopes& scopes_;
  std::size_t at_ = 0;
  int depth_ = 0;
};

}  // namespace

const Value* Scopes::find(std::string_view name) const {
  for (auto scope = variables.rbegin(); scope != variables.rend(); ++scope) {
    if (const auto found = scope->find(name); found != scope->end()) return &found->second;
  }
  return nullptr;
}

bool Scopes::spend(std::size_t steps) {
  if (steps > steps_left) return false;
  steps_left -= steps;
  return true;
}

Result<Value> evaluate(std::span<const Token> tokens, Scopes& scopes) {
  return Expression(tokens, scopes).whole();
}

}  // namespace sirocco::jinja

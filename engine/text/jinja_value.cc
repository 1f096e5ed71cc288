#include "engine/text/jinja_value.h"

#include <algorithm>

#include "engine/text/jinja_lexer.h"

namespace sirocco::jinja {
namespace {

std::string_view stripped_left(std::string_view text, std::string_view characters) {
  return text.substr(std::min(text.find_first_not_of(characters), text.size()));
}
std::string_view stripped_right(std::string_view text, std::string_view characters) {
  return text.substr(0, text.find_last_not_of(characters) + 1);
}

Result<Value> split(std::string_view text, std::string_view separator) {
  if (separator.empty()) return fail(ErrorCode::invalid_argument, "split(): an empty separator");
  List parts;
  for (std::size_t at = text.find(separator); at != std::string_view::npos; at = text.find(separator)) {
    parts.push_back(make_text(text.substr(0, at)));
    text.remove_prefix(at + separator.size());
  }
  parts.push_back(make_text(text));
  return make_list(std::move(parts));
}

Result<Value> length(const Value& value) {
  std::size_t count = 0;
  if (const auto* text = value.as<std::string>()) {
    const auto begins = [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; };
    count = static_cast<std::size_t>(std::count_if(text->begin(), text->end(), begins));
  } else if (const List* list = value.list()) {
    count = list->size();
  } else if (const Dictionary* dictionary = value.dictionary()) {
    count = dictionary->size();
  } else if (value.as<Undefined>() == nullptr) {
    return fail(ErrorCode::invalid_argument, "length of what has none");
  }
  return Value{static_cast<std::int64_t>(count)};
}

// A bound of a slice: counted from the end if negative, then brought into what `low` and `high` allow.
Result<std::int64_t> bound(const Value& value, std::int64_t otherwise, std::int64_t size, std::int64_t low,
                           std::int64_t high) {
  if (value.as<Undefined>() != nullptr || value.as<None>() != nullptr) return otherwise;
  const auto* number = value.as<std::int64_t>();
  if (number == nullptr) return fail(ErrorCode::invalid_argument, "a slice by what is no number");
  return std::clamp(*number < 0 ? *number + size : *number, low, high);
}

}  // namespace

const List* Value::list() const {
  const auto* held = as<std::shared_ptr<const List>>();
  return held == nullptr ? nullptr : held->get();
}

Dictionary* Value::dictionary() const {
  const auto* held = as<std::shared_ptr<Dictionary>>();
  return held == nullptr ? nullptr : held->get();
}

bool Value::truth() const {
  if (const auto* boolean = as<bool>()) return *boolean;
  if (const auto* number = as<std::int64_t>()) return *number != 0;
  if (const auto* text = as<std::string>()) return !text->empty();
  if (const List* values = list()) return !values->empty();
  if (const Dictionary* values = dictionary()) return !values->empty();
  return false;
}

Value make_text(std::string_view text) {
  return Value{std::string(text)};
}
Value make_list(List values) {
  return Value{std::make_shared<const List>(std::move(values))};
}
Value make_dictionary(Dictionary values) {
  return Value{std::make_shared<Dictionary>(std::move(values))};
}

Result<std::string> written(const Value& value) {
  if (value.as<Undefined>() != nullptr) return std::string();
  if (value.as<None>() != nullptr) return std::string("None");
  if (const auto* boolean = value.as<bool>()) return std::string(*boolean ? "True" : "False");
  if (const auto* number = value.as<std::int64_t>()) return std::to_string(*number);
  if (const auto* text = value.as<std::string>()) return *text;
  return fail(ErrorCode::unsupported, "a list or dictionary as text");
}

Result<bool> equal(const Value& left, const Value& right) {
  const auto is_number = [](const Value& value) {
    return value.as<bool>() != nullptr || value.as<std::int64_t>() != nullptr;
  };
  if (left.data.index() != right.data.index()) {
    if (is_number(left) && is_number(right)) return fail(ErrorCode::unsupported, "a boolean compared with a number");
    return false;
  }
  if (const auto* boolean = left.as<bool>()) return *boolean == *right.as<bool>();
  if (const auto* number = left.as<std::int64_t>()) return *number == *right.as<std::int64_t>();
  if (const auto* text = left.as<std::string>()) return *text == *right.as<std::string>();
  if (left.list() != nullptr || left.dictionary() != nullptr) {
    return fail(ErrorCode::unsupported, "lists or dictionaries compared");
  }
  return true;  // None and Undefined
}

Result<bool> contains(const Value& container, const Value& value) {
  const auto* part = value.as<std::string>();
  if (const auto* text = container.as<std::string>(); text != nullptr && part != nullptr) {
    return text->find(*part) != std::string::npos;
  }
  if (const Dictionary* dictionary = container.dictionary(); dictionary != nullptr && part != nullptr) {
    return dictionary->contains(*part);
  }
  if (const List* list = container.list()) {
    for (const Value& element : *list) {
      SIROCCO_TRY(const bool same, equal(element, value));
      if (same) return true;
    }
    return false;
  }
  if (container.as<Undefined>() != nullptr) return false;
  return fail(ErrorCode::invalid_argument, "\"in\" what holds nothing");
}

Result<Value> sum(const Value& left, const Value& right) {
  if (left.as<std::string>() != nullptr && right.as<std::string>() != nullptr) {
    return Value{*left.as<std::string>() + *right.as<std::string>()};
  }
  if (left.as<std::int64_t>() != nullptr && right.as<std::int64_t>() != nullptr) {
    std::int64_t result = 0;
    if (__builtin_add_overflow(*left.as<std::int64_t>(), *right.as<std::int64_t>(), &result)) {
      return fail(ErrorCode::unsupported, "a number beyond 64 bits");
    }
    return Value{result};
  }
  return fail(ErrorCode::invalid_argument, "\"+\" of what cannot be added");
}

Result<Value> element(const List& list, std::int64_t index) {
  const auto size = static_cast<std::int64_t>(list.size());
  if (index < -size || index >= size) return Value{};
  return list[static_cast<std::size_t>(index < 0 ? index + size : index)];
}

Result<Value> slice(const List& list, const Value& begin, const Value& end, const Value& step) {
  const auto size = static_cast<std::int64_t>(list.size());
  const auto* given = step.as<std::int64_t>();
  if (step.as<Undefined>() == nullptr && (given == nullptr || (*given != 1 && *given != -1))) {
    return fail(ErrorCode::unsupported, "a slice with steps other than 1 and -1");
  }
  const std::int64_t direction = given == nullptr ? 1 : *given;
  const std::int64_t low = direction > 0 ? 0 : -1;
  const std::int64_t high = direction > 0 ? size : size - 1;
  SIROCCO_TRY(std::int64_t at, bound(begin, direction > 0 ? low : high, size, low, high));
  SIROCCO_TRY(const std::int64_t stop, bound(end, direction > 0 ? high : low, size, low, high));
  List out;
  for (; direction > 0 ? at < stop : at > stop; at += direction) out.push_back(list[static_cast<std::size_t>(at)]);
  return make_list(std::move(out));
}

Result<Value> string_method(const std::string& text, std::string_view name, const List& arguments) {
  std::vector<std::string_view> given;
  for (const Value& argument : arguments) {
    if (argument.as<std::string>() == nullptr) return fail(ErrorCode::unsupported, "{}() with what is no text", name);
    given.push_back(*argument.as<std::string>());
  }
  const std::string_view first = given.empty() ? kWhiteSpace : given[0];
  const std::size_t count = given.size();
  if (name == "strip" && count <= 1) return make_text(stripped_left(stripped_right(text, first), first));
  if (name == "lstrip" && count <= 1) return make_text(stripped_left(text, first));
  if (name == "rstrip" && count <= 1) return make_text(stripped_right(text, first));
  if (name == "startswith" && count == 1) return Value{text.starts_with(first)};
  if (name == "endswith" && count == 1) return Value{text.ends_with(first)};
  if (name == "split" && count == 1) return split(text, first);
  return fail(ErrorCode::unsupported, "the method {}() of a text with {} arguments", name, count);
}

Result<Value> apply_filter(const Value& value, std::string_view name, const List& arguments) {
  if (name == "default" && !arguments.empty()) {
    const bool if_false = arguments.size() == 2 && arguments[1].truth();
    return value.as<Undefined>() != nullptr || (if_false && !value.truth()) ? arguments[0] : value;
  }
  if (name == "length" && arguments.empty()) return length(value);
  if ((name == "trim" || name == "string") && arguments.empty()) {
    SIROCCO_TRY(const std::string text, written(value));
    return name == "string" ? Value{text} : string_method(text, "strip", {});
  }
  return fail(ErrorCode::unsupported, "the filter {} with {} arguments", name, arguments.size());
}

Result<bool> passes_test(const Value& value, std::string_view name) {
  const bool undefined = value.as<Undefined>() != nullptr;
  const bool text = value.as<std::string>() != nullptr;
  const bool mapping = value.dictionary() != nullptr;
  if (name == "defined") return !undefined;
  if (name == "undefined") return undefined;
  if (name == "none") return value.as<None>() != nullptr;
  if (name == "string") return text;
  if (name == "mapping") return mapping;
  if (name == "iterable" || name == "sequence") return text || mapping || undefined || value.list() != nullptr;
  if (name == "boolean") return value.as<bool>() != nullptr;
  if (name == "true") return value.as<bool>() != nullptr && value.truth();
  if (name == "false") return value.as<bool>() != nullptr && !value.truth();
  return fail(ErrorCode::unsupported, "the test \"is {}\"", name);
}

}  // namespace sirocco::jinja

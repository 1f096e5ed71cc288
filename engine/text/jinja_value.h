// What the expressions of a Jinja template compute with: the few types of Python that chat templates meet, and what can
// be done to them.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "engine/base/result.h"

namespace sirocco::jinja {

struct Undefined {};
struct None {};
struct Value;
using List = std::vector<Value>;
using Dictionary = std::map<std::string, Value, std::less<>>;

// Lists and dictionaries are shared as Python shares them; only a namespace() is ever changed.
struct Value {
  std::variant<Undefined, None, bool, std::int64_t, std::string, std::shared_ptr<const List>,
               std::shared_ptr<Dictionary>>
      data = Undefined{};

  template <class T>
  const T* as() const {
    return std::get_if<T>(&data);
  }
  const List* list() const;        // null: it is none
  Dictionary* dictionary() const;  // null: it is none
  bool truth() const;
};

Value make_text(std::string_view text);
Value make_list(List values);
Value make_dictionary(Dictionary values);

// All errors: unsupported, for what is not known here; invalid_argument, for what Python refuses too.
Result<std::string> written(const Value& value);  // as {{ value }} writes it
Result<bool> equal(const Value& left, const Value& right);
Result<bool> contains(const Value& container, const Value& value);
Result<Value> sum(const Value& left, const Value& right);
Result<Value> element(const List& list, std::int64_t index);  // from the end if negative; Undefined beyond
Result<Value> slice(const List& list, const Value& begin, const Value& end, const Value& step);  // absent: Undefined
Result<Value> string_method(const std::string& text, std::string_view name, const List& arguments);
Result<Value> apply_filter(const Value& value, std::string_view name, const List& arguments);
Result<bool> passes_test(const Value& value, std::string_view name);

}  // namespace sirocco::jinja

// JSON as the reference implementations read and write it: what Python's json.loads takes and what its
// json.dumps(value, ensure_ascii=False) makes of that, which is the text that a model sees. Objects keep the order of
// their keys. The text comes from clients: depth is limited, and time is n log n whatever it says.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "engine/base/result.h"

namespace sirocco {

struct JsonMember;

// A number is kept as Python writes it: an integer with all its digits, however many, and NaN, Infinity and -Infinity.
struct JsonNumber {
  std::string text;
};

struct Json {
  std::variant<std::nullptr_t, bool, JsonNumber, std::string, std::vector<Json>, std::vector<JsonMember>> value;

  bool is_null() const { return std::holds_alternative<std::nullptr_t>(value); }
  bool is_object() const { return std::holds_alternative<std::vector<JsonMember>>(value); }
  const std::string* string() const { return std::get_if<std::string>(&value); }             // null: it is none
  const std::vector<Json>* array() const { return std::get_if<std::vector<Json>>(&value); }  // null: it is none
  const Json* find(std::string_view key) const;  // the member of an object; null: none, or no object
  std::string_view kind() const;                 // "null", "boolean", "number", "string", "array", "object"
};

struct JsonMember {
  std::string key;
  Json value;
};

// Of equal keys the last value counts, in the first one's place; half of a surrogate pair becomes U+FFFD. Errors:
// invalid_argument says where the text is no JSON; unsupported, that it is nested more than kMaxJsonDepth levels deep,
// which is about where Python gives up too.
Result<Json> parse_json(std::string_view text);
inline constexpr std::size_t kMaxJsonDepth = 900;

std::string python_json(const Json& value);

}  // namespace sirocco

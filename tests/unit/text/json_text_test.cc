#include "engine/text/json_text.h"

#include <gtest/gtest.h>

#include <chrono>

#include "tests/unit/text/vocabularies.h"

namespace sirocco {
namespace {

std::string error(std::string_view json) {
  const auto value = parse_json(json);
  return value ? "no error" : value.error().message();
}

// Integers of any length, NaN and infinities, floats' shortest digits, order and repetition of keys, escapes.
TEST(JsonText, IsReadAndWrittenAsPythonDoes) {
  for (const nlohmann::json& pair : test::golden("json.json")) {
    const auto text = pair.at(0).get<std::string>();
    const auto value = parse_json(text);
    ASSERT_EQ(value.has_value(), !pair.at(1).is_null()) << text << ": " << error(text);
    if (!value) {
      EXPECT_EQ(value.error().code(), ErrorCode::invalid_argument) << text;
    } else {
      EXPECT_EQ(python_json(*value), pair.at(1).get<std::string>()) << text;
    }
  }
}

TEST(JsonText, ErrorsSayWhere) {
  EXPECT_EQ(error("[1,\n 2 3]"), "JSON: line 2, byte 4: \",\" or \"]\" is expected");
  EXPECT_EQ(error("{\"a\": tru}"), "JSON: line 1, byte 7: a value is expected");
  EXPECT_EQ(error("{a: 1}"), "JSON: line 1, byte 2: a key in quotes is expected");
  EXPECT_EQ(error("\"abc"), "JSON: line 1, byte 5: the string has no end");
  EXPECT_EQ(error("\"a\\qc\""), "JSON: line 1, byte 3: no escape that JSON knows");
  EXPECT_EQ(error("[1] x"), "JSON: line 1, byte 5: nothing more is expected");
  EXPECT_EQ(error("\"\xFF\""), "JSON: line 1, byte 2: not UTF-8");
  EXPECT_EQ(error(""), "JSON: line 1, byte 1: a value is expected");
}

TEST(JsonText, DepthIsLimitedAndTooDeepIsNotMalformed) {
  const std::string deepest = std::string(900, '[') + std::string(900, ']');
  EXPECT_EQ(python_json(parse_json(deepest).value()), deepest);
  for (const std::string& text : {std::string(1'000'000, '['), std::string(901, '[') + std::string(901, ']')}) {
    EXPECT_EQ(error(text), "JSON: more than 900 levels deep");
    EXPECT_EQ(parse_json(text).error().code(), ErrorCode::unsupported);
  }
}

// Looking through the keys before each one would take 10^10 comparisons here.
TEST(JsonText, ManyKeysAreNotQuadratic) {
  std::string text = "{";
  for (int i = 0; i < 200'000; ++i) text += "\"key" + std::to_string(i % 150'000) + "\": " + std::to_string(i) + ", ";
  text += "\"last\": 0}";
  const auto begin = std::chrono::steady_clock::now();
  const auto value = parse_json(text);
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(10));
  ASSERT_TRUE(value);
  EXPECT_EQ(std::get<std::vector<JsonMember>>(value->value).size(), 150'001U);
  EXPECT_EQ(python_json(*value->find("key0")), "150000");
}

}  // namespace
}  // namespace sirocco

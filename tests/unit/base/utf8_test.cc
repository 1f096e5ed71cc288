#include "engine/base/utf8.h"

#include <gtest/gtest.h>

namespace sirocco {
namespace {

using namespace std::string_literals;

// Each pair: bytes, and how Python decodes them with errors="replace".
TEST(Utf8, ReplacesMaximalSubpartsAsPythonDoes) {
  const std::string r(kReplacementCharacter);
  EXPECT_EQ(utf8_replace_invalid("abc é 你 👋\0x"s), "abc é 你 👋\0x"s);
  EXPECT_EQ(utf8_replace_invalid(""), "");
  EXPECT_EQ(utf8_replace_invalid("\x80"), r);
  EXPECT_EQ(utf8_replace_invalid("a\xFF\xFE"
                                 "b"),
            "a" + r + r + "b");
  EXPECT_EQ(utf8_replace_invalid("\xC0\xAF"), r + r);                  // overlong
  EXPECT_EQ(utf8_replace_invalid("\xE0\x80\xAF"), r + r + r);          // overlong
  EXPECT_EQ(utf8_replace_invalid("\xED\xA0\x80"), r + r + r);          // a surrogate
  EXPECT_EQ(utf8_replace_invalid("\xF4\x90\x80\x80"), r + r + r + r);  // beyond U+10FFFF
  EXPECT_EQ(utf8_replace_invalid("\xF5\x80"), r + r);
  EXPECT_EQ(utf8_replace_invalid("\xE4\xBD"
                                 "x"),
            r + "x");  // cut short: one
  EXPECT_EQ(utf8_replace_invalid("\xF0\x9F\x91"), r);
  EXPECT_EQ(utf8_replace_invalid("\xF0\x9F\xE4\xBD\xA0"), r + "你");
  EXPECT_EQ(utf8_replace_invalid("\xE4\xE4\xBD"), r + r);
}

TEST(Utf8, TellsWhatMayStillBecomeACharacterFromWhatCannot) {
  EXPECT_EQ(utf8_step("\xF0\x9F\x91").state, Utf8State::incomplete);
  EXPECT_EQ(utf8_step("\xF0\x9F\x91").length, 3U);
  EXPECT_EQ(utf8_step("\xE0\x80").state, Utf8State::invalid);
  EXPECT_EQ(utf8_step("\xE0\x80").length, 1U);
  EXPECT_EQ(utf8_step("\xE0\xA0").state, Utf8State::incomplete);
  EXPECT_EQ(utf8_step("👋x").state, Utf8State::valid);
  EXPECT_EQ(utf8_step("👋x").length, 4U);
  EXPECT_EQ(utf8_valid_prefix("a你\xE4\xBD"), 4U);
}

TEST(Utf8, AppendsCharactersAndReplacesWhatIsNone) {
  std::string text;
  for (const char32_t character : {U'\0', U'a', U'\x7F', U'\x80', U'\u07FF', U'\u0800', U'\uD7FF', U'\uE000', U'\uFFFF',
                                   U'\U00010000', U'\U0010FFFF'}) {
    append_utf8(character, text);
  }
  EXPECT_EQ(text,
            "\0a\x7F\xC2\x80\xDF\xBF\xE0\xA0\x80\xED\x9F\xBF\xEE\x80\x80\xEF\xBF\xBF\xF0\x90\x80\x80\xF4\x8F\xBF\xBF"s);
  text.clear();
  for (const std::uint32_t none : {0xD800U, 0xDFFFU, 0x110000U}) append_utf8(static_cast<char32_t>(none), text);
  EXPECT_EQ(text, "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD");
}

}  // namespace
}  // namespace sirocco

#include "engine/base/printable.h"

#include <gtest/gtest.h>

namespace sirocco {
namespace {

using namespace std::string_literals;

TEST(Printable, TextOfAnyLanguageStaysAsItIs) {
  for (const char* text : {"", "llama", "blk.0.attn_q.weight", "Grüße, 世界 👋", "▁the", "\u00A0\u00AD"}) {
    EXPECT_TRUE(is_printable(text)) << text;
    EXPECT_EQ(printable(text), text);
  }
}

TEST(Printable, WhatATerminalObeysBecomesASpace) {
  for (const std::string& text : {"\x1B"s, "\a"s, "\0"s, "\x7F"s, "\n"s, "\r"s, "\t"s, "\u0080"s, "\u009B"s, "\u009F"s,
                                  "\u2028"s, "\u2029"s, "\u202E"s, "\u2066"s, "\u2069"s}) {
    EXPECT_FALSE(is_printable("a" + text + "b"));
    EXPECT_EQ(printable("a" + text + "b"), "a b");
  }
  EXPECT_EQ(printable("\x1B[31mred\x1B]0;title\a"), " [31mred ]0;title ");
}

TEST(Printable, WhatIsNoUtf8IsReplaced) {
  for (const char* text : {"\xFF", "\x9B", "\xC0\x9B", "\xE2\x80"}) EXPECT_FALSE(is_printable(text));
  EXPECT_EQ(printable("ll\xFF\x9B"
                      "31m\xE2\x80"),
            "ll\uFFFD\uFFFD31m\uFFFD");
}

TEST(Printable, LongTextIsCutBetweenCharacters) {
  EXPECT_EQ(printable("abcdef", 6), "abcdef");
  EXPECT_EQ(printable("abcdefg", 6), "abcdef…");
  EXPECT_EQ(printable("ééé", 5), "éé…");
  EXPECT_EQ(printable(std::string(1 << 20, 'x')).size(), 100U + 3U);
}

}  // namespace
}  // namespace sirocco

#include "ipc/wire/utf8.h"

#include <gtest/gtest.h>

namespace sirocco::wire {
namespace {

TEST(Utf8, WellFormedTextIsAccepted) {
  for (const char* text : {"", "plain", "naïve", "한국어", "🕐", "\xED\x9F\xBF", "\xEE\x80\x80", "\xF4\x8F\xBF\xBF"}) {
    EXPECT_TRUE(is_utf8(text)) << text;
  }
  EXPECT_TRUE(is_utf8(std::string_view("a\0b", 3)));
}

TEST(Utf8, OverlongSurrogateTruncatedAndStrayBytesAreRefused) {
  for (const char* text :
       {"\x80", "\xC0\x80", "\xC1\xBF", "\xE0\x9F\xBF", "\xED\xA0\x80", "\xF0\x8F\xBF\xBF", "\xF4\x90\x80\x80",
        "\xF5\x80\x80\x80", "\xFF", "\xC3", "\xE2\x82", "a\xF0\x9F\x95", "\xC3x", "\xE2\x82x"}) {
    EXPECT_FALSE(is_utf8(text)) << testing::PrintToString(text);
  }
}

TEST(Printable, EveryResultIsUtf8WithoutControlCharacters) {
  EXPECT_EQ(printable("naïve", 100), "naïve");
  EXPECT_EQ(printable("a\xFF"
                      "b\n\x7F"
                      "c",
                      100),
            "a\xEF\xBF\xBD"
            "b  c");
  EXPECT_EQ(printable("\xC3", 100), "\xEF\xBF\xBD");
}

TEST(Printable, LongTextIsCutBetweenCharacters) {
  EXPECT_EQ(printable("aé", 3), "aé");
  EXPECT_EQ(printable("aéb", 2), "a");
  EXPECT_EQ(printable("\xFF", 2), "");
}

}  // namespace
}  // namespace sirocco::wire

#include "engine/sample/stop_strings.h"

#include <gtest/gtest.h>

#include <cstdint>

namespace sirocco {
namespace {

using Output = StopStrings::Output;

struct Shown {
  std::string text;
  std::string matched;
  bool operator==(const Shown&) const = default;
};

// All that a reader sees when `text` arrives cut after every byte whose bit is set in `cuts`.
Shown shown(const std::vector<std::string>& stops, std::string_view text, std::uint32_t cuts) {
  StopStrings stop_strings(stops);
  Shown all;
  std::size_t begin = 0;
  for (std::size_t end = 1; end <= text.size(); ++end) {
    if (end < text.size() && (cuts >> (end - 1) & 1) == 0) continue;
    const Output output = stop_strings.push(text.substr(begin, end - begin));
    begin = end;
    all.text += output.text;
    if (output.stopped) {
      all.matched = output.matched;
      EXPECT_EQ(stop_strings.flush(), "");
      return all;
    }
  }
  all.text += stop_strings.flush();
  return all;
}

// The definition, in the plainest words: the first end of any stop string, and of those that end there the longest.
Shown defined(const std::vector<std::string>& stops, std::string_view text) {
  for (std::size_t end = 1; end <= text.size(); ++end) {
    std::string longest;
    for (const std::string& stop : stops) {
      if (stop.size() > longest.size() && text.substr(0, end).ends_with(stop)) longest = stop;
    }
    if (!longest.empty()) return {std::string(text.substr(0, end - longest.size())), longest};
  }
  return {std::string(text), ""};
}

TEST(StopStrings, AnyCutOfTheTextShowsTheSame) {
  const std::vector<std::vector<std::string>> all_stops = {
      {"aa"},      {"ab"},    {"aab"},     {"abab"}, {"ab", "ba"},   {"abb", "b"}, {"abab", "ba"},
      {"b", "ab"}, {"aabaa"}, {"bbb", ""}, {},       {"baab", "aa"}, {"a", "a"},   {"bb", "abba", "aaaa"},
  };
  constexpr std::size_t kLength = 7;
  for (const auto& stops : all_stops) {
    for (std::uint32_t letters = 0; letters < 1U << kLength; ++letters) {
      std::string text;
      for (std::size_t i = 0; i < kLength; ++i) text += (letters >> i & 1) != 0 ? 'b' : 'a';
      const Shown expected = defined(stops, text);
      for (std::uint32_t cuts = 0; cuts < 1U << (kLength - 1); ++cuts) {
        ASSERT_EQ(shown(stops, text, cuts), expected) << text << " cut " << cuts;
      }
    }
  }
}

TEST(StopStrings, Utf8TextIsShownInWholeCharacters) {
  // The stop's first byte C3 begins "è" too: it is held only where it really is the stop's character.
  StopStrings stop_strings({"é🌍"});
  EXPECT_EQ(stop_strings.push("très").text, "très");
  EXPECT_EQ(stop_strings.push("café").text, "caf");
  EXPECT_EQ(stop_strings.push("🌎").text, "é🌎");
  EXPECT_EQ(stop_strings.push("é").text, "");
  const Output last = stop_strings.push("🌍 et plus");
  EXPECT_EQ(last.text, "");
  EXPECT_TRUE(last.stopped);
  EXPECT_EQ(last.matched, "é🌍");
}

TEST(StopStrings, TextThatCannotBeAStopIsNotHeldBack) {
  StopStrings stop_strings({"</s>", "\n\nUser:"});
  EXPECT_EQ(stop_strings.push("hello <").text, "hello ");
  EXPECT_EQ(stop_strings.push("b>").text, "<b>");
  EXPECT_EQ(stop_strings.push("\n\n").text, "");
  EXPECT_EQ(stop_strings.push("\nUse").text, "\n");
  EXPECT_EQ(stop_strings.flush(), "\n\nUse");
  EXPECT_EQ(stop_strings.flush(), "");
}

TEST(StopStrings, NothingFollowsAStop) {
  StopStrings stop_strings({"END"});
  EXPECT_EQ(stop_strings.push("fin END and").text, "fin ");
  const Output after = stop_strings.push("more");
  EXPECT_EQ(after.text, "");
  EXPECT_TRUE(after.stopped);
  EXPECT_EQ(after.matched, "END");
  EXPECT_EQ(stop_strings.flush(), "");
}

TEST(StopStrings, WithoutStopStringsTextPassesAtOnce) {
  StopStrings stop_strings({"", ""});
  EXPECT_EQ(stop_strings.push("anything").text, "anything");
  EXPECT_EQ(stop_strings.flush(), "");
}

}  // namespace
}  // namespace sirocco

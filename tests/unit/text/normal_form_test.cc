#include "engine/text/normal_form.h"

#include <gtest/gtest.h>
#include <rapidcheck.h>
#include <utf8proc.h>

#include <chrono>
#include <cstdlib>
#include <memory>
#include <vector>

namespace sirocco {
namespace {

// utf8proc's own, quadratic in a run of marks.
std::string reference(const std::string& text) {
  const std::unique_ptr<utf8proc_uint8_t, decltype(&std::free)> form(
      utf8proc_NFC(reinterpret_cast<const utf8proc_uint8_t*>(text.c_str())), std::free);
  return reinterpret_cast<const char*>(form.get());
}

std::string utf8(const std::vector<utf8proc_int32_t>& characters) {
  std::string out;
  for (const utf8proc_int32_t character : characters) {
    utf8proc_uint8_t bytes[4];
    out.append(reinterpret_cast<const char*>(bytes), static_cast<std::size_t>(utf8proc_encode_char(character, bytes)));
  }
  return out;
}

std::string repeated(std::string_view text, std::size_t times) {
  std::string out;
  for (std::size_t i = 0; i < times; ++i) out += text;
  return out;
}

// python3 -c 'import unicodedata; print(ascii(unicodedata.normalize("NFC", INPUT)))'
TEST(NormalFormC, ComposesOrdersAndLeavesExclusionsApart) {
  EXPECT_EQ(normal_form_c(""), "");
  EXPECT_EQ(normal_form_c("e\u0301cole"), "\u00e9cole");
  EXPECT_EQ(normal_form_c("q\u0307\u0323"), "q\u0323\u0307");
  EXPECT_EQ(normal_form_c("a\u0301\u0323\u0302"), "\u1ea1\u0301\u0302");
  EXPECT_EQ(normal_form_c("\u1100\u1161\u11a8"), "\uac01");
  EXPECT_EQ(normal_form_c("\u212b \u1f82 \u0344"), "\u00c5 \u1f82 \u0308\u0301");
  EXPECT_EQ(normal_form_c("\u0958"), "\u0915\u093c");  // excluded from composition
  EXPECT_EQ(normal_form_c("\u0323\u0301x"), "\u0323\u0301x");
}

TEST(NormalFormC, EqualsUtf8procsOwn) {
  const auto character = rc::gen::oneOf(
      rc::gen::inRange<utf8proc_int32_t>(0x41, 0x250), rc::gen::inRange<utf8proc_int32_t>(0x300, 0x370),
      rc::gen::inRange<utf8proc_int32_t>(0x900, 0xE00), rc::gen::inRange<utf8proc_int32_t>(0x1DC0, 0x2000),
      rc::gen::inRange<utf8proc_int32_t>(0x1100, 0x1200), rc::gen::inRange<utf8proc_int32_t>(0xAC00, 0xD7A4),
      rc::gen::inRange<utf8proc_int32_t>(0xF900, 0x10000), rc::gen::inRange<utf8proc_int32_t>(0x10000, 0x110000));
  EXPECT_TRUE(rc::check([&] {
    const std::string text = utf8(*rc::gen::container<std::vector<utf8proc_int32_t>>(character));
    RC_ASSERT(normal_form_c(text) == reference(text));
  }));
}

// Two marks that stand in the wrong order again and again: sorting them by neighbours would take 10^11 steps.
TEST(NormalFormC, AMegabyteOfMarksIsNotQuadratic) {
  constexpr std::size_t pairs = 250'000;
  const auto begin = std::chrono::steady_clock::now();
  const std::string form = normal_form_c("e" + repeated("\u0301\u0323", pairs));
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(20));
  EXPECT_EQ(form, "\u1eb9" + repeated("\u0323", pairs - 1) + repeated("\u0301", pairs));
}

}  // namespace
}  // namespace sirocco

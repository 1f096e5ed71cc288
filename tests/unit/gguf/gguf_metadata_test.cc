#include <gtest/gtest.h>

#include "engine/gguf/gguf_file.h"

namespace sirocco {
namespace {

GgufMetadata sample() {
  GgufMetadata metadata;
  metadata.set("i8", std::int8_t{-1});
  metadata.set("u16", std::uint16_t{65535});
  metadata.set("i64", std::int64_t{12});
  metadata.set("f32", 0.25F);
  metadata.set("bool", true);
  metadata.set("text", std::string("x"));
  metadata.set("u64s", GgufArray(std::vector<std::uint64_t>{1, ~std::uint64_t{0}}));
  metadata.set("i8s", GgufArray(std::vector<std::int8_t>{-3, 4}));
  return metadata;
}

TEST(GgufMetadata, AnyIntegerTypeWillDoForAnInteger) {
  EXPECT_EQ(sample().integer("u16"), 65535U);
  EXPECT_EQ(sample().integer("i64"), 12U);
  EXPECT_EQ(sample().integers("i8s"), (std::vector<std::int64_t>{-3, 4}));
}

TEST(GgufMetadata, AnyNumberWillDoForAFloat) {
  EXPECT_EQ(sample().number("f32"), 0.25);
  EXPECT_EQ(sample().number("i8"), -1.0);
  EXPECT_EQ(sample().numbers("i8s"), (std::vector<float>{-3, 4}));
}

TEST(GgufMetadata, ErrorsNameTheKeyAndBothTypes) {
  const GgufMetadata m = sample();
  EXPECT_EQ(m.integer("none").error().message(), "metadata key none is missing");
  EXPECT_EQ(m.integer("i8").error().message(), "metadata key i8 is -1, expected 0 or more");
  EXPECT_EQ(m.integer("f32").error().message(), "metadata key f32 is of type f32, expected an integer");
  EXPECT_EQ(m.integer("bool").error().message(), "metadata key bool is of type boolean, expected an integer");
  EXPECT_EQ(m.integer("i8s").error().message(), "metadata key i8s is an array of i8, expected an integer");
  EXPECT_EQ(m.number("text").error().message(), "metadata key text is of type string, expected a number");
  EXPECT_EQ(m.string("u16").error().message(), "metadata key u16 is of type u16, expected a string");
  EXPECT_EQ(m.strings("i8s").error().message(), "metadata key i8s is an array of i8, expected an array of strings");
  EXPECT_EQ(m.integers("u64s").error().message(), "metadata key u64s holds 18446744073709551615, more than 63 bits");
}

}  // namespace
}  // namespace sirocco

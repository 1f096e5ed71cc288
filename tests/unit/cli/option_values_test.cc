#include "cli/option_values.h"

#include <gtest/gtest.h>

#include <string>

namespace sirocco {
namespace {

// What is wrong with the value; empty if nothing is.
std::string wrong(const CLI::Validator& validator, std::string value) {
  return validator(value);
}

TEST(OptionValues, WholeNumbersAreDecimalWithoutSign) {
  const CLI::Validator number = whole_number(0, 1024);
  for (const char* const good : {"0", "1", "1024"}) EXPECT_EQ(wrong(number, good), "") << good;
  for (const char* const bad :
       {"", "-1", "+1", "1025", "0x10", "010", "1.5", " 1", "1 ", "abc", "99999999999999999999"})
    EXPECT_NE(wrong(number, bad), "") << bad;
  EXPECT_EQ(wrong(number, "-1"), "\"-1\" is not a whole number from 0 to 1024");
}

TEST(OptionValues, FractionsAreFromZeroToOne) {
  for (const char* const good : {"0", "1", "0.05", "5e-2"}) EXPECT_EQ(wrong(fraction(), good), "") << good;
  for (const char* const bad : {"", "-0.1", "1.01", "nan", "inf", "5 %", "0,5"})
    EXPECT_NE(wrong(fraction(), bad), "") << bad;
}

TEST(OptionValues, WordsAreQuotedAsTheyWereGiven) {
  EXPECT_EQ(wrong(one_of({"a", "b"}), "a"), "");
  EXPECT_EQ(wrong(one_of({"a", "b"}), "\x1b[31m"), "\"\\x1b[31m\" is not one of a, b");
  EXPECT_EQ(wrong(byte_size(), "6GiB"), "");
  EXPECT_EQ(wrong(byte_size(), "x"), "\"x\" is not a size, such as 512MiB or 6GiB");
  EXPECT_EQ(wrong(not_empty(), ""), "is empty");
}

TEST(OptionValues, EveryTokenIdBetweenTheCommasCounts) {
  EXPECT_EQ(parse_token_ids("1,2,3").value(), (std::vector<TokenId>{1, 2, 3}));
  EXPECT_EQ(parse_token_ids("0").value(), std::vector<TokenId>{0});
  for (const char* const bad : {"", ",", "1,,2", "1,2,", ",1", "1, 2", "-1", "2147483648", "x"})
    EXPECT_FALSE(parse_token_ids(bad)) << bad;
  EXPECT_EQ(parse_token_ids("1,,2").error().message(),
            "element 2 is \"\", not a token id; ids are separated by commas: 1,2,3");
}

}  // namespace
}  // namespace sirocco

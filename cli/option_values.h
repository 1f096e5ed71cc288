// What the values of options may be, said in few words when one is wrong. Used with CLI::Option::check, so that a wrong
// value is wrong usage (exit code 2) before anything is done.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "engine/base/ids.h"
#include "engine/base/result.h"

namespace sirocco {

// Decimal digits and nothing else: no sign, no hexadecimal.
CLI::Validator whole_number(std::uint64_t low, std::uint64_t high);

// Its range is another's to check.
CLI::Validator number();

// A number from 0 to 1.
CLI::Validator fraction();

// As parse_bytes reads it: 6GiB.
CLI::Validator byte_size();

// One of the words; the one that was given is quoted in the error.
CLI::Validator one_of(std::vector<std::string> words);

// "" is a mistake: a variable that was not set, as a rule.
CLI::Validator not_empty();

// "1,2,3". Error: an element that is missing or no token id.
Result<std::vector<TokenId>> parse_token_ids(std::string_view text);
CLI::Validator token_ids();

}  // namespace sirocco

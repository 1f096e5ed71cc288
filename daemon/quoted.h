// Text of unknown origin as one word of a message or of the log.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace sirocco::daemon {

// In quotes, what is not printable escaped, and cut between two characters after `longest` bytes.
std::string in_quotes(std::string_view text, std::size_t longest = 60);

}  // namespace sirocco::daemon

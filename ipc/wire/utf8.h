// Every string of the protocol is well-formed UTF-8 (Unicode 15, table 3-7: no overlong forms, no surrogates).
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace sirocco::wire {

bool is_utf8(std::string_view text);

// Makes text of unknown origin (a file's name or metadata, a library's message) fit for a name or message of the
// protocol: bytes that are no UTF-8 become U+FFFD, control characters become spaces, and what is longer than
// `max_bytes` is cut between two characters.
std::string printable(std::string_view text, std::size_t max_bytes);

}  // namespace sirocco::wire

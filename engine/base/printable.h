// What a model file says of itself (its architecture, names of types, a template) ends up in messages, on terminals and
// in logs. Nothing in it may move the cursor, begin a second line of the log or turn the text around.
//
// Pure functions, any thread.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace sirocco {

// True of well-formed UTF-8 without control characters (C0, DEL and C1), line separators and the characters that change
// the direction of writing.
bool is_printable(std::string_view text);

// `text` made so: each of those characters becomes a space, what is no UTF-8 becomes U+FFFD, and what does not fit in
// `limit` bytes is cut between two characters, with "…" in its place.
std::string printable(std::string_view text, std::size_t limit = 100);

}  // namespace sirocco

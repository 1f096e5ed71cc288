// Unicode's normal form C (Unicode standard annex 15), which Qwen's tokenisers bring a text to first. The tables are
// utf8proc's; the order of marks is ours, because utf8proc orders them in quadratic time.
#pragma once

#include <string>
#include <string_view>

namespace sirocco {

// `text` is valid UTF-8. Time is n log n in the longest run of combining marks, linear in everything else.
std::string normal_form_c(std::string_view text);

}  // namespace sirocco

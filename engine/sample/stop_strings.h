// Finds stop strings in a text that arrives in pieces, also across the borders of pieces. Text that may be the
// beginning of a stop string is held back, so that no part of one is ever shown. What is shown in all, and which stop
// string is found, depend on the text alone and not on how it was cut.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace sirocco {

class StopStrings {
 public:
  explicit StopStrings(std::vector<std::string> stops);  // empty strings are ignored

  struct Output {
    std::string text;      // safe to show
    bool stopped = false;  // a stop string was reached: `text` ends before it, and nothing follows
    std::string matched;   // which: the one that is complete first, the longest of those that end together
  };
  Output push(std::string_view text);
  std::string flush();  // what was held back, when the stream ends otherwise

 private:
  std::vector<std::string> stops_;
  std::string held_;
  std::string matched_;  // not empty: stopped
};

}  // namespace sirocco

#include "engine/sample/stop_strings.h"

#include <algorithm>
#include <utility>

namespace sirocco {
namespace {

// How much of the end of `text` is a beginning of `stop`, which does not occur in it.
std::size_t overlap(std::string_view text, std::string_view stop) {
  std::size_t length = std::min(text.size(), stop.size() - 1);
  while (!text.ends_with(stop.substr(0, length))) --length;  // ends at 0
  return length;
}

}  // namespace

StopStrings::StopStrings(std::vector<std::string> stops) : stops_(std::move(stops)) {
  std::erase_if(stops_, [](const std::string& stop) { return stop.empty(); });
}

StopStrings::Output StopStrings::push(std::string_view text) {
  if (!matched_.empty()) return {.text = {}, .stopped = true, .matched = matched_};
  held_ += text;

  std::size_t end = std::string::npos;
  for (const std::string& stop : stops_) {
    const std::size_t found = held_.find(stop);
    if (found == std::string::npos) continue;
    const std::size_t stop_end = found + stop.size();
    if (stop_end < end || (stop_end == end && stop.size() > matched_.size())) {
      end = stop_end;
      matched_ = stop;
    }
  }
  if (!matched_.empty()) {
    Output output{.text = held_.substr(0, end - matched_.size()), .stopped = true, .matched = matched_};
    held_.clear();
    return output;
  }

  std::size_t hold = 0;
  for (const std::string& stop : stops_) hold = std::max(hold, overlap(held_, stop));
  Output output{.text = held_.substr(0, held_.size() - hold), .stopped = false, .matched = {}};
  held_.erase(0, held_.size() - hold);
  return output;
}

std::string StopStrings::flush() {
  return std::exchange(held_, {});
}

}  // namespace sirocco

#include "daemon/quoted.h"

#include <fmt/format.h>

namespace sirocco::daemon {

std::string in_quotes(std::string_view text, std::size_t longest) {
  if (text.size() <= longest) return fmt::format("{:?}", text);
  const auto continues = [&](std::size_t i) { return (static_cast<unsigned char>(text[i]) & 0xC0) == 0x80; };
  std::size_t end = longest;
  while (end > 0 && longest - end < 3 && continues(end)) --end;
  return fmt::format("{:?}...", text.substr(0, end));
}

}  // namespace sirocco::daemon

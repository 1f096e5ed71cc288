#include "cli/output.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <iterator>
#include <nlohmann/json.hpp>
#include <string>

namespace sirocco {

int report_failure(std::string_view message) {
  std::fflush(stdout);  // what was said before stands before it
  fmt::print(stderr, "sirocco: {}\n", message);
  return 1;
}

int output_error() {
  static int first = 0;
  if (std::fflush(stdout) != 0 && first == 0) first = errno;
  if (first == 0 && std::ferror(stdout) != 0) first = EIO;  // somewhere on the way, and the number is gone
  return first;
}

bool show(std::string_view text) {
  static const bool terminal = isatty(STDOUT_FILENO) != 0;
  std::string plain;
  if (terminal) {
    std::copy_if(text.begin(), text.end(), std::back_inserter(plain),
                 [](char c) { return (static_cast<unsigned char>(c) >= 0x20 && c != 0x7f) || c == '\n' || c == '\t'; });
    text = plain;
  }
  std::fwrite(text.data(), 1, text.size(), stdout);
  return output_error() == 0;
}

void print_json(const nlohmann::ordered_json& document) {
  fmt::print("{}\n", document.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace));
}

}  // namespace sirocco

// Another program, run to its end for what it says.
#pragma once

#include <optional>
#include <string>
#include <vector>

namespace sirocco {

struct Ended {
  int code = 0;        // its exit code; 128 and more: it was ended by a signal
  std::string output;  // standard output and standard error
};

// Looked for in $PATH, or a path. Nothing: there is no such program, or it cannot be started.
std::optional<Ended> run_program(const std::vector<std::string>& arguments);

}  // namespace sirocco

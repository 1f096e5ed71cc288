// Where a command's words go: results to standard output, messages to standard error.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string_view>

#include "engine/base/result.h"

namespace sirocco {

// "sirocco: message" on standard error; returns 1, the exit code.
int report_failure(std::string_view message);
inline int report_failure(const Error& error) {
  return report_failure(error.message());
}

// Text to standard output at once. On a terminal without its control characters, newline and tab apart: a model's words
// must not move the cursor. False if it cannot be written: output_error() says why.
bool show(std::string_view text);

// The error number of the first thing that could not be written to standard output, or cannot be now; 0: all was.
int output_error();

// One document on standard output, bytes that are no UTF-8 replaced.
void print_json(const nlohmann::ordered_json& document);

}  // namespace sirocco

// What is wrong with a frame or message, as it will be told to the peer. The message names the field.
#pragma once

#include <fmt/format.h>

#include <string>
#include <utility>

#include <tl/expected.hpp>

#include "ipc/wire/messages.h"

namespace sirocco::wire {

struct WireError {
  ErrorCode code = ErrorCode::malformed;
  std::string message;

  bool operator==(const WireError&) const = default;
};

// return refuse(ErrorCode::invalid_message, "Generate.stop: {} strings, at most {}", count, limit);
template <class... Args>
tl::unexpected<WireError> refuse(ErrorCode code, fmt::format_string<Args...> format, Args&&... args) {
  return tl::unexpected<WireError>(WireError{code, fmt::format(format, std::forward<Args>(args)...)});
}

}  // namespace sirocco::wire

// How the client's functions return an error: `return fail(ClientError::Kind::timeout, "what happened and what to
// do")`.
#pragma once

#include <string>
#include <utility>

#include "ipc/client/client.h"

namespace sirocco {

inline tl::unexpected<ClientError> fail(ClientError::Kind kind, std::string message) {
  return tl::unexpected<ClientError>(ClientError{.kind = kind, .message = std::move(message)});
}

}  // namespace sirocco

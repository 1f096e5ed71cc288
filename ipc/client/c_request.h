// What a C program asks for, as the native types of the protocol: structs of ipc/client/sirocco.h that callers fill are
// read here, of whatever version of that file they are.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "ipc/client/client.h"
#include "ipc/client/sirocco.h"

namespace sirocco {

struct ConnectRequest {
  std::string socket;
  ClientOptions options;
};

// `options` may be NULL. Error: invalid.
ClientResult<ConnectRequest> connect_request(const sirocco_connect_options* options);

// Error (invalid): NULL, a size that cannot be, a field that this library does not know, not one prompt, a list that is
// NULL and has a count, or an enumeration's value that does not exist. Ranges are left to the protocol's validate().
ClientResult<wire::Generate> generate_request(const sirocco_request* request);

ClientResult<wire::Tokenize> tokenize_request(const char* text, std::size_t bytes, int flags);
ClientResult<wire::Detokenize> detokenize_request(const std::int32_t* ids, std::size_t count);

}  // namespace sirocco

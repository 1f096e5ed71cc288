// Opens the daemon's socket, and says what to do when that fails.
#pragma once

#include <chrono>
#include <string>

#include "ipc/client/client.h"

namespace sirocco {

// A connected, non-blocking descriptor that the caller closes.
ClientResult<int> connect_socket(const std::string& path, std::chrono::steady_clock::time_point deadline);

}  // namespace sirocco

// The limits of the server, in one place. Those of the protocol itself are in ipc/wire/limits.h.
#pragma once

#include <chrono>
#include <cstddef>

namespace sirocco {

struct ServerLimits {
  std::size_t connections = 1024;
  std::size_t connections_per_uid = 64;
  std::size_t admin_connections = 16;               // not counted with the others: an administrator always gets in
  std::size_t in_flight = 8;                        // requests of one connection
  std::size_t queued_bytes = std::size_t{1} << 20;  // of one connection: above it, a request ends with SLOW_CONSUMER
  std::chrono::milliseconds hello_timeout{5000};    // from connecting to the whole Hello
  std::chrono::milliseconds frame_timeout{10000};   // from the first byte of a frame to its last
  std::chrono::milliseconds flush_timeout{1000};    // for the last words to a client before its connection is closed
};

}  // namespace sirocco

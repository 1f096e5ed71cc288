// The limits of the server, in one place. Those of the protocol itself are in ipc/wire/limits.h.
#pragma once

#include <chrono>
#include <cstddef>

#include "ipc/wire/limits.h"

namespace sirocco {

struct ServerLimits {
  std::size_t connections = 1024;
  std::size_t admin_connections = 16;               // not counted with the others: an administrator always gets in
  std::size_t queued_bytes = std::size_t{1} << 20;  // of one connection: above it, a request ends with SLOW_CONSUMER
  std::size_t frame_bytes = wire::kMaxPayload;      // the largest payload that is taken or sent, once Hello has come
  std::chrono::milliseconds hello_timeout{5000};    // from connecting to the whole Hello
  std::chrono::milliseconds frame_timeout{10000};   // from the first byte of a frame to its last
  std::chrono::milliseconds flush_timeout{1000};    // for the last words to a client before its connection is closed
};

// What one user may have at the same time; the Handler says it of each client.
struct PeerLimits {
  std::size_t connections = 64;
  std::size_t in_flight_per_connection = 8;  // requests
  std::size_t in_flight = 64;                // of all connections
};

}  // namespace sirocco

// The sockets that clients come in by: made by systemd before the daemon was started (socket activation), or made here
// as the configuration says.
#pragma once

#include <optional>
#include <span>
#include <string>

#include "daemon/config.h"
#include "engine/base/result.h"
#include "ipc/server/server.h"

namespace sirocco::daemon {

// Descriptors that systemd has passed.
struct PassedSockets {
  std::optional<int> client;
  std::optional<int> admin;
};

// By FileDescriptorName= in the socket units: "client" and "admin"; the first of them is descriptor `first`. Error:
// another name, or one twice.
Result<PassedSockets> passed_sockets(std::span<const std::string> names, int first);

// Those of this process, which forgets the variables that told of them. Before there are threads.
Result<PassedSockets> passed_sockets();

struct Sockets {
  ListeningSocket client;
  std::optional<AdminSocket> admin;
  std::string path;  // of the clients'
};

// What was passed is taken as it is, with systemd's mode and group; its file stays at the end. The others are made.
// Error: one that cannot be made, or was passed and is no listening Unix stream socket.
Result<Sockets> open_sockets(const ServerConfig& config, const PassedSockets& passed);

}  // namespace sirocco::daemon

// Where an administrator's commands find the daemon.
#pragma once

#include <CLI/CLI.hpp>
#include <string>

#include "ipc/client/client.h"

namespace sirocco {

struct AdminSocketOptions {
  std::string socket;
  std::string admin_socket;  // empty: the one beside `socket`
};

void add_admin_socket_options(CLI::App& command, AdminSocketOptions& options);

ClientResult<Client> connect_admin(const AdminSocketOptions& options);

}  // namespace sirocco

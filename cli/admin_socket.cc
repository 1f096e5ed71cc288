#include "cli/admin_socket.h"

#include "cli/request_options.h"
#include "ipc/wire/socket_paths.h"

namespace sirocco {

void add_admin_socket_options(CLI::App& command, AdminSocketOptions& options) {
  add_socket_option(command, options.socket);
  command.add_option("--admin-socket", options.admin_socket,
                     "The daemon's socket for administration; the one beside --socket if not given");
}

ClientResult<Client> connect_admin(const AdminSocketOptions& options) {
  return Client::connect(options.admin_socket.empty() ? wire::admin_socket(options.socket) : options.admin_socket);
}

}  // namespace sirocco

#include "daemon/sockets.h"

#include <spdlog/spdlog.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <systemd/sd-daemon.h>

#include <cstdlib>
#include <memory>
#include <utility>
#include <vector>

namespace sirocco::daemon {
namespace {

// Of a socket that has one.
std::string path_of(int descriptor) {
  sockaddr_un address = {};
  socklen_t size = sizeof(address);
  if (getsockname(descriptor, reinterpret_cast<sockaddr*>(&address), &size) != 0) return {};
  const std::size_t most = size - std::min<std::size_t>(size, offsetof(sockaddr_un, sun_path));
  return {address.sun_path, strnlen(address.sun_path, most)};
}

Result<ListeningSocket> adopt(int descriptor, std::string_view name) {
  auto socket = ListeningSocket::adopt(descriptor);
  if (!socket) return fail(ErrorCode::invalid_argument, "the socket \"{}\" from systemd: {}", name, socket.error());
  return *std::move(socket);
}

Result<ListeningSocket> client_socket(const ServerConfig& config, const PassedSockets& passed) {
  if (passed.client) {
    const ServerConfig defaults;
    if (config.mode != defaults.mode || config.group != defaults.group)
      spdlog::warn("server.mode and server.group change nothing: the socket is systemd's (SocketMode=, SocketGroup=)");
    return adopt(*passed.client, "client");
  }
  auto socket =
      ListeningSocket::bind({.path = config.socket, .mode = static_cast<mode_t>(config.mode), .group = config.group});
  if (!socket) return fail(ErrorCode::io, "{}", socket.error());
  return *std::move(socket);
}

Result<std::optional<AdminSocket>> admin_socket(const ServerConfig& config, const PassedSockets& passed) {
  const bool anybody = !config.admin_group.empty();
  if (passed.admin) {
    const ServerConfig defaults;
    if (config.admin_mode != defaults.admin_mode)
      spdlog::warn("server.admin_mode changes nothing: the socket is systemd's (SocketMode=)");
    if (anybody)
      spdlog::warn("server.admin_group: the socket is systemd's (SocketGroup=); whoever that lets in is let in");
    SIROCCO_TRY(ListeningSocket socket, adopt(*passed.admin, "admin"));
    return AdminSocket{.socket = std::move(socket), .anybody = anybody};
  }
  if (config.admin_socket.empty()) return std::nullopt;
  auto socket = ListeningSocket::bind(
      {.path = config.admin_socket == "auto" ? wire::admin_socket(config.socket) : config.admin_socket,
       .mode = static_cast<mode_t>(config.admin_mode),
       .group = config.admin_group});
  if (!socket) return fail(ErrorCode::io, "the socket for administration (server.admin_socket): {}", socket.error());
  return AdminSocket{.socket = *std::move(socket), .anybody = anybody};
}

}  // namespace

Result<PassedSockets> passed_sockets(std::span<const std::string> names, int first) {
  PassedSockets passed;
  int descriptor = first;
  for (const std::string& name : names) {
    std::optional<int>* const place = name == "client" ? &passed.client : name == "admin" ? &passed.admin : nullptr;
    if (place == nullptr)
      return fail(ErrorCode::invalid_argument,
                  "systemd has passed a socket named \"{}\"; allowed: client, admin (FileDescriptorName= in the socket "
                  "unit)",
                  name);
    if (place->has_value())
      return fail(ErrorCode::invalid_argument,
                  "systemd has passed two sockets named \"{}\"; allowed: one (ListenStream= once in each socket unit)",
                  name);
    *place = descriptor++;
  }
  return passed;
}

Result<PassedSockets> passed_sockets() {
  char** names = nullptr;
  const int count = sd_listen_fds_with_names(1, &names);
  if (count < 0)
    return fail(ErrorCode::invalid_argument, "the sockets from systemd ($LISTEN_FDS, $LISTEN_FDNAMES): {}",
                errno_message(-count));
  std::vector<std::string> all;
  for (int i = 0; i < count; ++i) {
    all.emplace_back(names[i]);
    std::free(names[i]);
  }
  std::free(names);
  return passed_sockets(all, SD_LISTEN_FDS_START);
}

Result<Sockets> open_sockets(const ServerConfig& config, const PassedSockets& passed) {
  std::string path = passed.client ? path_of(*passed.client) : config.socket;
  SIROCCO_TRY(ListeningSocket client, client_socket(config, passed));
  SIROCCO_TRY(std::optional<AdminSocket> admin, admin_socket(config, passed));
  return Sockets{.client = std::move(client), .admin = std::move(admin), .path = std::move(path)};
}

}  // namespace sirocco::daemon

#include "ipc/client/connect.h"

#include <fmt/format.h>
#include <grp.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <string_view>
#include <system_error>
#include <thread>

#include "ipc/client/fail.h"

namespace sirocco {
namespace {

using Kind = ClientError::Kind;

// In place of a socket: "a directory", "a file"; empty where there is none or nothing.
std::string_view in_the_way(const std::string& path) {
  struct stat status {};
  if (::stat(path.c_str(), &status) != 0 || S_ISSOCK(status.st_mode)) return {};
  return S_ISDIR(status.st_mode) ? "a directory" : "a file";
}

// The group of the socket, or of the first directory above it that can be seen; empty if it has no name.
std::string group_of(std::filesystem::path path) {
  struct stat status {};
  while (::stat(path.c_str(), &status) != 0) {
    if (path == path.parent_path()) return {};
    path = path.has_parent_path() ? path.parent_path() : std::filesystem::path(".");
  }
  group entry{};
  group* found = nullptr;
  char buffer[16384];
  ::getgrgid_r(status.st_gid, &entry, buffer, sizeof(buffer), &found);
  return found == nullptr ? std::string{} : found->gr_name;
}

tl::unexpected<ClientError> failure(const std::string& path, int error) {
  switch (error) {
    case ENOENT:
    case ECONNREFUSED:
      if (const std::string_view what = in_the_way(path); !what.empty()) {
        return fail(Kind::no_daemon, fmt::format("{}: is {} and no socket: name the daemon's socket with --socket or "
                                                 "$SIROCCO_SOCKET",
                                                 path, what));
      }
      return fail(
          Kind::no_daemon,
          fmt::format("no daemon at {}{}: start it with `siroccod --config FILE --socket {}` or `systemctl start "
                      "sirocco`, or name another socket with --socket or $SIROCCO_SOCKET",
                      path, error == ECONNREFUSED ? " (the socket file is a leftover)" : "", path));
    case EACCES:
    case EPERM: {
      const std::string group = group_of(path);
      // Nobody should have to join root's group.
      return fail(Kind::permission,
                  group.empty() || group == "root"
                      ? fmt::format("{}: permission denied: ask who runs the daemon for access (server.group in its "
                                    "configuration names the group that may use the socket)",
                                    path)
                      : fmt::format("{}: permission denied: add yourself to the group {} (the socket's group): "
                                    "sudo usermod -aG {} $USER, then log in again",
                                    path, group, group));
    }
    case EAGAIN:
      return fail(Kind::timeout, fmt::format("{}: the daemon does not accept connections: is it stuck, or out of "
                                             "descriptors? Its log says more (journalctl -u sirocco)",
                                             path));
    default:
      return fail(Kind::system, fmt::format("{}: cannot connect: {}", path, std::generic_category().message(error)));
  }
}

}  // namespace

ClientResult<int> connect_socket(const std::string& path, std::chrono::steady_clock::time_point deadline) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.empty() || path.size() >= sizeof(address.sun_path)) {
    return fail(Kind::system,
                fmt::format("\"{}\": a socket's path has 1 to {} bytes", path, sizeof(address.sun_path) - 1));
  }
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);

  const int descriptor = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (descriptor < 0) return failure(path, errno);
  while (::connect(descriptor, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) {
    const int error = errno;
    // EAGAIN: the backlog is full, and Unix sockets give nothing to wait for.
    const bool again = error == EINTR || error == EAGAIN;
    if (!again || std::chrono::steady_clock::now() >= deadline) {
      ::close(descriptor);
      return failure(path, error);
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  return descriptor;
}

}  // namespace sirocco

#include "ipc/server/listening_socket.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <grp.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <system_error>
#include <utility>

namespace sirocco {
namespace {

using Failure = tl::unexpected<std::string>;

template <class... Args>
Failure fail(fmt::format_string<Args...> format, Args&&... args) {
  return Failure(fmt::format(format, std::forward<Args>(args)...));
}

std::string reason(int error) {
  return std::generic_category().message(error);
}

// A descriptor closed at the end of the scope unless it is released.
class Descriptor {
 public:
  explicit Descriptor(int value) : value_(value) {}
  Descriptor(Descriptor&& other) noexcept : value_(other.release()) {}
  Descriptor& operator=(Descriptor&&) = delete;
  ~Descriptor() {
    if (value_ >= 0) ::close(value_);
  }

  int get() const { return value_; }
  int release() { return std::exchange(value_, -1); }

 private:
  int value_;
};

tl::expected<sockaddr_un, std::string> address_of(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.empty()) return fail("the socket's path is empty");
  if (path.size() >= sizeof(address.sun_path)) {
    return fail("{}: a socket's path has at most {} bytes, this has {}: choose a shorter one", path,
                sizeof(address.sun_path) - 1, path.size());
  }
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  return address;
}

std::string already_served(const std::string& path, pid_t pid) {
  return fmt::format("another siroccod is serving {} (pid {}): stop it, or choose another path with --socket", path,
                     pid);
}

// Takes the lock, and writes the pid into it for the message of the one who comes second.
tl::expected<Descriptor, std::string> take_lock(const std::string& path) {
  const std::string lock_path = path + ".lock";
  Descriptor lock(::open(lock_path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (lock.get() < 0 && errno == ENOENT) {
    const auto directory = std::filesystem::path(path).parent_path();
    return fail("{}: its directory {} does not exist: create it, or choose another path with --socket", path,
                directory.string());
  }
  if (lock.get() < 0) {
    return fail("{}: cannot be opened: {}: run as a user who may write there, or choose another path with --socket",
                lock_path, reason(errno));
  }

  if (::flock(lock.get(), LOCK_EX | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK) return fail("{}: cannot be locked: {}", lock_path, reason(errno));
    char text[32] = {};
    const ssize_t length = ::pread(lock.get(), text, sizeof(text) - 1, 0);
    return Failure(already_served(path, length > 0 ? static_cast<pid_t>(std::strtol(text, nullptr, 10)) : 0));
  }
  const std::string pid = std::to_string(::getpid()) + "\n";
  if (::ftruncate(lock.get(), 0) != 0 || ::pwrite(lock.get(), pid.data(), pid.size(), 0) < 0) {
    return fail("{}: cannot be written: {}", lock_path, reason(errno));
  }
  return lock;
}

// Whether there is a socket file; an error if it is something else.
tl::expected<bool, std::string> socket_file_at(const std::string& path) {
  struct stat status {};
  if (::lstat(path.c_str(), &status) != 0) {
    if (errno == ENOENT) return false;
    return fail("{}: {}", path, reason(errno));
  }
  if (S_ISSOCK(status.st_mode)) return true;
  return fail("{}: is in the way and no socket: remove it, or choose another path with --socket", path);
}

// With the lock held: removes a socket file that nobody answers at. One that answers belongs to somebody who does not
// take the lock (a socket unit of systemd, another program).
tl::expected<void, std::string> remove_stale(const std::string& path, const sockaddr_un& address) {
  const auto there = socket_file_at(path);
  if (!there) return Failure(there.error());
  if (!*there) return {};
  const Descriptor probe(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (::connect(probe.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0) {
    ucred peer{};
    socklen_t size = sizeof(peer);
    ::getsockopt(probe.get(), SOL_SOCKET, SO_PEERCRED, &peer, &size);
    return Failure(already_served(path, peer.pid));
  }
  if (errno != ECONNREFUSED) return fail("{}: is a socket that is in use: {}", path, reason(errno));
  if (::unlink(path.c_str()) != 0) return fail("{}: stale, but cannot be removed: {}", path, reason(errno));
  return {};
}

constexpr auto kSameGroup = static_cast<gid_t>(-1);  // of chown()

tl::expected<gid_t, std::string> group_of(const ListenOptions& options) {
  if (options.group.empty()) return kSameGroup;
  group entry{};
  group* found = nullptr;
  char buffer[16384];  // of the members' names; a longer list is an error below
  const int error = ::getgrnam_r(options.group.c_str(), &entry, buffer, sizeof(buffer), &found);
  if (found != nullptr) return entry.gr_gid;
  return fail("{}: there is no group \"{}\"{}: create it (groupadd --system {})", options.path, options.group,
              error == 0 ? "" : " (" + reason(error) + ")", options.group);
}

tl::expected<void, std::string> set_owner(const ListenOptions& options, gid_t group) {
  if (group != kSameGroup && ::chown(options.path.c_str(), static_cast<uid_t>(-1), group) != 0) {
    return fail("{}: cannot be given to the group \"{}\": {}", options.path, options.group, reason(errno));
  }
  if (::chmod(options.path.c_str(), options.mode) != 0) {
    return fail("{}: mode {:o} cannot be set: {}", options.path, options.mode, reason(errno));
  }
  return {};
}

}  // namespace

ListeningSocket::ListeningSocket(int descriptor, int lock, std::string path)
    : descriptor_(descriptor), lock_(lock), path_(std::move(path)) {}

ListeningSocket::ListeningSocket(ListeningSocket&& other) noexcept
    : descriptor_(std::exchange(other.descriptor_, -1)),
      lock_(std::exchange(other.lock_, -1)),
      path_(std::exchange(other.path_, {})) {}

ListeningSocket::~ListeningSocket() {
  if (!path_.empty()) ::unlink(path_.c_str());  // before the lock is given up
  if (descriptor_ >= 0) ::close(descriptor_);
  if (lock_ >= 0) ::close(lock_);
}

int ListeningSocket::take() {
  return std::exchange(descriptor_, -1);
}

tl::expected<ListeningSocket, std::string> ListeningSocket::bind(const ListenOptions& options) {
  const auto address = address_of(options.path);
  if (!address) return Failure(address.error());
  // What can be known before the lock is: a path that is refused gets no lock file beside it.
  const auto group = group_of(options);
  if (!group) return Failure(group.error());
  if (const auto there = socket_file_at(options.path); !there) return Failure(there.error());
  auto lock = take_lock(options.path);
  if (!lock) return Failure(lock.error());
  if (auto removed = remove_stale(options.path, *address); !removed) return Failure(removed.error());

  Descriptor socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (socket.get() < 0) return fail("{}: no socket: {}", options.path, reason(errno));
  if (::bind(socket.get(), reinterpret_cast<const sockaddr*>(&*address), sizeof(*address)) != 0) {
    return fail("{}: cannot be created: {}", options.path, reason(errno));
  }
  ListeningSocket result(socket.release(), lock->release(), options.path);
  // Nobody can connect before listen(), so nobody finds the file with another mode.
  if (auto set = set_owner(options, *group); !set) return Failure(set.error());
  if (::listen(result.descriptor_, options.backlog) != 0) return fail("{}: {}", options.path, reason(errno));
  return result;
}

tl::expected<ListeningSocket, std::string> ListeningSocket::adopt(int descriptor) {
  // Of the kind that bind() makes; 0 where it is no socket.
  const auto option = [descriptor](int name) {
    int value = 0;
    socklen_t size = sizeof(value);
    return ::getsockopt(descriptor, SOL_SOCKET, name, &value, &size) == 0 ? value : 0;
  };
  if (option(SO_DOMAIN) != AF_UNIX || option(SO_TYPE) != SOCK_STREAM || option(SO_ACCEPTCONN) == 0) {
    return fail("descriptor {}: is no listening Unix stream socket: check the socket unit (ListenStream=, Accept=no)",
                descriptor);
  }
  const int flags = ::fcntl(descriptor, F_GETFL);
  if (::fcntl(descriptor, F_SETFL, flags | O_NONBLOCK) != 0 || ::fcntl(descriptor, F_SETFD, FD_CLOEXEC) != 0) {
    return fail("descriptor {}: {}", descriptor, reason(errno));
  }
  return ListeningSocket(descriptor, -1, {});
}

}  // namespace sirocco

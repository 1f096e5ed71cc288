// The socket file that clients connect to. While it exists, a lock on PATH.lock keeps a second daemon away; the lock
// file stays behind, empty of meaning, because removing it would let two daemons lock two different files of the same
// name.
#pragma once

#include <sys/types.h>

#include <string>

#include <tl/expected.hpp>

namespace sirocco {

struct ListenOptions {
  std::string path;
  mode_t mode = 0660;
  std::string group;   // that owns the socket file; empty: the process's own
  int backlog = 4096;  // clients waiting to be accepted; the kernel cuts it to net.core.somaxconn
};

class ListeningSocket {
 public:
  // Replaces a socket file that nobody answers at. Errors say what is in the way and what to do: another daemon (with
  // its pid), a file that is no socket, a missing directory, an unknown group, a path longer than a socket's may be.
  static tl::expected<ListeningSocket, std::string> bind(const ListenOptions& options);

  // A descriptor that is listening already (socket activation); its file is not removed at the end.
  static tl::expected<ListeningSocket, std::string> adopt(int descriptor);

  ListeningSocket(ListeningSocket&& other) noexcept;
  ListeningSocket& operator=(ListeningSocket&&) = delete;
  ~ListeningSocket();  // removes the socket file it made

  // Non-blocking, listening. From here on the caller closes it.
  int take();

 private:
  ListeningSocket(int descriptor, int lock, std::string path);

  int descriptor_ = -1;
  int lock_ = -1;     // of PATH.lock, or -1 when adopted
  std::string path_;  // to remove; empty when adopted
};

}  // namespace sirocco

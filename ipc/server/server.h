// Serves clients on a Unix socket: accepts, greets, hands requests to the Handler and writes its answers, on one I/O
// thread that it owns. It knows the protocol and its limits, and nothing of models.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>

#include "ipc/server/handler.h"
#include "ipc/server/listening_socket.h"
#include "ipc/server/server_limits.h"
#include "ipc/wire/messages.h"

namespace sirocco {

// A second socket, on which the daemon itself may be changed.
struct AdminSocket {
  ListeningSocket socket;
  // Who gets past the file's permissions: everybody, for a file that a group owns; else root and the daemon's own user.
  bool anybody = false;
};

class Server {
 public:
  // Nothing is accepted before start(). The handler must outlive the server.
  Server(ListeningSocket socket, const ServerLimits& limits, Handler& handler, std::optional<AdminSocket> admin = {});
  ~Server();  // stop()
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  void start();

  // From any thread; never waits for a client or the I/O thread. Messages of one thread keep their order.
  void send(RequestKey key, wire::Message message);

  // Clients connected now, administrators included. From any thread.
  std::size_t connections() const;

  // How often the I/O thread has shown that it lives: once for each time that it is asked. From any thread.
  std::uint64_t pulse() const;
  void ask_for_pulse();

  // Refuses new clients, ends every request in flight with SHUTTING_DOWN, gives slow clients flush_timeout to read it,
  // removes the socket file. Not from the I/O thread (a Handler's function). Calling it again does nothing.
  void stop();

 private:
  class Loop;
  std::unique_ptr<Loop> loop_;
};

}  // namespace sirocco

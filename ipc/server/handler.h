// What the daemon implements to serve requests. All of it is called on the server's I/O thread, which must not wait: an
// implementation notes what is asked, and answers with Server::send, at once or later from any thread.
//
// Every request that is handed over gets exactly one ending, which the server enforces: Done or Error for Generate, the
// answer or Error for the others. Whatever is sent after the ending, or after the client has gone, is dropped.
#pragma once

#include <sys/types.h>

#include <compare>
#include <cstdint>
#include <string>
#include <vector>

#include <tl/expected.hpp>

#include "ipc/server/server_limits.h"
#include "ipc/wire/messages.h"

namespace sirocco {

using ConnectionId = std::uint64_t;  // unique for the life of a Server

// One request. The ids of different clients may be the same number, and a client may use one again as soon as it has
// read the ending: the serial tells what is still on its way to the old request from what is the new one's.
struct RequestKey {
  ConnectionId connection = 0;
  std::uint64_t request_id = 0;
  std::uint64_t serial = 0;  // of the connection's requests, from 1

  auto operator<=>(const RequestKey&) const = default;  // NOLINT(modernize-use-nullptr): compares with a literal 0
};

// Who is at the other end, from SO_PEERCRED: the kernel vouches for it.
struct Peer {
  uid_t uid = 0;
  gid_t gid = 0;
  pid_t pid = 0;
  bool admin = false;              // it came through the socket for administration
  std::vector<gid_t> groups = {};  // supplementary ones (SO_PEERGROUPS), as they were when it connected
};

class Handler {
 public:
  virtual ~Handler() = default;

  // Whether the client may connect, and what it may have then; or why it may not, for PERMISSION_DENIED. Not asked
  // about administrators.
  virtual tl::expected<PeerLimits, std::string> on_connect(const Peer& peer) = 0;

  // Only what the server does not know is filled in: version and limits are the server's.
  virtual wire::Welcome on_hello(const Peer& peer, const wire::Hello& hello) = 0;

  virtual void on_generate(RequestKey key, const Peer& peer, wire::Generate generate) = 0;
  virtual void on_tokenize(RequestKey key, const Peer& peer, wire::Tokenize tokenize) = 0;
  virtual void on_detokenize(RequestKey key, const Peer& peer, wire::Detokenize detokenize) = 0;
  virtual void on_status(RequestKey key, const Peer& peer) = 0;
  virtual void on_session(RequestKey key, const Peer& peer, wire::Session session) = 0;
  // Of administrators only: the server has refused the others.
  virtual void on_set_budget(RequestKey key, const Peer& peer, wire::SetBudget budget) = 0;
  virtual void on_drain(RequestKey key, const Peer& peer, wire::Drain drain) = 0;
  virtual void on_reload(RequestKey key, const Peer& peer, wire::Reload reload) = 0;
  virtual void on_evict(RequestKey key, const Peer& peer) = 0;

  // The client wants this Generate to end: the answer to it is Done with the reason cancelled. May come more than once,
  // and may cross the ending.
  virtual void on_cancel(RequestKey key) = 0;

  // The server itself has ended this Generate with an Error (SLOW_CONSUMER, as a rule): it needs no answer any more.
  // May cross the ending.
  virtual void on_ended(RequestKey key, wire::ErrorCode code) = 0;

  // The client has gone: none of its requests needs an answer any more. Once for each connection that said Hello.
  virtual void on_disconnect(ConnectionId connection) = 0;
};

}  // namespace sirocco

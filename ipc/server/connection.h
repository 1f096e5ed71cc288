// One client: its stream, the requests it has in flight, and what waits to be written to it. Lives on the I/O thread
// and is kept alive by the completion handlers under way and by the Server's table. Nothing a client sends or fails to
// read makes it hold more than one frame, in_flight requests and queued_bytes (plus one ending for each request).
#pragma once

#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/steady_timer.hpp>
#include <cstddef>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "ipc/server/handler.h"
#include "ipc/server/server_limits.h"
#include "ipc/wire/frame.h"

namespace sirocco {

// What a user's connections have together; the Server owns it, and its connections keep it true.
struct UserAccount {
  std::size_t connections = 0;
  std::size_t in_flight = 0;
};

class Connection : public std::enable_shared_from_this<Connection> {
 public:
  using Socket = boost::asio::local::stream_protocol::socket;

  // `account` is the peer's, which outlives the connection. `on_closed` is called once, when the socket is closed.
  Connection(Socket socket, ConnectionId id, Peer peer, const ServerLimits& limits, const PeerLimits& peer_limits,
             UserAccount& account, Handler& handler, std::function<void()> on_closed);

  void start();

  // To one of this client's requests; dropped when that has ended.
  void send(const RequestKey& key, wire::Message message);

  // Ends every request, and then the connection, with SHUTTING_DOWN.
  void shut_down();

  const Peer& peer() const { return peer_; }

 private:
  enum class Phase { before_hello, open, closing, closed };

  struct InFlight {
    std::uint64_t serial = 0;
    bool cancellable = false;  // Generate; the others are answered at once
    bool omit_ids = false;
  };

  // A batch is encoded when its turn comes, because until then later ones join it.
  struct Outgoing {
    std::uint64_t request_id = 0;
    std::optional<wire::TokenBatch> batch;
    std::vector<std::byte> frame;  // of any other message
    std::size_t bytes = 0;         // charged to queued_bytes_
  };

  void read();
  void on_read(boost::system::error_code error, std::size_t bytes);
  void on_frame(const wire::Frame& frame);
  void on_message(std::uint64_t id, wire::Hello hello);
  void on_message(std::uint64_t id, wire::Generate generate);
  void on_message(std::uint64_t id, wire::Tokenize tokenize);
  void on_message(std::uint64_t id, wire::Detokenize detokenize);
  void on_message(std::uint64_t id, wire::Status status);
  void on_message(std::uint64_t id, wire::Session session);
  void on_message(std::uint64_t id, wire::SetBudget budget);
  void on_message(std::uint64_t id, wire::Drain drain);
  void on_message(std::uint64_t id, wire::Reload reload);
  void on_message(std::uint64_t id, wire::Evict evict);
  void on_message(std::uint64_t id, wire::Cancel cancel);
  template <class FromServer>
  void on_message(std::uint64_t id, FromServer message);
  // Nothing, and the client has its Error, if the request may not begin.
  std::optional<RequestKey> begin(std::uint64_t id, InFlight request);
  // The same, and the client must be an administrator.
  std::optional<RequestKey> begin_for_admin(std::uint64_t id, wire::MessageType type);
  void forget(std::uint64_t id);  // it has its ending

  void refuse(std::uint64_t id, wire::ErrorCode code, std::string message, std::uint32_t retry_after_ms = 0);
  void queue(std::uint64_t id, const wire::Message& message);
  void queue_batch(const RequestKey& key, wire::TokenBatch batch);
  void end_slow(std::uint64_t id);
  void write();
  void on_written(boost::system::error_code error);

  void set_deadline(std::chrono::milliseconds after, void (Connection::*action)());
  void clear_deadline();
  void on_hello_timeout();
  void on_frame_timeout();
  void forget_requests();
  void close_when_flushed();
  void close();

  Socket socket_;
  const ConnectionId id_;
  const Peer peer_;
  const ServerLimits& limits_;
  const PeerLimits peer_limits_;
  UserAccount& account_;
  Handler& handler_;
  std::function<void()> on_closed_;

  Phase phase_ = Phase::before_hello;
  bool greeted_ = false;  // the handler knows this connection
  std::unordered_map<std::uint64_t, InFlight> in_flight_;
  std::uint64_t last_serial_ = 0;

  wire::FrameReader reader_{wire::kMaxHelloPayload};
  std::vector<std::byte> read_buffer_;
  bool paused_ = false;         // not reading until the client has read
  bool partial_frame_ = false;  // a frame has begun, and its deadline runs

  std::deque<Outgoing> queue_;
  std::vector<std::byte> writing_;  // the frame being written; empty when none is
  std::size_t writing_bytes_ = 0;   // what it is charged with
  std::size_t queued_bytes_ = 0;    // of queue_ and writing_

  // One timer serves the phases in turn: Hello, the rest of a frame, the last words.
  boost::asio::steady_timer deadline_;
  std::uint64_t deadline_generation_ = 0;
};

}  // namespace sirocco

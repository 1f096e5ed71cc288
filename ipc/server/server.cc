#include "ipc/server/server.h"

#include <fmt/format.h>
#include <pthread.h>
#include <signal.h>
#include <spdlog/spdlog.h>
#include <sys/socket.h>

#include <algorithm>
#include <atomic>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <mutex>
#include <optional>
#include <thread>
#include <unordered_map>
#include <utility>
#include <vector>

#include "ipc/server/connection.h"
#include "ipc/wire/codec.h"

namespace sirocco {

namespace asio = boost::asio;

class Server::Loop {
 public:
  Loop(ListeningSocket socket, const ServerLimits& limits, Handler& handler)
      : file_(std::move(socket)), limits_(limits), handler_(handler), acceptor_(context_), retry_(context_) {
    acceptor_.assign(asio::local::stream_protocol(), file_->take());
  }

  void start();
  void send(RequestKey key, wire::Message message);
  std::size_t connections() const { return connection_count_.load(std::memory_order_relaxed); }
  void stop();

 private:
  using Socket = Connection::Socket;

  void accept();
  void on_accept(const boost::system::error_code& error, Socket socket);
  bool admit(Socket& socket, const Peer& peer);
  void remove(ConnectionId id);
  void deliver();
  void shut_down();

  // Of the I/O thread.
  asio::io_context context_{1};
  std::optional<ListeningSocket> file_;
  const ServerLimits limits_;
  Handler& handler_;
  asio::local::stream_protocol::acceptor acceptor_;
  asio::steady_timer retry_;  // after accept() ran out of descriptors
  std::unordered_map<ConnectionId, std::shared_ptr<Connection>> table_;
  ConnectionId next_id_ = 1;
  bool stopping_ = false;

  // Shared.
  std::optional<asio::executor_work_guard<asio::io_context::executor_type>> work_;
  std::thread thread_;
  std::atomic<std::size_t> connection_count_{0};
  std::mutex outbox_mutex_;
  std::vector<std::pair<RequestKey, wire::Message>> outbox_;
};

namespace {

std::optional<Peer> credentials(int descriptor) {
  ucred found{};
  socklen_t size = sizeof(found);
  if (::getsockopt(descriptor, SOL_SOCKET, SO_PEERCRED, &found, &size) != 0) return std::nullopt;
  return Peer{found.uid, found.gid, found.pid};
}

// Signals are the business of the daemon's main thread.
void block_signals() {
  sigset_t all;
  ::sigfillset(&all);
  ::pthread_sigmask(SIG_BLOCK, &all, nullptr);
}

}  // namespace

void Server::Loop::start() {
  work_.emplace(context_.get_executor());
  accept();
  thread_ = std::thread([this] {
    block_signals();
    ::pthread_setname_np(::pthread_self(), "sirocco-io");
    context_.run();
  });
}

void Server::Loop::accept() {
  acceptor_.async_accept(
      [this](const boost::system::error_code& error, Socket socket) { on_accept(error, std::move(socket)); });
}

void Server::Loop::on_accept(const boost::system::error_code& error, Socket socket) {
  if (stopping_) return;
  if (!error) {
    const auto peer = credentials(socket.native_handle());
    if (peer && admit(socket, *peer)) {
      const ConnectionId id = next_id_++;
      const auto connection =
          std::make_shared<Connection>(std::move(socket), id, *peer, limits_, handler_, [this, id] { remove(id); });
      table_.emplace(id, connection);
      connection_count_.store(table_.size(), std::memory_order_relaxed);
      connection->start();
    }
    return accept();
  }
  if (error == boost::system::errc::connection_aborted) return accept();  // the client gave up meanwhile
  // Out of descriptors or memory: those who are connected go on, and the others wait in the backlog.
  constexpr std::chrono::milliseconds kPause{100};
  spdlog::warn("cannot accept a client: {}; trying again in {} ms", error.message(), kPause.count());
  retry_.expires_after(kPause);
  retry_.async_wait([this](const boost::system::error_code& cancelled) {
    if (!cancelled && !stopping_) accept();
  });
}

// Says why not, and leaves the socket to be closed.
bool Server::Loop::admit(Socket& socket, const Peer& peer) {
  const auto of_uid = static_cast<std::size_t>(
      std::ranges::count_if(table_, [&](const auto& entry) { return entry.second->peer().uid == peer.uid; }));
  std::string reason;
  if (table_.size() >= limits_.connections) {
    reason = fmt::format("the daemon has {} connections, its limit", table_.size());
  } else if (of_uid >= limits_.connections_per_uid) {
    reason = fmt::format("user {} has {} connections, the limit: close one", peer.uid, of_uid);
  } else {
    return true;
  }
  spdlog::debug("user {}, pid {}: {}", peer.uid, peer.pid, reason);
  const auto frame = wire::encode(wire::Error{wire::ErrorCode::too_many_connections, reason, 1000}, 0);
  // A new socket has room for one small frame.
  (void)::send(socket.native_handle(), frame.data(), frame.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
  return false;
}

void Server::Loop::remove(ConnectionId id) {
  table_.erase(id);
  connection_count_.store(table_.size(), std::memory_order_relaxed);
  if (stopping_ && table_.empty()) work_.reset();
}

void Server::Loop::send(RequestKey key, wire::Message message) {
  const std::lock_guard lock(outbox_mutex_);
  outbox_.emplace_back(key, std::move(message));
  if (outbox_.size() == 1) asio::post(context_, [this] { deliver(); });
}

void Server::Loop::deliver() {
  std::vector<std::pair<RequestKey, wire::Message>> messages;
  {
    const std::lock_guard lock(outbox_mutex_);
    messages.swap(outbox_);
  }
  for (auto& [key, message] : messages) {
    // Kept alive here: what it sends may be what closes it.
    const auto found = table_.find(key.connection);
    if (found == table_.end()) continue;
    const std::shared_ptr<Connection> connection = found->second;
    connection->send(key, std::move(message));
  }
}

void Server::Loop::shut_down() {
  stopping_ = true;
  boost::system::error_code ignored;
  acceptor_.close(ignored);
  retry_.cancel();
  deliver();
  const auto connections = table_;  // closing one removes it from the table
  for (const auto& [id, connection] : connections) connection->shut_down();
  if (table_.empty()) work_.reset();
}

void Server::Loop::stop() {
  if (!thread_.joinable()) return;
  asio::post(context_, [this] { shut_down(); });
  thread_.join();
  file_.reset();
}

Server::Server(ListeningSocket socket, const ServerLimits& limits, Handler& handler)
    : loop_(std::make_unique<Loop>(std::move(socket), limits, handler)) {}

Server::~Server() {
  stop();
}

void Server::start() {
  loop_->start();
}

void Server::send(RequestKey key, wire::Message message) {
  loop_->send(key, std::move(message));
}

std::size_t Server::connections() const {
  return loop_->connections();
}

void Server::stop() {
  loop_->stop();
}

}  // namespace sirocco

#include "ipc/server/server.h"

#include <fmt/format.h>
#include <pthread.h>
#include <signal.h>
#include <spdlog/spdlog.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <cerrno>
#include <deque>
#include <map>
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
  Loop(ListeningSocket socket, const ServerLimits& limits, Handler& handler, std::optional<AdminSocket> admin)
      : limits_(limits), handler_(handler), any_admin_(admin && admin->anybody) {
    doors_.emplace_back(context_, std::move(socket), false);
    if (admin) doors_.emplace_back(context_, std::move(admin->socket), true);
  }

  void start();
  void send(RequestKey key, wire::Message message);
  std::size_t connections() const { return connection_count_.load(std::memory_order_relaxed); }
  std::uint64_t pulse() const { return pulse_.load(std::memory_order_relaxed); }
  void ask_for_pulse();
  void stop();

 private:
  using Socket = Connection::Socket;

  // Where clients come in.
  struct Door {
    Door(asio::io_context& context, ListeningSocket socket, bool for_admins)
        : file(std::move(socket)), acceptor(context), retry(context), admin(for_admins) {
      acceptor.assign(asio::local::stream_protocol(), file.take());
    }
    ListeningSocket file;
    asio::local::stream_protocol::acceptor acceptor;
    asio::steady_timer retry;  // after accept() ran out of descriptors
    bool admin;
  };

  void accept(Door& door);
  void on_accept(Door& door, const boost::system::error_code& error, Socket socket);
  std::optional<PeerLimits> admit(Socket& socket, const Peer& peer);
  void remove(ConnectionId id);
  void deliver();
  void shut_down();

  // Of the I/O thread.
  asio::io_context context_{1};
  std::deque<Door> doors_;
  const ServerLimits limits_;
  Handler& handler_;
  const bool any_admin_;
  std::unordered_map<ConnectionId, std::shared_ptr<Connection>> table_;
  // Of administrators, and of the others: a user may be both. Of those who are connected.
  std::map<std::pair<bool, uid_t>, UserAccount> accounts_;
  ConnectionId next_id_ = 1;
  bool stopping_ = false;

  // Shared.
  std::optional<asio::executor_work_guard<asio::io_context::executor_type>> work_;
  std::thread thread_;
  std::atomic<std::size_t> connection_count_{0};
  std::atomic<std::uint64_t> pulse_{0};
  std::mutex outbox_mutex_;
  std::vector<std::pair<RequestKey, wire::Message>> outbox_;
};

namespace {

// None where the kernel does not tell (before Linux 4.13).
std::vector<gid_t> groups_of(int descriptor) {
  std::vector<gid_t> groups(64);
  socklen_t size = static_cast<socklen_t>(groups.size() * sizeof(gid_t));
  int failed = ::getsockopt(descriptor, SOL_SOCKET, SO_PEERGROUPS, groups.data(), &size);
  if (failed != 0 && errno == ERANGE) {  // size is what it takes
    groups.resize(size / sizeof(gid_t));
    failed = ::getsockopt(descriptor, SOL_SOCKET, SO_PEERGROUPS, groups.data(), &size);
  }
  groups.resize(failed != 0 ? 0 : size / sizeof(gid_t));
  return groups;
}

std::optional<Peer> credentials(int descriptor) {
  ucred found{};
  socklen_t size = sizeof(found);
  if (::getsockopt(descriptor, SOL_SOCKET, SO_PEERCRED, &found, &size) != 0) return std::nullopt;
  return Peer{.uid = found.uid, .gid = found.gid, .pid = found.pid, .groups = groups_of(descriptor)};
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
  for (Door& door : doors_) accept(door);
  thread_ = std::thread([this] {
    block_signals();
    ::pthread_setname_np(::pthread_self(), "io");
    context_.run();
  });
}

void Server::Loop::accept(Door& door) {
  door.acceptor.async_accept([this, &door](const boost::system::error_code& error, Socket socket) {
    on_accept(door, error, std::move(socket));
  });
}

void Server::Loop::on_accept(Door& door, const boost::system::error_code& error, Socket socket) {
  if (stopping_) return;
  if (!error) {
    auto peer = credentials(socket.native_handle());
    if (peer) peer->admin = door.admin;
    if (const auto limits = peer ? admit(socket, *peer) : std::nullopt) {
      const ConnectionId id = next_id_++;
      UserAccount& account = accounts_[{peer->admin, peer->uid}];
      ++account.connections;
      const auto connection = std::make_shared<Connection>(std::move(socket), id, *peer, limits_, *limits, account,
                                                           handler_, [this, id] { remove(id); });
      table_.emplace(id, connection);
      connection_count_.store(table_.size(), std::memory_order_relaxed);
      connection->start();
    }
    return accept(door);
  }
  if (error == boost::system::errc::connection_aborted) return accept(door);  // the client gave up meanwhile
  // Out of descriptors or memory: those who are connected go on, and the others wait in the backlog.
  constexpr std::chrono::milliseconds kPause{100};
  spdlog::warn("cannot accept a client: {}; trying again in {} ms", error.message(), kPause.count());
  door.retry.expires_after(kPause);
  door.retry.async_wait([this, &door](const boost::system::error_code& cancelled) {
    if (!cancelled && !stopping_) accept(door);
  });
}

// Nothing, and the client is told why, if it may not connect: the socket is left to be closed.
std::optional<PeerLimits> Server::Loop::admit(Socket& socket, const Peer& peer) {
  const auto alike = static_cast<std::size_t>(
      std::ranges::count_if(table_, [&](const auto& entry) { return entry.second->peer().admin == peer.admin; }));
  const auto account = accounts_.find({peer.admin, peer.uid});
  const std::size_t of_user = account == accounts_.end() ? 0 : account->second.connections;
  auto code = wire::ErrorCode::too_many_connections;
  std::string reason;
  tl::expected<PeerLimits, std::string> limits = PeerLimits{.connections = limits_.admin_connections};
  if (!peer.admin) limits = handler_.on_connect(peer);
  if (peer.admin && !any_admin_ && peer.uid != 0 && peer.uid != ::geteuid()) {
    code = wire::ErrorCode::permission_denied;
    reason = fmt::format("user {} may not administer this daemon", peer.uid);
  } else if (!limits) {
    code = wire::ErrorCode::permission_denied;
    reason = limits.error();
  } else if (alike >= (peer.admin ? limits_.admin_connections : limits_.connections)) {
    reason = fmt::format("the daemon has {} connections, its limit", alike);
  } else if (of_user >= limits->connections) {
    reason = fmt::format("user {} has {} connections, the limit: close one", peer.uid, of_user);
  } else {
    return *limits;
  }
  spdlog::debug("user {}, pid {}: {}", peer.uid, peer.pid, reason);
  const auto frame =
      wire::encode(wire::Error{code, reason, code == wire::ErrorCode::permission_denied ? 0U : 1000U}, 0);
  // A new socket has room for one small frame.
  (void)::send(socket.native_handle(), frame.data(), frame.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
  return std::nullopt;
}

void Server::Loop::remove(ConnectionId id) {
  const auto found = table_.find(id);
  const Peer& peer = found->second->peer();
  const auto account = accounts_.find({peer.admin, peer.uid});
  // The connection has forgotten its requests already.
  if (--account->second.connections == 0) accounts_.erase(account);
  table_.erase(found);
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
  for (Door& door : doors_) {
    door.acceptor.close(ignored);
    door.retry.cancel();
  }
  deliver();
  const auto connections = table_;  // closing one removes it from the table
  for (const auto& [id, connection] : connections) connection->shut_down();
  if (table_.empty()) work_.reset();
}

void Server::Loop::ask_for_pulse() {
  asio::post(context_, [this] { pulse_.fetch_add(1, std::memory_order_relaxed); });
}

void Server::Loop::stop() {
  if (!thread_.joinable()) return;
  asio::post(context_, [this] { shut_down(); });
  thread_.join();
  doors_.clear();
}

Server::Server(ListeningSocket socket, const ServerLimits& limits, Handler& handler, std::optional<AdminSocket> admin)
    : loop_(std::make_unique<Loop>(std::move(socket), limits, handler, std::move(admin))) {}

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

std::uint64_t Server::pulse() const {
  return loop_->pulse();
}

void Server::ask_for_pulse() {
  loop_->ask_for_pulse();
}

void Server::stop() {
  loop_->stop();
}

}  // namespace sirocco

#include "ipc/server/connection.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <boost/asio/buffer.hpp>
#include <boost/asio/write.hpp>
#include <utility>

#include "ipc/wire/codec.h"
#include "ipc/wire/utf8.h"
#include "ipc/wire/validate.h"

namespace sirocco {
namespace {

using wire::ErrorCode;

constexpr std::size_t kReadBytes = 16 * 1024;
constexpr std::uint32_t kRestartMs = 1000;  // after which a daemon that is restarted may be back
constexpr std::uint32_t kEndingMs = 100;    // within which a request may have ended
constexpr std::size_t kFrameOverhead = 64;  // of a TokenBatch: header, tables, and our own bookkeeping

// In place of a message that may not be sent. An Error keeps its code: its text may quote a file's name or content.
wire::Error allowed_error(const wire::Message& message, const wire::WireError& why) {
  const auto* error = std::get_if<wire::Error>(&message);
  if (error != nullptr && !wire::error_name(error->code).empty()) {
    return {error->code, wire::printable(error->message, wire::kMaxMessageBytes), error->retry_after_ms};
  }
  return {ErrorCode::internal, "the answer does not fit the protocol: " + why.message};
}

std::size_t charge_of(const wire::TokenBatch& batch) {
  return batch.text.size() + batch.ids.size() * sizeof(batch.ids[0]);
}

}  // namespace

Connection::Connection(Socket socket, ConnectionId id, Peer peer, const ServerLimits& limits,
                       const PeerLimits& peer_limits, UserAccount& account, Handler& handler,
                       std::function<void()> on_closed)
    : socket_(std::move(socket)),
      id_(id),
      peer_(std::move(peer)),
      limits_(limits),
      peer_limits_(peer_limits),
      account_(account),
      handler_(handler),
      on_closed_(std::move(on_closed)),
      read_buffer_(kReadBytes),
      deadline_(socket_.get_executor()) {}

void Connection::start() {
  set_deadline(limits_.hello_timeout, &Connection::on_hello_timeout);
  read();
}

// --- reading

void Connection::read() {
  if (phase_ >= Phase::closing) return;
  // A client that asks without reading the answers is not read from: otherwise the refusals of its bad frames would
  // pile up here without limit.
  paused_ = queued_bytes_ > limits_.queued_bytes / 2;
  if (phase_ == Phase::open && (paused_ || reader_.held() == 0)) {
    clear_deadline();
    partial_frame_ = false;
  }
  if (paused_) return;
  // A frame that has begun must end in time, however its bytes trickle in. Hello has its own, shorter deadline.
  if (phase_ == Phase::open && reader_.held() > 0 && !partial_frame_) {
    set_deadline(limits_.frame_timeout, &Connection::on_frame_timeout);
    partial_frame_ = true;
  }
  socket_.async_read_some(
      boost::asio::buffer(read_buffer_),
      [self = shared_from_this()](boost::system::error_code error, std::size_t bytes) { self->on_read(error, bytes); });
}

void Connection::on_read(boost::system::error_code error, std::size_t bytes) {
  if (phase_ >= Phase::closing) return;
  if (error) return close();
  reader_.push(std::span(read_buffer_).first(bytes));
  while (phase_ < Phase::closing) {
    const auto frame = reader_.next();
    if (!frame) {
      refuse(0, frame.error().code, frame.error().message);
      return close_when_flushed();
    }
    if (!*frame) break;
    partial_frame_ = false;
    on_frame(**frame);
  }
  read();
}

void Connection::on_frame(const wire::Frame& frame) {
  auto message = wire::decode(frame.type, frame.payload);
  if (!message) {
    refuse(frame.request_id, message.error().code, message.error().message);
    const bool understood =
        message.error().code == ErrorCode::unknown_type || message.error().code == ErrorCode::invalid_message;
    if (!understood || phase_ == Phase::before_hello) close_when_flushed();
    return;
  }
  if (phase_ == Phase::before_hello && !std::holds_alternative<wire::Hello>(*message)) {
    refuse(frame.request_id, ErrorCode::unexpected_message,
           fmt::format("{} before Hello: the first message must be Hello",
                       wire::message_name(wire::message_type(*message))));
    return close_when_flushed();
  }
  std::visit([&](auto& m) { on_message(frame.request_id, std::move(m)); }, *message);
}

void Connection::on_message(std::uint64_t id, wire::Hello hello) {
  if (phase_ != Phase::before_hello) {
    return refuse(id, ErrorCode::unexpected_message, "Hello: this connection has had one");
  }
  if (hello.version_min > wire::kProtocolVersion) {
    refuse(id, ErrorCode::version_mismatch,
           fmt::format("this daemon speaks version {} of the protocol, the client {} to {}: update the daemon",
                       wire::kProtocolVersion, hello.version_min, hello.version_max));
    return close_when_flushed();
  }
  phase_ = Phase::open;
  greeted_ = true;
  reader_.set_max_payload(static_cast<std::uint32_t>(limits_.frame_bytes));
  wire::Welcome welcome = handler_.on_hello(peer_, hello);
  welcome.version = wire::kProtocolVersion;
  welcome.max_payload_bytes = static_cast<std::uint32_t>(limits_.frame_bytes);
  welcome.max_in_flight = static_cast<std::uint32_t>(peer_limits_.in_flight_per_connection);
  spdlog::debug("connection {}: \"{}\" of user {}, pid {}", id_, hello.client, peer_.uid, peer_.pid);
  queue(id, welcome);
}

void Connection::on_message(std::uint64_t id, wire::Generate generate) {
  const auto key = begin(id, {.cancellable = true, .omit_ids = generate.omit_ids});
  if (key) handler_.on_generate(*key, peer_, std::move(generate));
}

void Connection::on_message(std::uint64_t id, wire::Tokenize tokenize) {
  if (const auto key = begin(id, {})) handler_.on_tokenize(*key, peer_, std::move(tokenize));
}

void Connection::on_message(std::uint64_t id, wire::Detokenize detokenize) {
  if (const auto key = begin(id, {})) handler_.on_detokenize(*key, peer_, std::move(detokenize));
}

void Connection::on_message(std::uint64_t id, wire::Status) {
  if (const auto key = begin(id, {})) handler_.on_status(*key, peer_);
}

void Connection::on_message(std::uint64_t id, wire::Session session) {
  if (const auto key = begin(id, {})) handler_.on_session(*key, peer_, std::move(session));
}

void Connection::on_message(std::uint64_t id, wire::SetBudget budget) {
  if (const auto key = begin_for_admin(id, wire::MessageType::set_budget)) handler_.on_set_budget(*key, peer_, budget);
}

void Connection::on_message(std::uint64_t id, wire::Drain drain) {
  if (const auto key = begin_for_admin(id, wire::MessageType::drain)) handler_.on_drain(*key, peer_, drain);
}

void Connection::on_message(std::uint64_t id, wire::Reload reload) {
  if (const auto key = begin_for_admin(id, wire::MessageType::reload))
    handler_.on_reload(*key, peer_, std::move(reload));
}

void Connection::on_message(std::uint64_t id, wire::Evict) {
  if (const auto key = begin_for_admin(id, wire::MessageType::evict)) handler_.on_evict(*key, peer_);
}

void Connection::on_message(std::uint64_t id, wire::Cancel) {
  const auto request = in_flight_.find(id);
  if (request == in_flight_.end() || !request->second.cancellable) return;
  handler_.on_cancel({.connection = id_, .request_id = id, .serial = request->second.serial});
}

template <class FromServer>
void Connection::on_message(std::uint64_t id, FromServer message) {
  refuse(id, ErrorCode::unexpected_message,
         fmt::format("{}: only the daemon sends this", wire::message_name(wire::message_type(std::move(message)))));
}

std::optional<RequestKey> Connection::begin(std::uint64_t id, InFlight request) {
  if (id == 0) {
    refuse(0, ErrorCode::invalid_message, "request_id: 0 means the connection; number requests from 1");
    return std::nullopt;
  }
  if (in_flight_.contains(id)) {
    refuse(0, ErrorCode::duplicate_request, fmt::format("request_id: {} is in flight already", id));
    return std::nullopt;
  }
  if (in_flight_.size() >= peer_limits_.in_flight_per_connection) {
    refuse(id, ErrorCode::too_many_requests,
           fmt::format("{} requests are in flight on this connection: wait for one to end", in_flight_.size()),
           kEndingMs);
    return std::nullopt;
  }
  if (account_.in_flight >= peer_limits_.in_flight) {
    refuse(id, ErrorCode::too_many_requests,
           fmt::format("user {} has {} requests in flight on all its connections: wait for one to end", peer_.uid,
                       account_.in_flight),
           kEndingMs);
    return std::nullopt;
  }
  request.serial = ++last_serial_;
  in_flight_.emplace(id, request);
  ++account_.in_flight;
  return RequestKey{.connection = id_, .request_id = id, .serial = request.serial};
}

std::optional<RequestKey> Connection::begin_for_admin(std::uint64_t id, wire::MessageType type) {
  if (peer_.admin) return begin(id, {});
  refuse(id, ErrorCode::permission_denied,
         fmt::format("{}: only on the socket for administration", wire::message_name(type)));
  return std::nullopt;
}

void Connection::forget(std::uint64_t id) {
  account_.in_flight -= in_flight_.erase(id);
}

// --- writing

void Connection::send(const RequestKey& key, wire::Message message) {
  const auto request = in_flight_.find(key.request_id);
  if (request == in_flight_.end() || request->second.serial != key.serial) return;
  if (auto* batch = std::get_if<wire::TokenBatch>(&message)) {
    if (request->second.omit_ids) batch->ids.clear();
    return queue_batch(key, std::move(*batch));
  }
  if (!std::holds_alternative<wire::Accepted>(message)) forget(key.request_id);
  queue(key.request_id, message);
}

// An Error that follows from a frame which began no request must not look like the ending of one that is under way:
// such an Error is the connection's.
void Connection::refuse(std::uint64_t id, ErrorCode code, std::string message, std::uint32_t retry_after_ms) {
  spdlog::debug("connection {} of user {}: {}: {}", id_, peer_.uid, wire::error_name(code), message);
  queue(in_flight_.contains(id) ? 0 : id, wire::Error{code, std::move(message), retry_after_ms});
}

void Connection::queue(std::uint64_t id, const wire::Message& message) {
  if (phase_ == Phase::closed) return;
  if (const auto valid = wire::validate(message); !valid) {
    spdlog::error("connection {}: the daemon sends what the protocol does not allow: {}", id_, valid.error().message);
    return queue(id, allowed_error(message, valid.error()));
  }
  std::vector<std::byte> frame = wire::encode(message, id);
  if (frame.size() - wire::kHeaderBytes > limits_.frame_bytes)
    return queue(id,
                 wire::Error{ErrorCode::invalid_argument,
                             fmt::format("the answer takes {} bytes, a frame at most {} (server.limits.frame_bytes): "
                                         "ask for it in parts",
                                         frame.size() - wire::kHeaderBytes, limits_.frame_bytes)});
  // Small messages are at most a beginning and an ending for each request. Long answers wait for room.
  const bool long_answer =
      std::holds_alternative<wire::Tokenized>(message) || std::holds_alternative<wire::Detokenized>(message);
  if (long_answer && queued_bytes_ > 0 && queued_bytes_ + frame.size() > limits_.queued_bytes) return end_slow(id);
  queued_bytes_ += frame.size();
  queue_.push_back({.request_id = id, .batch = std::nullopt, .frame = std::move(frame), .bytes = 0});
  queue_.back().bytes = queue_.back().frame.size();
  write();
}

void Connection::queue_batch(const RequestKey& key, wire::TokenBatch batch) {
  const std::uint64_t id = key.request_id;
  if (batch.ids.empty() && batch.text.empty()) return;
  if (const auto valid = wire::validate(batch); !valid) {
    forget(id);
    handler_.on_ended(key, ErrorCode::internal);
    return queue(id, batch);  // which says why
  }
  auto waiting =
      std::find_if(queue_.rbegin(), queue_.rend(), [id](const Outgoing& o) { return o.request_id == id && o.batch; });
  // What waits is joined, as far as it fits a frame.
  if (waiting != queue_.rend() && waiting->bytes + charge_of(batch) > limits_.frame_bytes) waiting = queue_.rend();
  const std::size_t bytes = charge_of(batch) + (waiting == queue_.rend() ? kFrameOverhead : 0);
  if (queued_bytes_ + bytes > limits_.queued_bytes) {
    forget(id);
    handler_.on_ended(key, ErrorCode::slow_consumer);
    return end_slow(id);
  }
  queued_bytes_ += bytes;
  if (waiting == queue_.rend()) {
    queue_.push_back({.request_id = id, .batch = std::move(batch), .frame = {}, .bytes = bytes});
    return write();
  }
  waiting->batch->text += batch.text;
  waiting->batch->ids.insert(waiting->batch->ids.end(), batch.ids.begin(), batch.ids.end());
  waiting->bytes += bytes;
}

// The request's queued text is given up: what the client has read so far stays a prefix of the answer.
void Connection::end_slow(std::uint64_t id) {
  std::erase_if(queue_, [&](const Outgoing& outgoing) {
    if (outgoing.request_id != id || !outgoing.batch) return false;
    queued_bytes_ -= outgoing.bytes;
    return true;
  });
  queue(id, wire::Error{ErrorCode::slow_consumer,
                        fmt::format("{} bytes are waiting to be read on this connection: read faster, or ask for less",
                                    queued_bytes_)});
}

void Connection::write() {
  if (phase_ == Phase::closed || !writing_.empty()) return;
  if (queue_.empty()) {
    if (phase_ == Phase::closing) close();
    return;
  }
  Outgoing next = std::move(queue_.front());
  queue_.pop_front();
  writing_ = next.batch ? wire::encode(*next.batch, next.request_id) : std::move(next.frame);
  writing_bytes_ = next.bytes;
  boost::asio::async_write(
      socket_, boost::asio::buffer(writing_),
      [self = shared_from_this()](boost::system::error_code error, std::size_t) { self->on_written(error); });
}

void Connection::on_written(boost::system::error_code error) {
  writing_.clear();
  queued_bytes_ -= std::exchange(writing_bytes_, 0);
  if (phase_ == Phase::closed) return;
  if (error) return close();
  write();
  if (paused_ && queued_bytes_ <= limits_.queued_bytes / 2) read();
}

// --- deadlines and the end

void Connection::set_deadline(std::chrono::milliseconds after, void (Connection::*action)()) {
  deadline_.expires_after(after);
  // A wait that has expired may already be on its way here: the generation tells it that it was overtaken.
  deadline_.async_wait(
      [self = shared_from_this(), action, generation = ++deadline_generation_](boost::system::error_code error) {
        if (!error && generation == self->deadline_generation_) (self.get()->*action)();
      });
}

void Connection::clear_deadline() {
  ++deadline_generation_;
  deadline_.cancel();
}

void Connection::on_hello_timeout() {
  refuse(0, ErrorCode::timeout, fmt::format("no Hello within {} ms of connecting", limits_.hello_timeout.count()));
  close_when_flushed();
}

void Connection::on_frame_timeout() {
  refuse(0, ErrorCode::timeout, fmt::format("a frame did not end within {} ms", limits_.frame_timeout.count()));
  close_when_flushed();
}

void Connection::shut_down() {
  if (phase_ >= Phase::closing) return;
  const wire::Error stopping{ErrorCode::shutting_down, "the daemon is stopping: ask again once it is back", kRestartMs};
  for (const auto& [id, request] : in_flight_) queue(id, stopping);
  queue(0, stopping);
  close_when_flushed();
}

void Connection::forget_requests() {
  account_.in_flight -= in_flight_.size();
  in_flight_.clear();
  if (std::exchange(greeted_, false)) handler_.on_disconnect(id_);
}

void Connection::close_when_flushed() {
  if (phase_ >= Phase::closing) return;
  phase_ = Phase::closing;
  forget_requests();
  set_deadline(limits_.flush_timeout, &Connection::close);
  write();  // closes at once if nothing waits
}

void Connection::close() {
  if (phase_ == Phase::closed) return;
  phase_ = Phase::closed;
  clear_deadline();
  boost::system::error_code ignored;
  socket_.close(ignored);
  queue_.clear();
  forget_requests();
  on_closed_();
}

}  // namespace sirocco

#include "ipc/client/client.h"

#include <fmt/format.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <system_error>
#include <utility>

#include "ipc/client/connect.h"
#include "ipc/wire/codec.h"
#include "ipc/wire/frame.h"
#include "ipc/wire/validate.h"

namespace sirocco {
namespace {

using Clock = std::chrono::steady_clock;
using Kind = ClientError::Kind;
using std::chrono::milliseconds;

constexpr std::size_t kReadBytes = 64 * 1024;

tl::unexpected<ClientError> fail(Kind kind, std::string message) {
  return tl::unexpected<ClientError>(ClientError{.kind = kind, .message = std::move(message)});
}

std::string reason(int error) {
  return std::generic_category().message(error);
}

tl::unexpected<ClientError> refused(const wire::Error& error) {
  return tl::unexpected<ClientError>(
      ClientError{.kind = Kind::refused,
                  .message = fmt::format("{} ({})", error.message, error_name(error.code)),
                  .code = error.code,
                  .retry_after_ms = error.retry_after_ms});
}

// For poll(): -1 without a deadline, rounded up so that the last wait does not spin.
int poll_timeout(std::optional<Clock::time_point> deadline) {
  if (!deadline) return -1;
  const auto left = std::chrono::ceil<milliseconds>(*deadline - Clock::now()).count();
  return static_cast<int>(std::clamp<std::int64_t>(left, 0, 1'000'000'000));
}

}  // namespace

struct Client::State {
  std::string path;
  ClientOptions options;
  int socket = -1;
  int wake = -1;  // eventfd that cancel() writes
  wire::Welcome welcome;
  wire::FrameReader reader{wire::kMaxPayload};
  std::vector<std::byte> read_buffer = std::vector<std::byte>(kReadBytes);
  std::uint64_t next_id = 1;

  ~State() {
    if (socket >= 0) ::close(socket);
    if (wake >= 0) ::close(wake);
  }

  enum class Ready { readable, woken, timeout };
  ClientResult<Ready> wait(std::optional<Clock::time_point> deadline, bool wakeable);
  ClientResult<std::optional<Received>> next_message();
  ClientResult<void> read_some();
};

// Until there is something to read, cancel() was called (if `wakeable`), or the deadline.
ClientResult<Client::State::Ready> Client::State::wait(std::optional<Clock::time_point> deadline, bool wakeable) {
  for (;;) {
    pollfd descriptors[2] = {{.fd = socket, .events = POLLIN, .revents = 0},
                             {.fd = wake, .events = POLLIN, .revents = 0}};
    const int ready = ::poll(descriptors, wakeable ? 2 : 1, poll_timeout(deadline));
    if (ready < 0 && errno != EINTR) return fail(Kind::system, "poll: " + reason(errno));
    if (ready > 0 && descriptors[1].revents != 0) return Ready::woken;
    if (ready > 0) return Ready::readable;
    if (deadline && Clock::now() >= *deadline) return Ready::timeout;
  }
}

ClientResult<std::optional<Client::Received>> Client::State::next_message() {
  auto frame = reader.next();
  if (!frame) return fail(Kind::protocol, fmt::format("{}: not Sirocco's protocol: {}", path, frame.error().message));
  if (!*frame) return std::nullopt;
  auto message = wire::decode((*frame)->type, (*frame)->payload);
  if (!message) return fail(Kind::protocol, fmt::format("{}: from the daemon: {}", path, message.error().message));
  return Received{(*frame)->request_id, *std::move(message)};
}

ClientResult<void> Client::State::read_some() {
  const ssize_t bytes = ::recv(socket, read_buffer.data(), read_buffer.size(), 0);
  if (bytes > 0) {
    reader.push(std::span(read_buffer).first(static_cast<std::size_t>(bytes)));
    return {};
  }
  if (bytes < 0 && (errno == EAGAIN || errno == EINTR)) return {};
  const bool gone = bytes == 0 || errno == ECONNRESET;
  return fail(Kind::disconnected,
              fmt::format("{}: the daemon closed the connection{}", path,
                          gone ? "; its log says why (journalctl -u sirocco)" : ": " + reason(errno)));
}

Client::Client(std::unique_ptr<State> state) : state_(std::move(state)) {}
Client::Client(Client&&) noexcept = default;
Client& Client::operator=(Client&&) noexcept = default;
Client::~Client() = default;

const wire::Welcome& Client::welcome() const {
  return state_->welcome;
}

int Client::descriptor() const {
  return state_->socket;
}

ClientResult<Client> Client::connect(const std::string& path, ClientOptions options) {
  const Clock::time_point deadline = Clock::now() + options.timeout;
  auto state = std::make_unique<State>();
  state->path = path;
  state->options = std::move(options);
  const auto socket = connect_socket(path, deadline);
  if (!socket) return tl::unexpected<ClientError>(socket.error());
  state->socket = *socket;
  state->wake = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (state->wake < 0) return fail(Kind::system, "eventfd: " + reason(errno));

  Client client(std::move(state));
  if (auto shaken = client.handshake(deadline); !shaken) return tl::unexpected<ClientError>(shaken.error());
  return client;
}

ClientResult<void> Client::handshake(Clock::time_point deadline) {
  // A daemon that refuses us at once may have closed before Hello is written: its reason is still there to be read.
  auto sent = send(0, wire::Hello{wire::kProtocolVersion, wire::kProtocolVersion, state_->options.name});
  if (!sent && sent.error().kind != Kind::disconnected) return sent;
  const auto left = std::max(milliseconds(0), std::chrono::ceil<milliseconds>(deadline - Clock::now()));
  auto answer = receive(left);
  if (!answer) return tl::unexpected<ClientError>(answer.error());
  if (!*answer) {
    return fail(Kind::timeout,
                fmt::format("{}: the daemon did not greet us within {} ms: is it stuck? Its log says more "
                            "(journalctl -u sirocco)",
                            state_->path, state_->options.timeout.count()));
  }
  if (const auto* error = std::get_if<wire::Error>(&(*answer)->message)) return refused(*error);
  auto* welcome = std::get_if<wire::Welcome>(&(*answer)->message);
  if (welcome == nullptr) {
    return fail(Kind::protocol, fmt::format("{}: {} instead of Welcome", state_->path,
                                            wire::message_name(wire::message_type((*answer)->message))));
  }
  state_->welcome = std::move(*welcome);
  return {};
}

ClientResult<void> Client::send(std::uint64_t request_id, const wire::Message& message) {
  if (const auto valid = wire::validate(message); !valid) return fail(Kind::invalid, valid.error().message);
  const std::vector<std::byte> frame = wire::encode(message, request_id);
  const Clock::time_point deadline = Clock::now() + state_->options.timeout;
  for (std::size_t done = 0; done < frame.size();) {
    const ssize_t bytes = ::send(state_->socket, &frame[done], frame.size() - done, MSG_NOSIGNAL);
    if (bytes >= 0) {
      done += static_cast<std::size_t>(bytes);
    } else if (errno == EAGAIN) {
      pollfd writable{.fd = state_->socket, .events = POLLOUT, .revents = 0};
      if (::poll(&writable, 1, poll_timeout(deadline)) == 0) {
        return fail(Kind::timeout, fmt::format("{}: the daemon did not read for {} ms: read its answers first",
                                               state_->path, state_->options.timeout.count()));
      }
    } else if (errno != EINTR) {
      return fail(Kind::disconnected,
                  fmt::format("{}: the daemon closed the connection: {}", state_->path, reason(errno)));
    }
  }
  return {};
}

ClientResult<std::optional<Client::Received>> Client::receive(milliseconds timeout) {
  const auto deadline = timeout.count() < 0 ? std::nullopt : std::optional(Clock::now() + timeout);
  for (;;) {
    auto message = state_->next_message();
    if (!message || *message) return message;
    const auto ready = state_->wait(deadline, false);
    if (!ready) return tl::unexpected<ClientError>(ready.error());
    if (*ready == State::Ready::timeout) return std::nullopt;
    if (auto read = state_->read_some(); !read) return tl::unexpected<ClientError>(read.error());
  }
}

ClientResult<wire::Done> Client::generate(const wire::Generate& request, const Callbacks& callbacks) {
  std::uint64_t wakes = 0;
  (void)::read(state_->wake, &wakes, sizeof(wakes));  // a cancel() of something that had ended already
  const std::uint64_t id = state_->next_id++;
  if (auto sent = send(id, request); !sent && sent.error().kind != Kind::disconnected) {
    return tl::unexpected<ClientError>(sent.error());
  }
  bool cancelled = false;
  const auto cancel_once = [&]() -> ClientResult<void> {
    return std::exchange(cancelled, true) ? ClientResult<void>{} : send(id, wire::Cancel{});
  };
  for (;;) {
    auto received = state_->next_message();
    if (!received) return tl::unexpected<ClientError>(received.error());
    if (!*received) {
      const auto ready = state_->wait(std::nullopt, true);
      if (!ready) return tl::unexpected<ClientError>(ready.error());
      const bool woken = *ready == State::Ready::woken;
      if (woken) (void)::read(state_->wake, &wakes, sizeof(wakes));
      if (woken && cancelled) {
        return fail(Kind::gave_up,
                    fmt::format("{}: the daemon has not answered the cancel: is it stuck?", state_->path));
      }
      const auto step = woken ? cancel_once() : state_->read_some();
      if (!step) return tl::unexpected<ClientError>(step.error());
      continue;
    }
    const auto& [request_id, message] = **received;
    if (const auto* error = std::get_if<wire::Error>(&message); error && (request_id == id || request_id == 0)) {
      return refused(*error);
    }
    if (request_id != id) continue;  // the late answer to a request that was given up
    if (const auto* done = std::get_if<wire::Done>(&message)) return *done;
    if (const auto* accepted = std::get_if<wire::Accepted>(&message); accepted && callbacks.accepted) {
      callbacks.accepted(*accepted);
    }
    const auto* batch = std::get_if<wire::TokenBatch>(&message);
    if (batch && !cancelled && callbacks.batch && !callbacks.batch(*batch)) {
      if (auto sent = cancel_once(); !sent) return tl::unexpected<ClientError>(sent.error());
    }
  }
}

void Client::cancel() noexcept {
  const int saved = errno;  // this may be a signal handler
  const std::uint64_t one = 1;
  (void)!::write(state_->wake, &one, sizeof(one));
  errno = saved;
}

// Sends a request that has one answer, and waits for it.
template <class Answer, class Request>
ClientResult<Answer> Client::ask(const Request& request, milliseconds timeout) {
  const std::uint64_t id = state_->next_id++;
  if (auto sent = send(id, request); !sent && sent.error().kind != Kind::disconnected) {
    return tl::unexpected<ClientError>(sent.error());
  }
  const Clock::time_point deadline = Clock::now() + timeout;
  for (;;) {
    auto received = receive(timeout.count() < 0
                                ? timeout
                                : std::max(milliseconds(0), std::chrono::ceil<milliseconds>(deadline - Clock::now())));
    if (!received) return tl::unexpected<ClientError>(received.error());
    if (!*received) {
      return fail(Kind::timeout, fmt::format("{}: no answer to {} within {} ms: is the daemon stuck?", state_->path,
                                             wire::message_name(wire::message_type(request)), timeout.count()));
    }
    auto& [request_id, message] = **received;
    if (const auto* error = std::get_if<wire::Error>(&message); error && (request_id == id || request_id == 0)) {
      return refused(*error);
    }
    if (request_id != id) continue;
    if (auto* answer = std::get_if<Answer>(&message)) return std::move(*answer);
  }
}

template <class Answer, class Request>
ClientResult<Answer> Client::ask(const Request& request) {
  return ask<Answer>(request, state_->options.answer_timeout);
}

ClientResult<std::vector<std::int32_t>> Client::tokenize(const wire::Tokenize& request) {
  return ask<wire::Tokenized>(request).map([](wire::Tokenized&& answer) { return std::move(answer.ids); });
}

ClientResult<std::string> Client::detokenize(const wire::Detokenize& request) {
  return ask<wire::Detokenized>(request).map([](wire::Detokenized&& answer) { return std::move(answer.text); });
}

ClientResult<wire::StatusReport> Client::status() {
  return ask<wire::StatusReport>(wire::Status{});
}

ClientResult<wire::SessionReport> Client::session(const wire::Session& request) {
  return ask<wire::SessionReport>(request);
}

ClientResult<wire::BudgetReport> Client::set_budget(std::uint64_t bytes) {
  return ask<wire::BudgetReport>(wire::SetBudget{.bytes = bytes});
}

ClientResult<wire::EvictReport> Client::evict() {
  return ask<wire::EvictReport>(wire::Evict{});
}

ClientResult<wire::DrainReport> Client::drain(const wire::Drain& request) {
  return ask<wire::DrainReport>(request, milliseconds(-1));
}

ClientResult<wire::ReloadReport> Client::reload(const std::string& model) {
  return ask<wire::ReloadReport>(wire::Reload{.model = model}, milliseconds(-1));
}

}  // namespace sirocco

#include "ipc/client/client.h"

#include <fmt/format.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <deque>
#include <system_error>
#include <utility>

#include "ipc/client/connect.h"
#include "ipc/client/fail.h"
#include "ipc/wire/codec.h"
#include "ipc/wire/frame.h"
#include "ipc/wire/validate.h"

namespace sirocco {
namespace {

using Clock = std::chrono::steady_clock;
using Kind = ClientError::Kind;
using std::chrono::milliseconds;

constexpr std::size_t kReadBytes = 64 * 1024;

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
  int wake = -1;    // eventfd that cancel() writes
  int either = -1;  // epoll of both
  wire::Welcome welcome;
  wire::FrameReader reader{wire::kMaxPayload};
  std::vector<std::byte> read_buffer = std::vector<std::byte>(kReadBytes);
  std::uint64_t next_id = 1;
  std::uint64_t answer_id = 0;     // of start(); 0: no answer is under way
  bool cancelled = false;          // and the daemon was told so
  std::deque<wire::Message> kept;  // of the answer, that came while something else was asked

  ~State() {
    for (const int descriptor : {either, wake, socket})
      if (descriptor >= 0) ::close(descriptor);
  }

  ClientResult<void> make_descriptors();
  bool take_cancel();
  ClientResult<std::optional<wire::Message>> next_of_answer();

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

ClientResult<void> Client::State::make_descriptors() {
  wake = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (wake < 0) return fail(Kind::system, "eventfd: " + reason(errno));
  either = ::epoll_create1(EPOLL_CLOEXEC);
  for (const int descriptor : {socket, wake}) {
    epoll_event readable{.events = EPOLLIN, .data = {.fd = descriptor}};
    if (either < 0 || ::epoll_ctl(either, EPOLL_CTL_ADD, descriptor, &readable) != 0)
      return fail(Kind::system, "epoll: " + reason(errno));
  }
  return {};
}

// Whether cancel() has been called since this was asked last.
bool Client::State::take_cancel() {
  std::uint64_t calls = 0;
  return ::read(wake, &calls, sizeof(calls)) == sizeof(calls);
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

int Client::poll_descriptor() const {
  return state_->either;
}

bool Client::answering() const {
  return state_->answer_id != 0;
}

ClientResult<Client> Client::connect(const std::string& path, ClientOptions options) {
  const Clock::time_point deadline = Clock::now() + options.timeout;
  auto state = std::make_unique<State>();
  state->path = path;
  state->options = std::move(options);
  const auto socket = connect_socket(path, deadline);
  if (!socket) return tl::unexpected<ClientError>(socket.error());
  state->socket = *socket;
  if (auto made = state->make_descriptors(); !made) return tl::unexpected<ClientError>(made.error());

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

ClientResult<void> Client::start(const wire::Generate& request) {
  if (answering())
    return fail(Kind::invalid, "an answer is under way: take it to its end, or connect once more for another one");
  (void)state_->take_cancel();  // of something that had ended already
  state_->kept.clear();
  const std::uint64_t id = state_->next_id++;
  // Of a daemon that has closed the connection the reason may still be there to be read.
  if (auto sent = send(id, request); !sent && sent.error().kind != Kind::disconnected) return sent;
  state_->answer_id = id;
  state_->cancelled = false;
  return {};
}

ClientResult<void> Client::send_cancel() {
  if (std::exchange(state_->cancelled, true)) return {};
  auto sent = send(state_->answer_id, wire::Cancel{});
  return !sent && sent.error().kind == Kind::disconnected ? ClientResult<void>{} : sent;
}

// The next message of the answer that has been read; nothing if there is none yet.
ClientResult<std::optional<wire::Message>> Client::State::next_of_answer() {
  if (!kept.empty()) {
    wire::Message first = std::move(kept.front());
    kept.pop_front();
    return first;
  }
  for (;;) {
    auto received = next_message();
    if (!received) return tl::unexpected<ClientError>(std::move(received.error()));
    if (!*received) return std::nullopt;
    auto& [request_id, message] = **received;
    const bool of_the_connection = request_id == 0 && std::holds_alternative<wire::Error>(message);
    // Others are late answers to requests that were given up.
    if (request_id == answer_id || of_the_connection) return std::move(message);
  }
}

ClientResult<std::optional<Client::Event>> Client::next(milliseconds timeout) {
  if (!answering()) {
    (void)state_->take_cancel();
    return fail(Kind::invalid, "no answer is under way: start one first");
  }
  const auto end = [this](ClientError error) {
    state_->answer_id = 0;
    return tl::unexpected<ClientError>(std::move(error));
  };
  const auto deadline = timeout.count() < 0 ? std::nullopt : std::optional(Clock::now() + timeout);
  for (;;) {
    if (state_->take_cancel()) {
      if (state_->cancelled) {
        return end({.kind = Kind::gave_up,
                    .message = fmt::format("{}: the daemon has not answered the cancel: is it stuck?", state_->path)});
      }
      if (auto sent = send_cancel(); !sent) return end(std::move(sent.error()));
    }
    auto message = state_->next_of_answer();
    if (!message) return end(std::move(message.error()));
    if (!*message) {
      const auto ready = state_->wait(deadline, true);
      if (!ready) return end(ready.error());
      if (*ready == State::Ready::timeout) return std::nullopt;
      if (*ready == State::Ready::woken) continue;
      if (auto read = state_->read_some(); !read) return end(std::move(read.error()));
      continue;
    }
    if (const auto* error = std::get_if<wire::Error>(&**message)) return end(refused(*error).value());
    if (auto* accepted = std::get_if<wire::Accepted>(&**message)) return Event(*accepted);
    if (auto* batch = std::get_if<wire::TokenBatch>(&**message)) return Event(std::move(*batch));
    if (auto* done = std::get_if<wire::Done>(&**message)) {
      state_->answer_id = 0;
      return Event(std::move(*done));
    }
  }
}

ClientResult<wire::Done> Client::generate(const wire::Generate& request, const Callbacks& callbacks) {
  if (auto started = start(request); !started) return tl::unexpected<ClientError>(std::move(started.error()));
  for (;;) {
    auto event = next(milliseconds(-1));
    if (!event) return tl::unexpected<ClientError>(std::move(event.error()));
    if (!*event) continue;
    if (auto* done = std::get_if<wire::Done>(&**event)) return std::move(*done);
    if (const auto* accepted = std::get_if<wire::Accepted>(&**event); accepted && callbacks.accepted)
      callbacks.accepted(*accepted);
    const auto* batch = std::get_if<wire::TokenBatch>(&**event);
    if (batch == nullptr || state_->cancelled || !callbacks.batch || callbacks.batch(*batch)) continue;
    if (auto sent = send_cancel(); !sent) {
      state_->answer_id = 0;
      return tl::unexpected<ClientError>(std::move(sent.error()));
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
    if (request_id == id) {
      if (auto* answer = std::get_if<Answer>(&message)) return std::move(*answer);
    } else if (answering() && request_id == state_->answer_id) {
      state_->kept.push_back(std::move(message));
    }
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

ClientResult<wire::BudgetReport> Client::set_budget(std::uint64_t bytes, bool device) {
  return ask<wire::BudgetReport>(wire::SetBudget{.bytes = bytes, .device = device});
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

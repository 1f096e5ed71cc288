// A client of the daemon, without Boost and without threads: calls wait for the answer. One thread uses a Client;
// cancel() alone may come from another one, or from a signal handler.
//
// One answer at a time: generate() waits for all of it, start() and next() take it piece by piece. tokenize(),
// detokenize(), status() and session() may be asked meanwhile. A program that wants several answers at once has several
// Clients, or uses send() and receive() alone and numbers its requests itself.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include <tl/expected.hpp>

#include "ipc/wire/messages.h"

namespace sirocco {

struct ClientError {
  enum class Kind {
    no_daemon,     // nobody listens there
    permission,    // the socket may not be opened
    timeout,       // the daemon did not answer in time
    disconnected,  // the daemon went away
    protocol,      // what came is not the protocol
    invalid,       // what was to be sent is not allowed by the protocol; nothing was sent
    gave_up,       // cancel() came again before the daemon had answered the first: this Client is of no more use
    refused,       // the daemon answered with an Error: `code` and `retry_after_ms` are its
    system,        // the operating system failed us
  };
  Kind kind = Kind::system;
  std::string message;  // what happened and what to do
  wire::ErrorCode code = wire::ErrorCode::internal;
  std::uint32_t retry_after_ms = 0;
};

template <class T>
using ClientResult = tl::expected<T, ClientError>;

struct ClientOptions {
  std::string name = "sirocco";                     // Hello.client, for the daemon's logs
  std::chrono::milliseconds timeout{5000};          // for connecting with the handshake, and for each message sent
  std::chrono::milliseconds answer_timeout{30000};  // for tokenize, detokenize and status: they may wait for a step
};

class Client {
 public:
  // Connects and shakes hands.
  static ClientResult<Client> connect(const std::string& path, ClientOptions options = {});

  Client(Client&&) noexcept;
  Client& operator=(Client&&) noexcept;
  ~Client();  // disconnects: what is in flight is cancelled

  const wire::Welcome& welcome() const;

  struct Callbacks {
    std::function<void(const wire::Accepted&)> accepted = {};  // may be empty
    std::function<bool(const wire::TokenBatch&)> batch = {};   // false: cancel; may be empty
  };
  // Waits as long as the answer takes. A cancelled answer ends with Done and the reason cancelled.
  ClientResult<wire::Done> generate(const wire::Generate& request, const Callbacks& callbacks);

  // The same in steps, for a program that has something else to do meanwhile. Error (invalid): an answer is under way.
  ClientResult<void> start(const wire::Generate& request);
  using Event = std::variant<wire::Accepted, wire::TokenBatch, wire::Done>;
  // What comes next of the answer, or nothing within `timeout` (negative: without end). Done is the last one, and so is
  // any error.
  ClientResult<std::optional<Event>> next(std::chrono::milliseconds timeout);
  bool answering() const;  // start() was called, and next() has not returned the ending
  // Readable when next() may have something to return or cancel() was called. next(0) is to be called until it returns
  // nothing: it has read more than it returned. To be polled while answering(), and to nothing else.
  int poll_descriptor() const;

  // Ends the answer under way; without one it has no effect. A second call, while the daemon has not answered the
  // first, ends the waiting: a daemon that is stuck holds nobody. Async-signal-safe.
  void cancel() noexcept;

  ClientResult<std::vector<std::int32_t>> tokenize(const wire::Tokenize& request);
  ClientResult<std::string> detokenize(const wire::Detokenize& request);
  ClientResult<wire::StatusReport> status();
  ClientResult<wire::SessionReport> session(const wire::Session& request);
  // On the socket for administration.
  ClientResult<wire::BudgetReport> set_budget(std::uint64_t bytes, bool device = false);
  ClientResult<wire::EvictReport> evict();
  // Likewise; these wait as long as it takes.
  ClientResult<wire::DrainReport> drain(const wire::Drain& request);
  ClientResult<wire::ReloadReport> reload(const std::string& model);

  // One level below. The descriptor is readable when receive() has something, for programs with a poll loop.
  struct Received {
    std::uint64_t request_id = 0;
    wire::Message message;
  };
  ClientResult<void> send(std::uint64_t request_id, const wire::Message& message);
  // The next message, or nothing after `timeout` (negative: without end).
  ClientResult<std::optional<Received>> receive(std::chrono::milliseconds timeout);
  int descriptor() const;

 private:
  struct State;
  explicit Client(std::unique_ptr<State> state);
  ClientResult<void> handshake(std::chrono::steady_clock::time_point deadline);
  ClientResult<void> send_cancel();
  // timeout: negative, without end.
  template <class Answer, class Request>
  ClientResult<Answer> ask(const Request& request, std::chrono::milliseconds timeout);
  template <class Answer, class Request>
  ClientResult<Answer> ask(const Request& request);

  std::unique_ptr<State> state_;
};

}  // namespace sirocco

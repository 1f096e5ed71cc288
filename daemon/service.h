// Joins the engine and the server: requests of clients become requests of the engine, its events become messages. Holds
// no state but which request is whose.
//
// The Handler's functions run on the I/O thread, sink() on the engine thread; the table between them is under a mutex
// that is held for look-ups only.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <unordered_map>

#include "engine/engine.h"
#include "ipc/server/handler.h"
#include "ipc/server/server.h"

namespace sirocco::daemon {

class Service final : public Handler {
 public:
  // `on_failure` is called once, on the engine thread, when the engine cannot go on; it must not wait.
  explicit Service(std::function<void(const std::string&)> on_failure) : on_failure_(std::move(on_failure)) {}

  EventSink sink();

  // Both outlive all calls of the Handler's functions. engine: null where no model is configured.
  void connect(Engine* engine, Server* server);

  wire::Welcome on_hello(const Peer& peer, const wire::Hello& hello) override;
  void on_generate(RequestKey key, const Peer& peer, wire::Generate generate) override;
  void on_tokenize(RequestKey key, const Peer& peer, wire::Tokenize tokenize) override;
  void on_detokenize(RequestKey key, const Peer& peer, wire::Detokenize detokenize) override;
  void on_status(RequestKey key, const Peer& peer) override;
  void on_cancel(RequestKey key) override;
  void on_disconnect(ConnectionId connection) override;

 private:
  struct Owner {
    RequestKey key;
    Peer peer;
    bool omit_ids = false;
  };
  std::optional<Owner> find(RequestId id, bool forget);
  void finished(RequestId id, const DoneEvent& done);
  void failed(RequestId id, const sirocco::Error& error);

  std::function<void(const std::string&)> on_failure_;
  bool failure_told_ = false;  // engine thread
  Engine* engine_ = nullptr;
  Server* server_ = nullptr;
  wire::ModelCard card_;
  std::chrono::steady_clock::time_point started_ = std::chrono::steady_clock::now();

  std::mutex mutex_;
  std::unordered_map<RequestId, Owner> owners_;
  std::map<RequestKey, RequestId> ids_;
};

}  // namespace sirocco::daemon

// Joins the engine and the server: requests of clients become requests of the engine, its events become messages. Holds
// no state but which request is whose, and how many have ended.
//
// The Handler's functions run on the I/O thread and hand texts to the TextThread, sink() runs on the engine thread; the
// table between the three is under a mutex that is held for look-ups and short notes only.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <unordered_map>

#include "daemon/client_policy.h"
#include "daemon/text_thread.h"
#include "daemon/token_quota.h"
#include "engine/engine.h"
#include "ipc/server/handler.h"
#include "ipc/server/server.h"

namespace sirocco::daemon {

class Service final : public Handler {
 public:
  // log_prompts: write prompts and answers to the log, too.
  explicit Service(bool log_prompts);
  ~Service() override { stop(); }

  EventSink sink();

  // Before the server starts. Both outlive all calls of the Handler's functions. engine: null where no model is
  // configured.
  void connect(Engine* engine, Server* server);

  // Who may do what, from here on; at first, everybody anything within the default quotas. From any thread.
  void set_clients(ClientPolicies clients);

  // After the server has stopped and before the engine ends: nothing more is asked of the two. Waits for the text that
  // is being tokenised. Idempotent.
  void stop();

  // How the daemon is; what answers Status. From any thread.
  wire::StatusReport report();

  tl::expected<PeerLimits, std::string> on_connect(const Peer& peer) override;
  wire::Welcome on_hello(const Peer& peer, const wire::Hello& hello) override;
  void on_generate(RequestKey key, const Peer& peer, wire::Generate generate) override;
  void on_tokenize(RequestKey key, const Peer& peer, wire::Tokenize tokenize) override;
  void on_detokenize(RequestKey key, const Peer& peer, wire::Detokenize detokenize) override;
  void on_status(RequestKey key, const Peer& peer) override;
  void on_set_budget(RequestKey key, const Peer& peer, wire::SetBudget budget) override;
  void on_cancel(RequestKey key) override;
  void on_ended(RequestKey key, wire::ErrorCode code) override;
  void on_disconnect(ConnectionId connection) override;

 private:
  // A Generate that has no ending yet.
  struct Request {
    Peer peer;
    RequestId id = 0;                     // the engine's; 0: its text waits to be tokenised
    std::string answer = {};              // what there is of it, for the log
    std::uint32_t tokens_per_minute = 0;  // the user's quota; 0: none
  };

  std::shared_ptr<const ClientPolicies> clients();
  // Why this request is not allowed, or not now.
  std::optional<wire::Error> refusal(const Peer& peer, const ClientPolicies::Found& client, wire::Priority priority);
  void submit(const RequestKey& key, const GenerateRequest& request, const std::string& prompt);
  void on_tokens(RequestId id, TokensEvent&& tokens);
  // The one ending: counts, logs and sends it. The request's id in the engine; 0 if it has none, or has ended already.
  RequestId end(const RequestKey& key, const wire::Done& done);
  RequestId end(const RequestKey& key, const wire::Error& error);
  std::optional<RequestKey> key_of(RequestId id);
  std::optional<Request> take(const RequestKey& key, std::uint64_t& ended);
  void charge(const Request& request, std::uint64_t tokens);
  void log_answer(const Request& request) const;

  const bool log_prompts_;
  Engine* engine_ = nullptr;
  Server* server_ = nullptr;
  wire::ModelCard card_;
  std::optional<TextThread> text_;  // where there is an engine
  std::chrono::steady_clock::time_point started_ = std::chrono::steady_clock::now();

  std::mutex mutex_;
  std::map<RequestKey, Request> requests_;
  std::unordered_map<RequestId, RequestKey> keys_;  // of those that the engine has
  std::shared_ptr<const ClientPolicies> clients_;
  TokenQuota quota_;
  std::uint64_t done_ = 0;  // ended so since the start
  std::uint64_t failed_ = 0;
};

}  // namespace sirocco::daemon

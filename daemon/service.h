// Joins the engine and the server: requests of clients become requests of the engine, its events become messages. Holds
// no state but which request is whose, and how many have ended.
//
// The Handler's functions run on the I/O thread and hand texts to the TextThread, sink() runs on the engine thread; the
// table between the three is under a mutex that is held for look-ups and short notes only.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "daemon/client_policy.h"
#include "daemon/log_event.h"
#include "daemon/text_thread.h"
#include "daemon/token_quota.h"
#include "engine/engine.h"
#include "ipc/server/handler.h"
#include "ipc/server/server.h"

namespace sirocco::daemon {

class Service final : public Handler {
 public:
  // attention: asks the main thread to look, because an administrator wants something of it, because requests have
  // ended that it waits for, or because one has come when there was none. From any thread; must not wait.
  explicit Service(std::function<void()> attention = [] {});
  ~Service() override { stop(); }

  // Whether prompts and answers are written to the log, too. From any thread.
  void set_log_prompts(bool on) { log_prompts_ = on; }

  EventSink sink();

  // Before the server starts. Both outlive all calls of the Handler's functions. engine: null where there is none, or
  // none yet.
  void connect(Engine* engine, Server* server);

  // Who may do what, from here on; at first, everybody anything within the default quotas. From any thread.
  void set_clients(ClientPolicies clients);

  // After the server has stopped and before the engine ends: nothing more is asked of the two. Waits for the text that
  // is being tokenised. Idempotent.
  void stop();

  // How the daemon is; what answers Status. From any thread.
  wire::StatusReport report();
  // Whether there are requests. From any thread.
  bool busy() const;

  // --- by the main thread, to exchange the engine while clients stay connected

  // Requests wait from here on, for this model to be loaded; held() when those that were there before have ended.
  void hold(std::string model, std::shared_ptr<const LoadProgress> progress);
  bool held();
  // Who answers from here on; null: nobody, for the reason `why_none`. While held, or before the server starts.
  void use(Engine* engine, std::string why_none = {});
  void resume();

  // What administrators have asked for.
  struct ReloadRequest {
    RequestKey key;
    std::string model;  // empty: as the configuration says
  };
  std::optional<ReloadRequest> next_reload();
  void answer(RequestKey key, const Result<wire::ReloadReport>& report);
  // Tells those who wait for it that no request is left, once that is so; true: and the daemon is to end.
  bool stop_wanted();

  tl::expected<PeerLimits, std::string> on_connect(const Peer& peer) override;
  wire::Welcome on_hello(const Peer& peer, const wire::Hello& hello) override;
  void on_generate(RequestKey key, const Peer& peer, wire::Generate generate) override;
  void on_tokenize(RequestKey key, const Peer& peer, wire::Tokenize tokenize) override;
  void on_detokenize(RequestKey key, const Peer& peer, wire::Detokenize detokenize) override;
  void on_status(RequestKey key, const Peer& peer) override;
  void on_session(RequestKey key, const Peer& peer, wire::Session session) override;
  void on_set_budget(RequestKey key, const Peer& peer, wire::SetBudget budget) override;
  void on_drain(RequestKey key, const Peer& peer, wire::Drain drain) override;
  void on_reload(RequestKey key, const Peer& peer, wire::Reload reload) override;
  void on_evict(RequestKey key, const Peer& peer) override;
  void on_cancel(RequestKey key) override;
  void on_ended(RequestKey key, wire::ErrorCode code) override;
  void on_disconnect(ConnectionId connection) override;

 private:
  // A Generate that has no ending yet.
  struct Request {
    Peer peer;
    RequestId id = 0;  // the engine's; 0: its text waits to be tokenised
    wire::Priority priority = wire::Priority::interactive;
    std::chrono::steady_clock::time_point arrived = std::chrono::steady_clock::now();
    std::uint32_t prompt_tokens = 0;
    std::uint32_t generated_tokens = 0;   // that have been sent
    std::string answer = {};              // what there is of it, for the log
    std::uint32_t tokens_per_minute = 0;  // the user's quota; 0: none
  };

  std::shared_ptr<const ClientPolicies> clients();
  TextThread::User text_user(const Peer& peer);
  // Since a reload: why nothing is allowed to who is connected.
  static std::optional<wire::Error> not_allowed(const Peer& peer, const ClientPolicies::Found& client);
  // Why this request is not allowed, or not now.
  std::optional<wire::Error> refusal(const Peer& peer, const ClientPolicies::Found& client, wire::Priority priority);
  void submit(const RequestKey& key, const GenerateRequest& request, const std::string& prompt);
  void on_tokens(RequestId id, TokensEvent&& tokens);
  // The one ending: counts, logs and sends it. The request's id in the engine; 0 if it has none, or has ended already.
  RequestId end(const RequestKey& key, const wire::Done& done);
  RequestId end(const RequestKey& key, const wire::Error& error);
  void cancel(RequestId id);
  std::optional<RequestKey> key_of(RequestId id);
  std::optional<Request> take(const RequestKey& key, std::uint64_t& ended);
  void told();
  wire::Error no_model();
  wire::State state(const std::optional<EngineStatus>& status, std::vector<std::string>& reasons);
  void charge(const Request& request, std::uint64_t tokens);
  static std::string logged(const Request& request);
  static std::vector<LogField> log_fields(const Request& request, std::string_view ending);
  void warn_of_sessions();
  void log_answer(const Request& request) const;

  const std::function<void()> attention_;
  std::atomic<bool> log_prompts_ = false;
  Server* server_ = nullptr;
  std::chrono::steady_clock::time_point started_ = std::chrono::steady_clock::now();

  // The engine is exchanged by the main thread with this locked and the text thread held: who has either may use it.
  // The lock is taken before all others, and held for calls that do not wait.
  std::mutex engine_mutex_;
  Engine* engine_ = nullptr;
  wire::ModelCard card_;
  std::string why_no_engine_;

  mutable std::mutex mutex_;
  std::map<RequestKey, Request> requests_;
  std::unordered_map<RequestId, RequestKey> keys_;  // of those that the engine has
  std::shared_ptr<const ClientPolicies> clients_;
  TokenQuota quota_;
  struct Loading {
    std::string model;
    std::shared_ptr<const LoadProgress> progress;
  };
  std::optional<Loading> holding_;  // for what
  bool draining_ = false;
  bool stop_when_drained_ = false;
  std::vector<RequestKey> waiting_for_drain_;  // Drains without an answer
  std::deque<ReloadRequest> reloads_;
  std::size_t untold_ = 0;  // requests that have left the table, and whose ending is not sent yet
  RequestId last_id_ = 0;
  std::uint64_t done_ = 0;  // ended so since the start
  std::uint64_t failed_ = 0;

  TextThread text_;  // last: it uses what is above
};

}  // namespace sirocco::daemon

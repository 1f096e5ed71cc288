#include "daemon/service.h"

#include <spdlog/spdlog.h>

#include <utility>
#include <vector>

#include "daemon/conversion.h"
#include "daemon/logged_prompt.h"
#include "daemon/quoted.h"
#include "daemon/session_requests.h"
#include "ipc/wire/limits.h"

namespace sirocco::daemon {
namespace {

wire::Error too_many_texts() {
  return to_wire(Error(ErrorCode::busy,
                       "too many texts are waiting to be tokenised, of all users or of this one (engine.max_queued, "
                       "max_queued in clients); try again later"));
}

double milliseconds(std::uint64_t us) {
  return static_cast<double>(us) / 1000;
}

std::size_t bytes_of(const Prompt& prompt) {
  if (const auto* text = std::get_if<TextPrompt>(&prompt)) return text->text.size();
  if (const auto* ids = std::get_if<std::vector<TokenId>>(&prompt)) return ids->size() * sizeof(TokenId);
  const auto& conversation = std::get<Conversation>(prompt);
  std::size_t bytes = conversation.tools.size();
  for (const ChatMessage& message : conversation.messages) {
    bytes += message.content.size();
    for (const ToolCall& call : message.tool_calls) bytes += call.arguments.size();
  }
  return bytes;
}

}  // namespace

Service::Service(std::function<void()> attention) : attention_(std::move(attention)), text_([this] { attention_(); }) {
  set_clients(*ClientPolicies::resolve({}));
}

void Service::set_clients(ClientPolicies clients) {
  auto shared = std::make_shared<const ClientPolicies>(std::move(clients));
  const std::lock_guard lock(mutex_);
  clients_ = std::move(shared);
}

std::shared_ptr<const ClientPolicies> Service::clients() {
  const std::lock_guard lock(mutex_);
  return clients_;
}

void Service::connect(Engine* engine, Server* server) {
  server_ = server;
  use(engine);
}

void Service::stop() {
  text_.stop();
}

// --- the table

std::optional<RequestKey> Service::key_of(RequestId id) {
  const std::lock_guard lock(mutex_);
  const auto found = keys_.find(id);
  return found == keys_.end() ? std::nullopt : std::optional(found->second);
}

// Out of the table, and counted; nothing if it has ended already. Once its ending is sent: told().
std::optional<Service::Request> Service::take(const RequestKey& key, std::uint64_t& ended) {
  const std::lock_guard lock(mutex_);
  const auto found = requests_.find(key);
  if (found == requests_.end()) return std::nullopt;
  Request request = std::move(found->second);
  keys_.erase(request.id);
  requests_.erase(found);
  ++ended;
  ++untold_;
  return request;
}

// Who waits for the last one may stop the server then.
void Service::told() {
  bool awaited = false;
  {
    const std::lock_guard lock(mutex_);
    --untold_;
    awaited = draining_ || holding_;
  }
  if (awaited) attention_();
}

RequestId Service::end(const RequestKey& key, const wire::Done& done) {
  const auto request = take(key, done_);
  if (!request) return 0;
  const std::string_view ending = wire::done_reason_name(done.reason);
  log_event(spdlog::level::info, kRequestEnded,
            fmt::format("{} finish={} cached_tokens={} queued_ms={:.1f} prefill_ms={:.1f} decode_ms={:.1f}{}",
                        logged(*request), ending, done.cached_tokens, milliseconds(done.queued_us),
                        milliseconds(done.prefill_us), milliseconds(done.decode_us),
                        done.lossy_experts == 0 ? "" : fmt::format(" lossy_experts={}", done.lossy_experts)),
            log_fields(*request, ending));
  log_answer(*request);
  server_->send(key, done);
  told();
  return request->id;
}

RequestId Service::end(const RequestKey& key, const wire::Error& error) {
  const auto request = take(key, failed_);
  if (!request) return 0;
  // What was refused at once is the client's affair, what fails later may be the daemon's.
  log_event(request->id == 0 ? spdlog::level::info : spdlog::level::warn, kRequestEnded,
            fmt::format("{} finish=ERROR error={} message={}", logged(*request), wire::error_name(error.code),
                        in_quotes(error.message, kMaxLoggedBytes)),
            log_fields(*request, wire::error_name(error.code)));
  log_answer(*request);
  server_->send(key, error);
  told();
  return request->id;
}

// The beginning of a line about it, for people and for grep: words, and keys with values. id=0: it has not got that
// far.
std::string Service::logged(const Request& request) {
  const std::chrono::duration<double, std::milli> age = std::chrono::steady_clock::now() - request.arrived;
  return fmt::format("request id={} uid={} pid={} class={} prompt_tokens={} generated_tokens={} age_ms={:.1f}",
                     request.id, request.peer.uid, request.peer.pid, wire::priority_name(request.priority),
                     request.prompt_tokens, request.generated_tokens, age.count());
}

// The same for the journal. Of the prompt and the answer, nothing.
std::vector<LogField> Service::log_fields(const Request& request, std::string_view ending) {
  return {{.name = "SIROCCO_REQUEST", .value = fmt::format("{}", request.id)},
          {.name = "SIROCCO_UID", .value = fmt::format("{}", request.peer.uid)},
          {.name = "SIROCCO_PID", .value = fmt::format("{}", request.peer.pid)},
          {.name = "SIROCCO_ENDING", .value = std::string(ending)}};
}

void Service::log_answer(const Request& request) const {
  if (log_prompts_ && request.id != 0)
    spdlog::info("request id={} answer={}", request.id, in_quotes(request.answer, kMaxLoggedBytes));
}

// To the user's quota, if it has one. With the lock held.
void Service::charge(const Request& request, std::uint64_t tokens) {
  if (request.tokens_per_minute == 0) return;
  quota_.take(request.peer.uid, request.tokens_per_minute, tokens, std::chrono::steady_clock::now());
}

// --- from the engine

EventSink Service::sink() {
  return [this](RequestId id, Event&& event) {
    if (auto* tokens = std::get_if<TokensEvent>(&event)) return on_tokens(id, std::move(*tokens));
    const auto key = key_of(id);
    if (!key) return;
    if (const auto* done = std::get_if<DoneEvent>(&event)) {
      end(*key, to_wire(*done));
    } else {
      end(*key, to_wire(std::get<sirocco::Error>(event)));
    }
  };
}

void Service::on_tokens(RequestId id, TokensEvent&& tokens) {
  std::optional<RequestKey> key;
  {
    const std::lock_guard lock(mutex_);
    const auto found = keys_.find(id);
    if (found == keys_.end()) return;
    key = found->second;
    Request& request = requests_.at(*key);
    request.generated_tokens += static_cast<std::uint32_t>(tokens.ids.size());
    charge(request, tokens.ids.size());
    if (log_prompts_ && request.answer.size() <= kMaxLoggedBytes) request.answer += tokens.text;
  }
  server_->send(*key, wire::TokenBatch{.ids = std::move(tokens.ids), .text = std::move(tokens.text)});
}

// --- from the clients

tl::expected<PeerLimits, std::string> Service::on_connect(const Peer& peer) {
  const auto all = clients();
  const auto& [where, policy] = all->find(peer);
  if (!policy.allowed) return tl::unexpected(fmt::format("user {} may not use this daemon ({})", peer.uid, where));
  return PeerLimits{.connections = policy.connections,
                    .in_flight_per_connection = policy.in_flight_per_connection,
                    .in_flight = policy.in_flight};
}

std::optional<wire::Error> Service::not_allowed(const Peer& peer, const ClientPolicies::Found& client) {
  if (client.policy.allowed) return {};
  return wire::Error{.code = wire::ErrorCode::permission_denied,
                     .message = fmt::format("user {} may not use this daemon any more ({})", peer.uid, client.where),
                     .retry_after_ms = 0};
}

std::optional<wire::Error> Service::refusal(const Peer& peer, const ClientPolicies::Found& client,
                                            wire::Priority priority) {
  const auto& [where, policy] = client;
  const std::lock_guard lock(mutex_);
  if (draining_)
    return to_wire(Error(ErrorCode::shutting_down,
                         "the daemon is draining: requests that are there finish, new ones are not taken"));
  if (auto refused = not_allowed(peer, client)) return refused;
  if (!policy.allows(priority))
    return wire::Error{
        .code = wire::ErrorCode::permission_denied,
        .message = fmt::format("requests of the class {} are not allowed to user {}, but {} ({}.classes)",
                               wire::priority_name(priority), peer.uid, policy.classes(), where),
        .retry_after_ms = 0};
  if (policy.tokens_per_minute == 0) return {};
  const std::uint32_t wait = quota_.wait_ms(peer.uid, policy.tokens_per_minute, std::chrono::steady_clock::now());
  if (wait == 0) return {};
  return wire::Error{.code = wire::ErrorCode::too_many_requests,
                     .message = fmt::format("user {} has used up its {} tokens per minute ({}.tokens_per_minute)",
                                            peer.uid, policy.tokens_per_minute, where),
                     .retry_after_ms = wait};
}

wire::Welcome Service::on_hello(const Peer&, const wire::Hello&) {
  const std::lock_guard lock(engine_mutex_);
  wire::Welcome welcome;
  welcome.daemon_version = SIROCCO_VERSION;
  welcome.features = {"generate", "chat", "tokenize", "status", "sessions"};
  std::optional<EngineStatus> status;
  if (engine_ != nullptr) {
    status = engine_->status();
    welcome.model = card_;
  }
  std::vector<std::string> reasons;
  welcome.state = state(status, reasons);
  return welcome;
}

void Service::on_generate(RequestKey key, const Peer& peer, wire::Generate generate) {
  const auto all = clients();
  const ClientPolicies::Found& client = all->find(peer);
  bool first = false;
  {
    const std::lock_guard lock(mutex_);
    first = requests_.empty();
    requests_.emplace(
        key,
        Request{.peer = peer, .priority = generate.priority, .tokens_per_minute = client.policy.tokens_per_minute});
  }
  if (first) attention_();
  if (const auto refused = refusal(peer, client, generate.priority)) return void(end(key, *refused));
  std::string prompt = log_prompts_ ? logged_prompt(generate.prompt) : std::string();
  auto request = from_wire(std::move(generate), peer.uid, client.policy);
  if (!request) return void(end(key, to_wire(request.error())));
  const std::size_t bytes = bytes_of(request->prompt);
  const TextThread::User user = {.uid = peer.uid, .most = client.policy.max_queued};
  if (!text_.post(key, user, bytes, [this, key, request = *std::move(request), prompt = std::move(prompt)] {
        submit(key, request, prompt);
      }))
    end(key, too_many_texts());
}

// On the text thread.
void Service::submit(const RequestKey& key, const GenerateRequest& request, const std::string& prompt) {
  if (engine_ == nullptr) return void(end(key, no_model()));
  bool gone = false;  // cancelled, or the client hung up, while the text was tokenised
  // Accepted goes out before any token can: the engine does not start the request before announce has returned.
  const auto submitted = engine_->submit(request, [&](const Submitted& accepted) {
    const std::lock_guard lock(mutex_);
    const auto found = requests_.find(key);
    gone = found == requests_.end();
    last_id_ = accepted.id;
    if (gone) return;
    found->second.id = accepted.id;
    found->second.prompt_tokens = accepted.prompt_tokens;
    charge(found->second, accepted.prompt_tokens);
    keys_.emplace(accepted.id, key);
    server_->send(key,
                  wire::Accepted{.prompt_tokens = accepted.prompt_tokens, .queue_position = accepted.queue_position});
  });
  warn_of_sessions();
  if (!submitted) return void(end(key, to_wire(submitted.error())));
  if (gone) return engine_->cancel(submitted->id);
  if (log_prompts_) spdlog::info("request id={} prompt={}", submitted->id, prompt);
}

TextThread::User Service::text_user(const Peer& peer) {
  return {.uid = peer.uid, .most = clients()->find(peer).policy.max_queued};
}

void Service::on_tokenize(RequestKey key, const Peer& peer, wire::Tokenize tokenize) {
  const std::size_t bytes = tokenize.text.size();
  if (!text_.post(key, text_user(peer), bytes, [this, key, tokenize = std::move(tokenize)] {
        if (engine_ == nullptr) return server_->send(key, no_model());
        const Tokenizer& tokenizer = *engine_->parts().tokenizer;
        wire::Tokenized tokenized;
        tokenized.ids = tokenizer.encode(tokenize.text, tokenize.special);
        if (tokenize.bos && tokenizer.bos()) tokenized.ids.insert(tokenized.ids.begin(), *tokenizer.bos());
        server_->send(key, std::move(tokenized));
      }))
    server_->send(key, too_many_texts());
}

void Service::on_detokenize(RequestKey key, const Peer& peer, wire::Detokenize detokenize) {
  const std::size_t bytes = detokenize.ids.size() * sizeof(TokenId);
  if (!text_.post(key, text_user(peer), bytes, [this, key, detokenize = std::move(detokenize)] {
        if (engine_ == nullptr) return server_->send(key, no_model());
        const auto checked = engine_->tokenize(detokenize.ids);
        if (!checked) return server_->send(key, to_wire(checked.error()));
        wire::Detokenized answer = {.text = engine_->parts().tokenizer->decode(*checked)};
        if (answer.text.size() <= wire::kMaxTextBytes) return server_->send(key, std::move(answer));
        server_->send(key, to_wire(Error(ErrorCode::invalid_argument,
                                         fmt::format("the text of these tokens has {} bytes, a message at most {}: ask "
                                                     "for it in parts",
                                                     answer.text.size(), wire::kMaxTextBytes))));
      }))
    server_->send(key, too_many_texts());
}

// On the text thread.
void Service::warn_of_sessions() {
  for (const Error& warning : engine_->sessions().warnings()) spdlog::warn("{}", warning.message());
}

// Also while the daemon drains: a conversation may be saved then.
void Service::on_session(RequestKey key, const Peer& peer, wire::Session session) {
  const auto all = clients();
  const ClientPolicies::Found& client = all->find(peer);
  if (const auto refused = not_allowed(peer, client)) return server_->send(key, *refused);
  const std::size_t bytes = session.name.size() + session.to.size();
  const TextThread::User user = {.uid = peer.uid, .most = client.policy.max_queued};
  if (!text_.post(key, user, bytes, [this, key, peer, session = std::move(session)] {
        if (engine_ == nullptr) return server_->send(key, no_model());
        auto report = change_session(engine_->sessions(), peer, session);
        warn_of_sessions();
        if (!report) return server_->send(key, to_wire(report.error()));
        server_->send(key, *std::move(report));
      }))
    server_->send(key, too_many_texts());
}

void Service::on_cancel(RequestKey key) {
  RequestId id = 0;
  {
    const std::lock_guard lock(mutex_);
    const auto found = requests_.find(key);
    if (found == requests_.end()) return;
    id = found->second.id;
  }
  if (id == 0) {
    text_.drop(key);
    // Unless its text was done with in this moment, it has no id still.
    id = end(key, wire::Done{.reason = wire::DoneReason::cancelled});
  }
  cancel(id);
}

// In the engine, if it has that request: 0 is none.
void Service::cancel(RequestId id) {
  if (id == 0) return;
  const std::lock_guard lock(engine_mutex_);
  if (engine_ != nullptr) engine_->cancel(id);
}

void Service::on_ended(RequestKey key, wire::ErrorCode code) {
  const RequestId id = end(key, wire::Error{.code = code, .message = "ended by the server", .retry_after_ms = 0});
  cancel(id);
}

void Service::on_disconnect(ConnectionId connection) {
  std::vector<RequestKey> gone;
  {
    const std::lock_guard lock(mutex_);
    const auto theirs = [connection](const RequestKey& key) { return key.connection == connection; };
    std::erase_if(waiting_for_drain_, theirs);
    std::erase_if(reloads_, [&](const ReloadRequest& reload) { return theirs(reload.key); });
    for (auto at = requests_.lower_bound({.connection = connection});
         at != requests_.end() && at->first.connection == connection; ++at)
      gone.push_back(at->first);
  }
  for (const RequestKey& key : gone) on_cancel(key);
  text_.drop(connection);
}

}  // namespace sirocco::daemon

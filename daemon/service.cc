#include "daemon/service.h"

#include <spdlog/spdlog.h>

#include <utility>
#include <vector>

#include "daemon/conversion.h"
#include "daemon/logged_prompt.h"
#include "daemon/quoted.h"
#include "ipc/wire/limits.h"

namespace sirocco::daemon {
namespace {

wire::Error no_model() {
  return {.code = wire::ErrorCode::no_model,
          .message = "the daemon has no model: set model.path in its configuration, or start it with --model FILE",
          .retry_after_ms = 0};
}

wire::Error too_many_texts() {
  return to_wire(Error(ErrorCode::busy, "too many texts are waiting to be tokenised; try again later"));
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

Service::Service(bool log_prompts) : log_prompts_(log_prompts) {
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
  engine_ = engine;
  server_ = server;
  if (engine_ == nullptr) return;
  card_ = model_card(engine_->parts());
  text_.emplace(engine_->parts().max_queued);
}

void Service::stop() {
  if (text_) text_->stop();
}

// --- the table

std::optional<RequestKey> Service::key_of(RequestId id) {
  const std::lock_guard lock(mutex_);
  const auto found = keys_.find(id);
  return found == keys_.end() ? std::nullopt : std::optional(found->second);
}

// Out of the table, and counted; nothing if it has ended already.
std::optional<Service::Request> Service::take(const RequestKey& key, std::uint64_t& ended) {
  const std::lock_guard lock(mutex_);
  const auto found = requests_.find(key);
  if (found == requests_.end()) return std::nullopt;
  Request request = std::move(found->second);
  keys_.erase(request.id);
  requests_.erase(found);
  ++ended;
  return request;
}

RequestId Service::end(const RequestKey& key, const wire::Done& done) {
  const auto request = take(key, done_);
  if (!request) return 0;
  if (request->id == 0) {
    spdlog::info("request uid={} pid={} cancelled before its text was tokenised", request->peer.uid, request->peer.pid);
  } else {
    spdlog::info(
        "request {} uid={} pid={} reason={} prompt={} generated={} queued_ms={:.1f} prefill_ms={:.1f} decode_ms={:.1f}",
        request->id, request->peer.uid, request->peer.pid, wire::done_reason_name(done.reason), done.prompt_tokens,
        done.generated_tokens, milliseconds(done.queued_us), milliseconds(done.prefill_us),
        milliseconds(done.decode_us));
    log_answer(*request);
  }
  server_->send(key, done);
  return request->id;
}

RequestId Service::end(const RequestKey& key, const wire::Error& error) {
  const auto request = take(key, failed_);
  if (!request) return 0;
  if (request->id == 0) {
    spdlog::info("request uid={} pid={} refused: {}: {}", request->peer.uid, request->peer.pid,
                 wire::error_name(error.code), error.message);
  } else {
    spdlog::warn("request {} uid={} pid={} failed: {}: {}", request->id, request->peer.uid, request->peer.pid,
                 wire::error_name(error.code), error.message);
    log_answer(*request);
  }
  server_->send(key, error);
  return request->id;
}

void Service::log_answer(const Request& request) const {
  if (log_prompts_) spdlog::info("request {} answer: {}", request.id, quoted(request.answer, kMaxLoggedBytes));
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

std::optional<wire::Error> Service::refusal(const Peer& peer, const ClientPolicies::Found& client,
                                            wire::Priority priority) {
  const auto& [where, policy] = client;
  if (!policy.allowed)  // since a reload
    return wire::Error{.code = wire::ErrorCode::permission_denied,
                       .message = fmt::format("user {} may not use this daemon any more ({})", peer.uid, where),
                       .retry_after_ms = 0};
  if (!policy.allows(priority))
    return wire::Error{
        .code = wire::ErrorCode::permission_denied,
        .message = fmt::format("requests of the class {} are not allowed to user {}, but {} ({}.classes)",
                               wire::priority_name(priority), peer.uid, policy.classes(), where),
        .retry_after_ms = 0};
  if (policy.tokens_per_minute == 0) return {};
  const std::lock_guard lock(mutex_);
  const std::uint32_t wait = quota_.wait_ms(peer.uid, policy.tokens_per_minute, std::chrono::steady_clock::now());
  if (wait == 0) return {};
  return wire::Error{.code = wire::ErrorCode::too_many_requests,
                     .message = fmt::format("user {} has used up its {} tokens per minute ({}.tokens_per_minute)",
                                            peer.uid, policy.tokens_per_minute, where),
                     .retry_after_ms = wait};
}

wire::Welcome Service::on_hello(const Peer&, const wire::Hello&) {
  wire::Welcome welcome;
  welcome.daemon_version = SIROCCO_VERSION;
  welcome.features = {"generate", "chat", "tokenize", "status"};
  welcome.state = wire::State::no_model;
  if (engine_ != nullptr) {
    welcome.state = state_of(engine_->status());
    welcome.model = card_;
  }
  return welcome;
}

void Service::on_generate(RequestKey key, const Peer& peer, wire::Generate generate) {
  const auto all = clients();
  const ClientPolicies::Found& client = all->find(peer);
  {
    const std::lock_guard lock(mutex_);
    requests_.emplace(key, Request{.peer = peer, .tokens_per_minute = client.policy.tokens_per_minute});
  }
  if (const auto refused = refusal(peer, client, generate.priority)) return void(end(key, *refused));
  if (engine_ == nullptr) return void(end(key, no_model()));
  std::string prompt = log_prompts_ ? logged_prompt(generate.prompt) : std::string();
  auto request = from_wire(std::move(generate), peer.uid, client.policy);
  if (!request) return void(end(key, to_wire(request.error())));
  const std::size_t bytes = bytes_of(request->prompt);
  if (!text_->post(key, bytes, [this, key, request = *std::move(request), prompt = std::move(prompt)] {
        submit(key, request, prompt);
      }))
    end(key, too_many_texts());
}

// On the text thread.
void Service::submit(const RequestKey& key, const GenerateRequest& request, const std::string& prompt) {
  bool gone = false;  // cancelled, or the client hung up, while the text was tokenised
  // Accepted goes out before any token can: the engine does not start the request before announce has returned.
  const auto submitted = engine_->submit(request, [&](const Submitted& accepted) {
    const std::lock_guard lock(mutex_);
    const auto found = requests_.find(key);
    gone = found == requests_.end();
    if (gone) return;
    found->second.id = accepted.id;
    charge(found->second, accepted.prompt_tokens);
    keys_.emplace(accepted.id, key);
    server_->send(key,
                  wire::Accepted{.prompt_tokens = accepted.prompt_tokens, .queue_position = accepted.queue_position});
  });
  if (!submitted) return void(end(key, to_wire(submitted.error())));
  if (gone) return engine_->cancel(submitted->id);
  if (log_prompts_) spdlog::info("request {} prompt: {}", submitted->id, prompt);
}

void Service::on_tokenize(RequestKey key, const Peer&, wire::Tokenize tokenize) {
  if (engine_ == nullptr) return server_->send(key, no_model());
  const std::size_t bytes = tokenize.text.size();
  if (!text_->post(key, bytes, [this, key, tokenize = std::move(tokenize)] {
        const Tokenizer& tokenizer = *engine_->parts().tokenizer;
        wire::Tokenized tokenized;
        tokenized.ids = tokenizer.encode(tokenize.text, tokenize.special);
        if (tokenize.bos && tokenizer.bos()) tokenized.ids.insert(tokenized.ids.begin(), *tokenizer.bos());
        server_->send(key, std::move(tokenized));
      }))
    server_->send(key, too_many_texts());
}

void Service::on_detokenize(RequestKey key, const Peer&, wire::Detokenize detokenize) {
  if (engine_ == nullptr) return server_->send(key, no_model());
  const std::size_t bytes = detokenize.ids.size() * sizeof(TokenId);
  if (!text_->post(key, bytes, [this, key, detokenize = std::move(detokenize)] {
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

void Service::on_status(RequestKey key, const Peer&) {
  server_->send(key, report());
}

wire::StatusReport Service::report() {
  wire::StatusReport report;
  report.daemon_version = SIROCCO_VERSION;
  report.state = wire::State::no_model;
  report.connections = static_cast<std::uint32_t>(server_->connections());
  report.uptime_ms = static_cast<std::uint64_t>(
      std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::steady_clock::now() - started_).count());
  if (engine_ != nullptr) {
    report.model = card_;
    fill_status(*engine_, report);
  }
  {
    const std::lock_guard lock(mutex_);
    report.requests_done = done_;
    report.requests_failed = failed_;
    report.requests_queued += static_cast<std::uint32_t>(requests_.size() - keys_.size());
    for (wire::ActiveRequest& active : report.active) {
      const auto owner = keys_.find(active.id);
      if (owner == keys_.end()) continue;
      const Peer& peer = requests_.at(owner->second).peer;
      active.uid = peer.uid;
      active.pid = peer.pid;
    }
  }
  return report;
}

void Service::on_set_budget(RequestKey key, const Peer& peer, wire::SetBudget budget) {
  if (engine_ == nullptr) return server_->send(key, no_model());
  const auto begun = engine_->set_budget(budget.bytes, [this, key, peer](const BudgetReport& report) {
    spdlog::info("memory budget: {}, set by uid={} pid={}: {} of {} experts in memory", format_bytes(report.budget),
                 peer.uid, peer.pid, report.slots, report.experts);
    server_->send(key, wire::BudgetReport{.bytes = report.budget,
                                          .slots = static_cast<std::uint32_t>(report.slots),
                                          .planned_slots = static_cast<std::uint32_t>(report.planned_slots),
                                          .experts = static_cast<std::uint32_t>(report.experts)});
  });
  if (!begun) server_->send(key, to_wire(begun.error()));
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
    text_->drop(key);
    // Unless its text was done with in this moment, it has no id still.
    id = end(key, wire::Done{.reason = wire::DoneReason::cancelled});
  }
  if (id != 0) engine_->cancel(id);
}

void Service::on_ended(RequestKey key, wire::ErrorCode code) {
  const RequestId id = end(key, wire::Error{.code = code, .message = "ended by the server", .retry_after_ms = 0});
  if (id != 0) engine_->cancel(id);
}

void Service::on_disconnect(ConnectionId connection) {
  std::vector<RequestKey> gone;
  {
    const std::lock_guard lock(mutex_);
    for (auto at = requests_.lower_bound({.connection = connection});
         at != requests_.end() && at->first.connection == connection; ++at)
      gone.push_back(at->first);
  }
  for (const RequestKey& key : gone) on_cancel(key);
  if (text_) text_->drop(connection);
}

}  // namespace sirocco::daemon

#include "daemon/service.h"

#include <spdlog/spdlog.h>

#include "daemon/conversion.h"
#include "ipc/wire/limits.h"

namespace sirocco::daemon {
namespace {

wire::Error no_model() {
  return {.code = wire::ErrorCode::no_model,
          .message = "the daemon has no model: set model.path in its configuration, or start it with --model FILE",
          .retry_after_ms = 0};
}

double milliseconds(std::uint64_t us) {
  return static_cast<double>(us) / 1000;
}

}  // namespace

void Service::connect(Engine* engine, Server* server) {
  engine_ = engine;
  server_ = server;
  if (engine_ != nullptr) card_ = model_card(engine_->parts());
}

EventSink Service::sink() {
  return [this](RequestId id, Event&& event) {
    if (auto* tokens = std::get_if<TokensEvent>(&event)) {
      if (const auto owner = find(id, false))
        server_->send(owner->key,
                      wire::TokenBatch{.ids = owner->omit_ids ? std::vector<TokenId>{} : std::move(tokens->ids),
                                       .text = std::move(tokens->text)});
    } else if (const auto* done = std::get_if<DoneEvent>(&event)) {
      finished(id, *done);
    } else {
      failed(id, std::get<sirocco::Error>(event));
    }
  };
}

std::optional<Service::Owner> Service::find(RequestId id, bool forget) {
  const std::lock_guard lock(mutex_);
  const auto found = owners_.find(id);
  if (found == owners_.end()) return std::nullopt;
  const Owner owner = found->second;
  if (forget) {
    ids_.erase(owner.key);
    owners_.erase(found);
  }
  return owner;
}

void Service::finished(RequestId id, const DoneEvent& done) {
  const auto owner = find(id, true);
  if (!owner) return;
  const wire::Done message = to_wire(done);
  spdlog::info(
      "request {} uid={} pid={} reason={} prompt={} generated={} queued_ms={:.1f} prefill_ms={:.1f} decode_ms={:.1f}",
      id, owner->peer.uid, owner->peer.pid, wire::done_reason_name(message.reason), done.prompt_tokens,
      done.generated_tokens, milliseconds(done.queued_us), milliseconds(done.prefill_us), milliseconds(done.decode_us));
  server_->send(owner->key, message);
}

void Service::failed(RequestId id, const sirocco::Error& error) {
  const auto owner = find(id, true);
  if (owner) {
    spdlog::warn("request {} uid={} pid={} failed: {}: {}", id, owner->peer.uid, owner->peer.pid,
                 error_name(error.code()), error.message());
    server_->send(owner->key, to_wire(error));
  }
  const auto failure = engine_->status().failure;
  if (failure && !std::exchange(failure_told_, true)) on_failure_(*failure);
}

wire::Welcome Service::on_hello(const Peer&, const wire::Hello&) {
  wire::Welcome welcome;
  welcome.daemon_version = SIROCCO_VERSION;
  welcome.features = {"generate", "chat", "tokenize", "status"};
  welcome.state = engine_ == nullptr ? wire::State::no_model : wire::State::ready;
  if (engine_ != nullptr) welcome.model = card_;
  return welcome;
}

void Service::on_generate(RequestKey key, const Peer& peer, wire::Generate generate) {
  if (engine_ == nullptr) return server_->send(key, no_model());
  const bool omit_ids = generate.omit_ids;
  auto request = from_wire(std::move(generate));
  if (!request) return server_->send(key, to_wire(request.error()));
  // Accepted goes out before any token can: the engine does not start the request before announce has returned.
  const auto submitted = engine_->submit(*request, [&](const Submitted& accepted) {
    {
      const std::lock_guard lock(mutex_);
      owners_.emplace(accepted.id, Owner{.key = key, .peer = peer, .omit_ids = omit_ids});
      ids_.emplace(key, accepted.id);
    }
    server_->send(key,
                  wire::Accepted{.prompt_tokens = accepted.prompt_tokens, .queue_position = accepted.queue_position});
  });
  if (!submitted) {
    spdlog::info("request uid={} pid={} refused: {}: {}", peer.uid, peer.pid, error_name(submitted.error().code()),
                 submitted.error().message());
    server_->send(key, to_wire(submitted.error()));
  }
}

void Service::on_tokenize(RequestKey key, const Peer&, wire::Tokenize tokenize) {
  if (engine_ == nullptr) return server_->send(key, no_model());
  const Tokenizer& tokenizer = *engine_->parts().tokenizer;
  wire::Tokenized tokenized;
  tokenized.ids = tokenizer.encode(tokenize.text, tokenize.special);
  if (tokenize.bos && tokenizer.bos()) tokenized.ids.insert(tokenized.ids.begin(), *tokenizer.bos());
  server_->send(key, std::move(tokenized));
}

void Service::on_detokenize(RequestKey key, const Peer&, wire::Detokenize detokenize) {
  if (engine_ == nullptr) return server_->send(key, no_model());
  const auto checked = engine_->tokenize(detokenize.ids);
  if (!checked) return server_->send(key, to_wire(checked.error()));
  server_->send(key, wire::Detokenized{.text = engine_->parts().tokenizer->decode(*checked)});
}

void Service::on_status(RequestKey key, const Peer&) {
  wire::StatusReport report;
  report.daemon_version = SIROCCO_VERSION;
  report.state = wire::State::no_model;
  report.connections = static_cast<std::uint32_t>(server_->connections());
  report.uptime_ms = static_cast<std::uint64_t>(
      std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::steady_clock::now() - started_).count());
  if (engine_ != nullptr) {
    report.model = card_;
    fill_status(*engine_, report);
    const std::lock_guard lock(mutex_);
    for (wire::ActiveRequest& request : report.active) {
      const auto owner = owners_.find(request.id);
      if (owner == owners_.end()) continue;
      request.uid = owner->second.peer.uid;
      request.pid = owner->second.peer.pid;
    }
  }
  server_->send(key, std::move(report));
}

void Service::on_cancel(RequestKey key) {
  RequestId id = 0;
  {
    const std::lock_guard lock(mutex_);
    const auto found = ids_.find(key);
    if (found == ids_.end()) return;
    id = found->second;
  }
  engine_->cancel(id);
}

void Service::on_disconnect(ConnectionId connection) {
  std::vector<RequestId> gone;
  {
    const std::lock_guard lock(mutex_);
    for (auto at = ids_.lower_bound({.connection = connection, .request_id = 0});
         at != ids_.end() && at->first.connection == connection; ++at)
      gone.push_back(at->second);
  }
  for (const RequestId id : gone) engine_->cancel(id);
}

}  // namespace sirocco::daemon

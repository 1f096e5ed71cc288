// The part of the Service that says how the daemon is, and that administrators and the main thread use.
#include <spdlog/spdlog.h>

#include <utility>

#include "daemon/conversion.h"
#include "daemon/quoted.h"
#include "daemon/service.h"
#include "ipc/wire/limits.h"

namespace sirocco::daemon {
namespace {

// Why requests wait. replaces: a model that answers what is there already.
std::string loading(const std::string& model, const LoadProgress& progress, bool replaces) {
  if (replaces) return fmt::format("{} is being loaded: requests that are there finish first, new ones wait", model);
  if (progress.expected() == 0) return fmt::format("loading {}", model);
  return fmt::format("loading {}: {} of {}", model, format_bytes(progress.done()), format_bytes(progress.expected()));
}

}  // namespace

// --- how the daemon is

// The caller holds engine_mutex_, or is the text thread.
wire::Error Service::no_model() {
  {
    const std::lock_guard lock(mutex_);
    if (holding_)
      return {.code = wire::ErrorCode::busy,
              .message = fmt::format("{} is being loaded: try again when it is", holding_->model),
              .retry_after_ms = 1000};
  }
  return {.code = wire::ErrorCode::no_model,
          .message = why_no_engine_.empty() ? "the daemon has no model: set model.path in its configuration, or start "
                                              "it with --model FILE"
                                            : why_no_engine_,
          .retry_after_ms = 0};
}

// The caller holds engine_mutex_. Status: of the engine, if there is one. The reasons are added to those given.
wire::State Service::state(const std::optional<EngineStatus>& status, std::vector<std::string>& reasons) {
  if (status && status->failure) return wire::State::failed;
  {
    const std::lock_guard lock(mutex_);
    if (holding_) reasons.push_back(loading(holding_->model, *holding_->progress, status.has_value()));
    if (draining_)
      reasons.push_back(fmt::format("draining: no new requests are taken, {} are left{}", requests_.size(),
                                    stop_when_drained_ ? "; then the daemon ends" : ""));
    if (draining_) return wire::State::draining;
    if (holding_) return status ? wire::State::draining : wire::State::starting;
  }
  if (status) return state_of(*status);
  if (why_no_engine_.empty()) return wire::State::no_model;
  reasons.push_back(why_no_engine_);
  return wire::State::failed;
}

void Service::on_status(RequestKey key, const Peer&) {
  server_->send(key, report());
}

wire::StatusReport Service::report() {
  wire::StatusReport report;
  report.daemon_version = SIROCCO_VERSION;
  report.connections = static_cast<std::uint32_t>(server_->connections());
  report.uptime_ms = static_cast<std::uint64_t>(
      std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::steady_clock::now() - started_).count());
  {
    const std::lock_guard lock(engine_mutex_);
    std::optional<EngineStatus> status;
    if (engine_ != nullptr) {
      status = engine_->status();
      report.model = card_;
      fill_status(engine_->parts(), *status, report);
    }
    report.state = state(status, report.reasons);
  }
  if (report.reasons.size() > wire::kMaxReasons) report.reasons.resize(wire::kMaxReasons);
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
  return report;
}

bool Service::busy() const {
  const std::lock_guard lock(mutex_);
  return !requests_.empty();
}

// --- of administrators

void Service::on_set_budget(RequestKey key, const Peer& peer, wire::SetBudget budget) {
  const std::lock_guard lock(engine_mutex_);
  if (engine_ == nullptr) return server_->send(key, no_model());
  auto done = [this, key, peer, what = budget.device ? "the GPU's memory" : "memory"](const BudgetReport& report) {
    spdlog::info("{} budget: {}, set by uid={} pid={}: {} of {} experts in memory", what, format_bytes(report.budget),
                 peer.uid, peer.pid, report.slots, report.experts);
    server_->send(key, wire::BudgetReport{.bytes = report.budget,
                                          .slots = static_cast<std::uint32_t>(report.slots),
                                          .planned_slots = static_cast<std::uint32_t>(report.planned_slots),
                                          .experts = static_cast<std::uint32_t>(report.experts)});
  };
  const auto begun = budget.device ? engine_->set_device_budget(budget.bytes, std::move(done))
                                   : engine_->set_budget(budget.bytes, std::move(done));
  if (!begun) server_->send(key, to_wire(begun.error()));
}

void Service::on_evict(RequestKey key, const Peer& peer) {
  const std::lock_guard lock(engine_mutex_);
  if (engine_ == nullptr) return server_->send(key, no_model());
  const auto begun = engine_->release_memory([this, key, peer](const ReleasedMemory& released) {
    spdlog::info("memory given back: {}, {} experts, asked for by uid={} pid={}", format_bytes(released.bytes),
                 released.experts, peer.uid, peer.pid);
    server_->send(key,
                  wire::EvictReport{.experts = static_cast<std::uint32_t>(released.experts), .bytes = released.bytes});
  });
  if (!begun) server_->send(key, to_wire(begun.error()));
}

void Service::on_drain(RequestKey key, const Peer& peer, wire::Drain drain) {
  spdlog::info("drain{}: asked for by uid={} pid={}",
               drain.undo   ? " undone"
               : drain.stop ? ", then stop"
                            : "",
               peer.uid, peer.pid);
  std::vector<RequestKey> answered;
  wire::DrainReport report;
  {
    const std::lock_guard lock(mutex_);
    draining_ = !drain.undo;
    stop_when_drained_ = drain.stop;
    waiting_for_drain_.push_back(key);
    if (drain.undo) answered = std::exchange(waiting_for_drain_, {});
    report = {.draining = draining_, .requests = static_cast<std::uint32_t>(requests_.size())};
  }
  for (const RequestKey& waiting : answered) server_->send(waiting, report);
  attention_();
}

bool Service::stop_wanted() {
  std::vector<RequestKey> answered;
  bool stop = false;
  {
    const std::lock_guard lock(mutex_);
    if (!draining_ || !requests_.empty() || untold_ != 0) return false;
    answered = std::exchange(waiting_for_drain_, {});
    stop = stop_when_drained_;
  }
  for (const RequestKey& waiting : answered) server_->send(waiting, wire::DrainReport{.draining = true, .requests = 0});
  return stop;
}

void Service::on_reload(RequestKey key, const Peer& peer, wire::Reload reload) {
  spdlog::info("reload{}: asked for by uid={} pid={}",
               reload.model.empty() ? "" : " of " + in_quotes(reload.model, wire::kMaxPathBytes), peer.uid, peer.pid);
  {
    const std::lock_guard lock(mutex_);
    reloads_.push_back({.key = key, .model = std::move(reload.model)});
  }
  attention_();
}

std::optional<Service::ReloadRequest> Service::next_reload() {
  const std::lock_guard lock(mutex_);
  if (reloads_.empty()) return std::nullopt;
  ReloadRequest next = std::move(reloads_.front());
  reloads_.pop_front();
  return next;
}

void Service::answer(RequestKey key, const Result<wire::ReloadReport>& report) {
  if (!report) return server_->send(key, to_wire(report.error()));
  server_->send(key, *report);
}

// --- the engine is exchanged

void Service::hold(std::string model, std::shared_ptr<const LoadProgress> progress) {
  text_.hold();
  const std::lock_guard lock(mutex_);
  holding_ = {.model = std::move(model), .progress = std::move(progress)};
}

bool Service::held() {
  if (!text_.held()) return false;
  const std::lock_guard lock(mutex_);
  return keys_.empty();
}

void Service::use(Engine* engine, std::string why_none) {
  RequestId next = 0;
  {
    const std::lock_guard lock(mutex_);
    next = last_id_ + 1;
  }
  const std::lock_guard lock(engine_mutex_);
  engine_ = engine;
  why_no_engine_ = std::move(why_none);
  card_ = engine == nullptr ? wire::ModelCard() : model_card(engine->parts());
  if (engine == nullptr) return;
  engine->number_requests_from(next);
  text_.set_max_waiting(engine->parts().max_queued);
}

void Service::resume() {
  {
    const std::lock_guard lock(mutex_);
    holding_.reset();
  }
  text_.resume();
}

}  // namespace sirocco::daemon

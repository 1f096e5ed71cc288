#include "daemon/daemon.h"

#include <spdlog/spdlog.h>
#include <time.h>

#include <chrono>
#include <optional>

#include "daemon/conversion.h"
#include "daemon/heat.h"
#include "daemon/log.h"
#include "daemon/metrics.h"
#include "daemon/model_host.h"
#include "daemon/options.h"
#include "daemon/service.h"
#include "daemon/slow_steps.h"
#include "engine/engine.h"
#include "ipc/server/server.h"

namespace sirocco::daemon {
namespace {

constexpr std::chrono::milliseconds kLookInterval(1000);  // at what has changed, to tell systemd

void log_plan(const Engine& engine) {
  const EngineParts& parts = engine.parts();
  const ModelSpec& spec = parts.model->spec();
  spdlog::info("model: {} ({}), {} layers, {} parameters, tokenizer {}, chat format {}", spec.name, spec.architecture,
               spec.layers, parts.model->sizes().parameters, parts.tokenizer->kind(),
               parts.chat ? parts.chat->name() : "none");
  if (!parts.chat) spdlog::warn("only raw prompts can be answered: {}", parts.chat_error->message());
  for (const std::string& warning : parts.warnings) spdlog::warn("{}", warning);
  for (const std::string& reason : parts.degraded) spdlog::warn("degraded: {}", reason);
  const std::string_view device = parts.backend->device();
  spdlog::info("backend: {} ({}{}{}), {} threads", parts.backend->name(), parts.backend->isa(),
               device.empty() ? "" : ", ", device, parts.backend->threads());
  spdlog::info("memory budget: {}", format_bytes(parts.plan.budget));
  for (const MemoryPlan::Line& line : parts.plan.lines)
    spdlog::info("  {}{}: {} ({})", line.charged ? "* " : "  ", line.name, format_bytes(line.bytes), line.note);
}

// In front of what systemd is told of a reload: when it began, on the clock that systemd compares with.
std::string reloading_state() {
  timespec now = {};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return fmt::format("RELOADING=1\nMONOTONIC_USEC={}\nSTATUS=Reloading",
                     std::uint64_t{1'000'000} * static_cast<std::uint64_t>(now.tv_sec) +
                         static_cast<std::uint64_t>(now.tv_nsec) / 1000);
}

// "Ready: Mixtral"; with what does not work as well as it should, or what is waited for.
std::string status_line(const wire::StatusReport& report) {
  const std::string model = report.model ? report.model->name : "";
  switch (report.state) {
    case wire::State::ready:
      return "Ready: " + model;
    case wire::State::degraded:
      return fmt::format("Degraded: {}: {}", model, fmt::join(report.reasons, "; "));
    case wire::State::draining:
      return fmt::format("Draining: {}", fmt::join(report.reasons, "; "));
    case wire::State::failed:
      return fmt::format("Failed: {}", fmt::join(report.reasons, "; "));
    case wire::State::starting:
    case wire::State::no_model:
      break;
  }
  if (report.reasons.empty()) return "No model is configured (model.path)";
  return fmt::format("No model: {}", fmt::join(report.reasons, "; "));
}

class Daemon {
 public:
  Daemon(const Config& config, const ConfigSource& read_config, Supervisor& supervisor, Log& log)
      : config_(config), read_config_(read_config), supervisor_(supervisor), log_(log) {}

  Result<void> start();
  bool look();
  void hangup();
  std::chrono::milliseconds interval() const;
  Result<void> stop(bool asked);

 private:
  struct Reload {
    std::optional<RequestKey> key;  // of an administrator; none: SIGHUP
    Config config;
    std::vector<std::string> need_restart;
    std::string model;   // that an administrator has named, now or before
    bool loads = false;  // a model, beside the rest
  };

  Result<std::unique_ptr<Engine>> open(const PreparedModel& model);
  void reload(const Service::ReloadRequest& wanted, bool hangup);
  Result<Reload> begin_reload(const Service::ReloadRequest& wanted);
  void apply(const Config& config);
  void tell_reloaded(const std::optional<RequestKey>& key, const Result<wire::ReloadReport>& report);
  void keep_pace();
  void tell_status();
  void write_metrics();

  Config config_;
  const ConfigSource& read_config_;
  Supervisor& supervisor_;
  Log& log_;
  std::string model_;             // that an administrator has named; empty: the configuration's
  std::optional<Error> failure_;  // written by the engine thread, read after its end
  SlowSteps slow_steps_;
  HeatWatch heat_;
  Service service_{[this] { supervisor_.wake(); }};
  ModelHost host_{service_, {.prepare = prepare_model, .open = [this](const PreparedModel& m) { return open(m); }}};
  std::optional<Server> server_;
  std::optional<Reload> reload_;  // that waits for its model
  wire::State state_ = wire::State::starting;
  std::string line_;  // the last that systemd was told
  std::optional<MetricsFile> metrics_;
  std::chrono::steady_clock::time_point metrics_due_ = std::chrono::steady_clock::now();
};

Result<std::unique_ptr<Engine>> Daemon::open(const PreparedModel& prepared) {
  PreparedModel model = prepared;
  model.options.step_watch = [this](const StepFacts& step) {
    if (const auto line = slow_steps_.line(step, std::chrono::steady_clock::now())) spdlog::warn("{}", *line);
  };
  auto engine = Engine::open(model, service_.sink(), [this](const Error& error) {
    failure_ = error;
    supervisor_.fail(error.message());
  });
  if (engine) log_plan(**engine);
  return engine;
}

Result<void> Daemon::start() {
  service_.set_log_prompts(config_.log.prompts);
  slow_steps_.set(config_.log.slow_step_factor, config_.log.slow_step_ms);
  SIROCCO_TRY(ClientPolicies clients, ClientPolicies::resolve(config_.clients));
  service_.set_clients(std::move(clients));
  // The sockets are claimed before the model is read: a second daemon finds out at once.
  const ServerConfig& server = config_.server;
  auto socket =
      ListeningSocket::bind({.path = server.socket, .mode = static_cast<mode_t>(server.mode), .group = server.group});
  if (!socket) return fail(ErrorCode::io, "{}", socket.error());
  SIROCCO_TRY(std::optional<AdminSocket> admin, admin_socket(server));
  if (!config_.model.path.empty()) {
    notify_systemd("STATUS=Loading " + config_.model.path);
    SIROCCO_CHECK(host_.load(engine_options(config_)));
  }
  server_.emplace(*std::move(socket), server_limits(server.limits), service_, std::move(admin));
  service_.connect(host_.engine(), &*server_);
  server_->start();
  line_ = status_line(service_.report());
  spdlog::info("serving {}; {}", server.socket, line_);
  notify_systemd("READY=1\nSTATUS=" + line_);
  if (!config_.metrics.file.empty()) metrics_.emplace(config_.metrics.file);
  look();
  return {};
}

// Between two looks. Nothing changes by itself but for a model with slots, and the temperature.
std::chrono::milliseconds Daemon::interval() const {
  const bool serves = host_.engine() != nullptr;
  if (metrics_ || (serves && host_.engine()->parts().slotted != nullptr)) return kLookInterval;
  return serves && heat_.watches() ? HeatWatch::kInterval : std::chrono::milliseconds(-1);
}

void Daemon::keep_pace() {
  if (host_.engine() != nullptr) host_.engine()->set_pace(heat_.pace(config_.power, std::chrono::steady_clock::now()));
}

// False: it is time to end.
bool Daemon::look() {
  while (const auto wanted = service_.next_reload()) reload(*wanted, false);
  if (const auto replaced = host_.advance()) {
    const Reload done = *std::exchange(reload_, std::nullopt);
    if (*replaced) {
      model_ = done.model;
      apply(done.config);
    }
    tell_reloaded(done.key, replaced->map([&] {
      return wire::ReloadReport{.model = service_.report().model, .loaded = true, .need_restart = done.need_restart};
    }));
  }
  keep_pace();
  tell_status();
  write_metrics();
  return !service_.stop_wanted();
}

void Daemon::tell_status() {
  const wire::StatusReport report = service_.report();
  std::string now = status_line(report);
  if (now == line_) return;
  line_ = std::move(now);
  // While it drains, each request that ends changes the line.
  if (report.state != wire::State::draining || state_ != wire::State::draining) spdlog::info("{}", line_);
  state_ = report.state;
  notify_systemd("STATUS=" + line_);
}

void Daemon::write_metrics() {
  if (!metrics_ || std::chrono::steady_clock::now() < metrics_due_) return;
  metrics_due_ = std::chrono::steady_clock::now() + std::chrono::seconds(config_.metrics.interval_s);
  if (const auto written = metrics_->write(service_.report()); !written) spdlog::warn("{}", written.error().message());
}

void Daemon::hangup() {
  log_.reopen();
  reload({}, true);
  supervisor_.wake();  // to look
}

void Daemon::reload(const Service::ReloadRequest& wanted, bool hangup) {
  const std::optional<RequestKey> key = hangup ? std::nullopt : std::optional(wanted.key);
  if (reload_)
    return tell_reloaded(key, fail(ErrorCode::busy, "another reload is under way: try again when it is done"));
  notify_systemd(reloading_state());
  auto begun = begin_reload(wanted);
  if (!begun) return tell_reloaded(key, fail(begun.error()));
  Reload& reload = *begun;
  reload.key = key;
  if (reload.loads) {
    reload_ = std::move(reload);  // goes on in look()
    return;
  }
  apply(reload.config);
  tell_reloaded(
      key, wire::ReloadReport{.model = service_.report().model, .loaded = false, .need_restart = reload.need_restart});
}

// Nothing has changed after an error.
Result<Daemon::Reload> Daemon::begin_reload(const Service::ReloadRequest& wanted) {
  Reload reload;
  SIROCCO_TRY(reload.config, read_config_());
  reload.model = wanted.model.empty() ? model_ : wanted.model;
  if (!reload.model.empty()) reload.config.model.path = reload.model;
  SIROCCO_CHECK(ClientPolicies::resolve(reload.config.clients));
  reload.need_restart = need_restart(config_, reload.config);
  const bool same = same_engine(config_, reload.config) && !host_.file_replaced() &&
                    (host_.engine() != nullptr || config_.model.path.empty());
  if (same) return reload;
  if (reload.config.model.path.empty())
    return fail(ErrorCode::invalid_argument,
                "model.path: names no model any more; the daemon ends with systemctl stop");
  SIROCCO_CHECK(host_.begin_replacement(engine_options(reload.config)));
  reload.loads = true;
  return reload;
}

// What can be while it runs; the rest stays as it was at the start.
void Daemon::apply(const Config& config) {
  service_.set_clients(*ClientPolicies::resolve(config.clients));
  service_.set_log_prompts(config.log.prompts);
  slow_steps_.set(config.log.slow_step_factor, config.log.slow_step_ms);
  log_.set_level(config.log.level);
  if (host_.engine() != nullptr) host_.engine()->set_idle_after(std::chrono::milliseconds(config.engine.idle_after_ms));
  Config applied = config;
  applied.server = config_.server;
  applied.log.file = config_.log.file;
  applied.metrics = config_.metrics;
  config_ = applied;
  keep_pace();
}

// To the administrator who asked, to the log, and to systemd.
void Daemon::tell_reloaded(const std::optional<RequestKey>& key, const Result<wire::ReloadReport>& report) {
  if (!report) {
    spdlog::error("reload: {}; everything stays as it was", report.error().message());
  } else {
    spdlog::info("reloaded{}", report->loaded ? ", with another model" : "");
    for (const std::string& changed : report->need_restart)
      spdlog::warn("reload: {} has changed, which takes a restart", changed);
  }
  if (key) service_.answer(*key, report);
  line_ = status_line(service_.report());
  notify_systemd("READY=1\nSTATUS=" + line_);
}

Result<void> Daemon::stop(bool asked) {
  notify_systemd("STOPPING=1");
  server_->stop();  // every request in flight gets SHUTTING_DOWN
  service_.stop();
  host_.close();
  if (!asked) {
    // main() writes it to standard error, which is the log where no file is.
    if (!config_.log.file.empty()) spdlog::error("{}", failure_->message());
    return fail(*failure_);
  }
  spdlog::info("stopped");
  return {};
}

}  // namespace

Result<void> run(const Config& config, const ConfigSource& read_config, Supervisor& supervisor) {
  SIROCCO_TRY(Log log, Log::open(config.log));
  Daemon daemon(config, read_config, supervisor, log);
  SIROCCO_CHECK(daemon.start());
  const bool asked = supervisor.wait({.hangup = [&] { daemon.hangup(); },
                                      .look = [&] { return daemon.look(); },
                                      .interval = [&] { return daemon.interval(); }});
  return daemon.stop(asked);
}

}  // namespace sirocco::daemon

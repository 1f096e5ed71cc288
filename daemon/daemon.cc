#include "daemon/daemon.h"

#include <spdlog/spdlog.h>
#include <time.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <future>
#include <optional>

#include "daemon/device_recovery.h"
#include "daemon/heat.h"
#include "daemon/log.h"
#include "daemon/log_event.h"
#include "daemon/metrics.h"
#include "daemon/model_host.h"
#include "daemon/options.h"
#include "daemon/service.h"
#include "daemon/slow_steps.h"
#include "daemon/sockets.h"
#include "daemon/status_line.h"
#include "daemon/watchdog.h"
#include "engine/engine.h"
#include "ipc/server/server.h"

namespace sirocco::daemon {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr milliseconds kLookInterval(1000);  // at what has changed, to tell systemd
// That systemd waits for the next sign that loading goes on, or the end; a disk that is silent for longer has failed.
constexpr std::chrono::microseconds kDiskPatience = std::chrono::seconds(60);

void ask_for_patience() {
  notify_systemd(fmt::format("EXTEND_TIMEOUT_USEC={}", kDiskPatience.count()));
}

// In front of what systemd is told of a reload: when it began, on the clock that systemd compares with.
std::string reloading_state() {
  timespec now = {};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return fmt::format("RELOADING=1\nMONOTONIC_USEC={}\nSTATUS=Reloading",
                     std::uint64_t{1'000'000} * static_cast<std::uint64_t>(now.tv_sec) +
                         static_cast<std::uint64_t>(now.tv_nsec) / 1000);
}

class Daemon {
 public:
  Daemon(const Config& config, const ConfigSource& read_config, Supervisor& supervisor, Log& log, bool stay_up)
      : config_(config), read_config_(read_config), supervisor_(supervisor), log_(log), stay_up_(stay_up) {}

  Result<void> start(const PassedSockets& passed);
  bool look();
  void hangup();
  milliseconds interval() const;
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
  std::vector<Watchdog::Watched> watched();
  std::uint64_t engine_pulse();
  bool finish_loading(const Result<void>& loaded);
  void recover_device();
  void finish_recovery(const Result<void>& recovered);
  void serve();
  void tell_progress();
  void keep_pace();
  void tell_status();
  void write_metrics();
  void log_failure() const;
  bool close();

  Config config_;
  const ConfigSource& read_config_;
  Supervisor& supervisor_;
  Log& log_;
  const bool stay_up_;                 // with a model that cannot be loaded
  std::string socket_;                 // of the clients
  std::string model_;                  // that an administrator has named; empty: the configuration's
  std::optional<Error> failure_;       // of the engine: written when it has failed, read after its end
  std::optional<Error> load_failure_;  // of the first model, which ends the daemon
  SlowSteps slow_steps_;
  HeatWatch heat_;
  Service service_{[this] { supervisor_.wake(); }};
  ModelHost host_{service_,
                  {.prepare = prepare_model, .open = [this](const PreparedModel& m) { return open(m); }},
                  [this] { supervisor_.wake(); }};
  std::optional<Server> server_;
  std::optional<Reload> reload_;  // that waits for its model
  DeviceRecovery device_recovery_;
  bool recovering_ = false;  // from a failure of the device
  wire::State state_ = wire::State::starting;
  std::string line_;                        // the last that systemd was told
  std::uint64_t loaded_ = 0;                // bytes, that it was told of
  std::uint64_t no_engine_ = 0;             // how often the watchdog found none
  std::atomic<std::uint64_t> engines_ = 0;  // that were opened, or failed to be, by the thread that loads
  std::optional<Watchdog> watchdog_;
  std::optional<MetricsFile> metrics_;
  steady_clock::time_point metrics_due_ = steady_clock::now();
};

Result<std::unique_ptr<Engine>> Daemon::open(const PreparedModel& prepared) {
  PreparedModel model = prepared;
  model.options.step_watch = [this](const StepFacts& step) {
    if (const auto line = slow_steps_.line(step, steady_clock::now()))
      log_event(spdlog::level::warn, kSlowStep, *line,
                {{.name = "SIROCCO_STEP_MS", .value = fmt::format("{:.0f}", step.seconds * 1000)}});
  };
  auto engine = Engine::open(model, service_.sink(), [this](const Error& error) {
    if (error.code() == ErrorCode::device_failed) return supervisor_.wake();  // look() goes on
    failure_ = error;
    supervisor_.fail(error.message());
  });
  if (engine) log_plan(**engine);
  ++engines_;
  return engine;
}

Result<void> Daemon::start(const PassedSockets& passed) {
  service_.set_log_prompts(config_.log.prompts);
  slow_steps_.set(config_.log.slow_step_factor, config_.log.slow_step_ms);
  SIROCCO_TRY(ClientPolicies clients, ClientPolicies::resolve(config_.clients));
  service_.set_clients(std::move(clients));
  // The sockets are claimed before the model is read: a second daemon finds out at once.
  SIROCCO_TRY(Sockets sockets, open_sockets(config_.server, passed));
  socket_ = std::move(sockets.path);
  server_.emplace(std::move(sockets.client), server_limits(config_.server.limits), service_, std::move(sockets.admin));
  service_.connect(nullptr, &*server_);
  if (!config_.metrics.file.empty()) metrics_.emplace(config_.metrics.file);
  // Clients are answered while it loads: Status at once, what needs the model when that is there.
  const bool loads = !config_.model.path.empty();
  if (loads) SIROCCO_CHECK(host_.begin(engine_options(config_)));
  server_->start();
  if (const auto limit = Watchdog::limit_of_systemd())
    watchdog_.emplace(
        *limit, watched(), [] { notify_systemd("WATCHDOG=1"); }, steady_clock::now());
  if (!loads) serve();
  tell_status();
  return {};
}

// Who must live for the daemon to.
std::vector<Watchdog::Watched> Daemon::watched() {
  return {{.name = "I/O", .pulse = [this] { return server_->pulse(); }, .ask = [this] { server_->ask_for_pulse(); }},
          {.name = "engine",
           .pulse = [this] { return engine_pulse(); },
           .ask =
               [this] {
                 if (host_.engine() != nullptr) host_.engine()->ask_for_pulse();
               }}};
}

// Of the engine that there is. Two engines, or an engine and none, never show the same number, which would look as if
// nobody had moved.
std::uint64_t Daemon::engine_pulse() {
  const std::uint64_t of_engine = engines_.load() << 48;
  return of_engine + (host_.engine() != nullptr ? host_.engine()->pulse() : (std::uint64_t{1} << 47) + ++no_engine_);
}

// From here on the daemon is up, whatever its state.
void Daemon::serve() {
  tell_status();
  log_event(spdlog::level::info, kStarted, "serving " + socket_,
            {{.name = "SIROCCO_STATE", .value = std::string(wire::state_name(state_))}});
  notify_systemd("READY=1\nSTATUS=" + line_);
}

// Between two looks. Nothing changes by itself but for a model with slots, one that is being loaded, and the
// temperature.
milliseconds Daemon::interval() const {
  const auto now = steady_clock::now();
  const bool slots = host_.engine() != nullptr && (host_.engine()->parts().slotted != nullptr ||
                                                   host_.engine()->parts().backend->device_slots() != nullptr);
  milliseconds next(-1);
  const auto by = [&](milliseconds due) {
    if (due >= milliseconds(0)) next = next < milliseconds(0) ? due : std::min(next, due);
  };
  if (metrics_ || slots || host_.loading()) by(kLookInterval);
  if (host_.engine() != nullptr) by(heat_.until_due(service_.busy(), now));
  if (watchdog_) by(watchdog_->until_due(now));
  return next;
}

void Daemon::keep_pace() {
  if (host_.engine() != nullptr)
    host_.engine()->set_pace(heat_.pace(config_.power, service_.busy(), steady_clock::now()));
}

// False: it is time to end.
bool Daemon::look() {
  if (watchdog_) watchdog_->look(steady_clock::now());
  while (const auto wanted = service_.next_reload()) reload(*wanted, false);
  if (const auto loaded = host_.advance(); loaded && !finish_loading(*loaded)) return false;
  recover_device();
  tell_progress();
  keep_pace();
  tell_status();
  write_metrics();
  if (!service_.stop_wanted()) return true;
  log_event(spdlog::level::info, kStopping, "drained: stopping");
  return false;
}

// False: it is time to end.
bool Daemon::finish_loading(const Result<void>& loaded) {
  if (std::exchange(recovering_, false)) {
    finish_recovery(loaded);
    return true;
  }
  if (loaded) {
    const std::string name = service_.report().model->name;
    log_event(spdlog::level::info, kModelLoaded, "loaded " + name, {{.name = "SIROCCO_MODEL", .value = name}});
  }
  if (reload_) {
    const Reload done = *std::exchange(reload_, std::nullopt);
    if (loaded) {
      model_ = done.model;
      apply(done.config);
    }
    tell_reloaded(done.key, loaded.map([&] {
      return wire::ReloadReport{.model = service_.report().model, .loaded = true, .need_restart = done.need_restart};
    }));
    return true;
  }
  if (!loaded && !stay_up_) {
    load_failure_ = loaded.error();
    return false;
  }
  if (!loaded)
    log_event(spdlog::level::err, kLoadFailed, loaded.error().message(),
              {{.name = "SIROCCO_MODEL", .value = config_.model.path}});
  serve();
  return true;
}

// If it has failed. While another model is being loaded, that comes first.
void Daemon::recover_device() {
  if (host_.loading() || host_.engine() == nullptr) return;
  const auto failure = host_.engine()->status().failure;
  if (!failure || failure->code() != ErrorCode::device_failed) return;
  const auto recovery = device_recovery_.after_failure(steady_clock::now(), config_.device.on_failure);
  log_event(spdlog::level::err, kDeviceFailed,
            fmt::format("{}; {}", failure->message(),
                        recovery.again       ? "it is set up again"
                        : recovery.processor ? "that was tried before: the processor goes on (device.on_failure)"
                                             : "that was tried before (device.on_failure: fail)"));
  if (!recovery.again && !recovery.processor) return finish_recovery(sirocco::fail(*failure));
  recovering_ = true;
  host_.recover(recovery);
}

// Where nobody can compute the daemon ends, and who started it may start it anew, without what the driver keeps of this
// process.
void Daemon::finish_recovery(const Result<void>& recovered) {
  if (!recovered) {
    failure_ = recovered.error();
    return supervisor_.fail(failure_->message());
  }
  log_event(spdlog::level::info, kDeviceRecovered,
            host_.recovered_on_processor() ? "the processor computes instead of the GPU" : "the GPU computes again");
}

// As long as loading goes on, systemd is to wait for it.
void Daemon::tell_progress() {
  if (!host_.loading() || host_.progress()->done() == loaded_) return;
  loaded_ = host_.progress()->done();
  ask_for_patience();
}

void Daemon::tell_status() {
  const wire::StatusReport report = service_.report();
  std::string now = status_line(report);
  if (now == line_) return;
  line_ = std::move(now);
  log_state(state_, report);
  if (report.state != state_) metrics_due_ = steady_clock::now();
  state_ = report.state;
  notify_systemd("STATUS=" + line_);
}

void Daemon::write_metrics() {
  if (!metrics_ || steady_clock::now() < metrics_due_) return;
  metrics_due_ = steady_clock::now() + std::chrono::seconds(config_.metrics.interval_s);
  if (const auto written = metrics_->write(service_.report()); !written) spdlog::warn("{}", written.error().message());
}

void Daemon::hangup() {
  log_.reopen();
  reload({}, true);
  supervisor_.wake();  // to look
}

void Daemon::reload(const Service::ReloadRequest& wanted, bool hangup) {
  const std::optional<RequestKey> key = hangup ? std::nullopt : std::optional(wanted.key);
  if (host_.loading())
    return tell_reloaded(key, fail(ErrorCode::busy, "a model is being loaded: try again when it is"));
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
                    (host_.engine() != nullptr || config_.model.path.empty()) && !host_.recovered_on_processor();
  if (same) return reload;
  if (reload.config.model.path.empty())
    return fail(ErrorCode::invalid_argument, "model.path: names no model any more; that takes a restart");
  SIROCCO_CHECK(host_.begin(engine_options(reload.config)));
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
    log_event(spdlog::level::err, kReloadFailed,
              fmt::format("reload: {}; everything stays as it was", report.error().message()));
  } else {
    log_event(spdlog::level::info, kReloaded, report->loaded ? "reloaded, with another model" : "reloaded");
    for (const std::string& changed : report->need_restart)
      spdlog::warn("reload: {} has changed, which takes a restart", changed);
  }
  if (key) service_.answer(*key, report);
  tell_status();
  if (!host_.loading()) notify_systemd("READY=1\nSTATUS=" + line_);  // else when that is done
}

// main() writes it to standard error, which is the log where no other is.
void Daemon::log_failure() const {
  if (log_.is_standard_error()) return;
  if (load_failure_) {
    log_event(spdlog::level::err, kLoadFailed, load_failure_->message(),
              {{.name = "SIROCCO_MODEL", .value = config_.model.path}});
  } else {
    log_event(spdlog::level::err, kEngineFailed, failure_->message());
  }
}

// Sessions are written, after the step that is under way. As long as that goes on, systemd is to wait for it. False: a
// model is still being read.
bool Daemon::close() {
  auto closed = std::async(std::launch::async, [this] {
    service_.stop();
    return host_.close();
  });
  const auto signs = [this] { return host_.synced() + (host_.engine() != nullptr ? host_.engine()->pulse() : 0); };
  std::uint64_t seen = signs();
  while (closed.wait_for(kLookInterval) != std::future_status::ready) {
    if (signs() != seen) ask_for_patience();
    seen = signs();
  }
  return closed.get();
}

Result<void> Daemon::stop(bool asked) {
  notify_systemd("STOPPING=1\nSTATUS=Stopping");
  server_->stop();  // every request in flight gets SHUTTING_DOWN
  const bool over = close();
  const bool failed = !asked || load_failure_;
  if (failed) {
    log_failure();
  } else {
    spdlog::info("stopped{}", over ? "" : "; the model that was being loaded is not waited for");
  }
  if (!over) {
    // A thread waits for the disk, and would use what destructors take down.
    metrics_.reset();
    spdlog::default_logger()->flush();
    std::quick_exit(failed ? 1 : 0);
  }
  if (!failed) return {};
  return fail(load_failure_ ? *load_failure_ : *failure_);
}

}  // namespace

Result<void> run(const Config& config, const ConfigSource& read_config, Supervisor& supervisor, bool stay_up) {
  SIROCCO_TRY(Log log, Log::open(config.log));
  SIROCCO_TRY(const PassedSockets passed, passed_sockets());
  Daemon daemon(config, read_config, supervisor, log, stay_up);
  SIROCCO_CHECK(daemon.start(passed));
  const bool asked = supervisor.wait({.hangup = [&] { daemon.hangup(); },
                                      .look = [&] { return daemon.look(); },
                                      .interval = [&] { return daemon.interval(); }});
  return daemon.stop(asked);
}

}  // namespace sirocco::daemon

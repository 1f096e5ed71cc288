#include "daemon/daemon.h"

#include <spdlog/spdlog.h>

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <optional>

#include "daemon/log.h"
#include "daemon/metrics.h"
#include "daemon/service.h"
#include "engine/engine.h"
#include "ipc/server/server.h"

namespace sirocco::daemon {
namespace {

constexpr std::chrono::milliseconds kLookInterval(1000);  // at what has changed, to tell systemd

// Of systemd's StateDirectory=. Empty: there is none.
std::filesystem::path state_file(const char* name) {
  const char* const folder = std::getenv("STATE_DIRECTORY");
  return folder == nullptr || *folder == '\0' ? std::filesystem::path() : std::filesystem::path(folder) / name;
}

// Empty: nowhere.
std::filesystem::path hot_set_file(const MemoryConfig& config) {
  return config.hot_set != "auto" ? std::filesystem::path(config.hot_set) : state_file("hot-set");
}

EngineOptions engine_options(const Config& config) {
  EngineOptions options;
  options.model = config.model.path;
  options.backend = config.engine.backend;
  options.isa = config.engine.isa;
  options.threads = config.engine.threads;
  options.pin_threads = config.engine.pin_threads;
  options.context = config.model.context;
  options.max_rows_per_step = config.engine.max_rows_per_step;
  options.max_running = config.engine.max_running;
  options.max_queued = config.engine.max_queued;
  options.max_queued_per_uid = config.clients.others.max_queued;
  options.max_step_seconds = config.engine.max_step_ms / 1000.0;
  options.kv_tokens = config.memory.kv_tokens;
  options.kv_type = config.memory.kv_type;
  options.memory_budget = config.memory.budget.value_or(0);
  options.eviction = config.memory.eviction;
  options.foresight = config.memory.foresight;
  options.lossy = {.skip_below = config.lossy.skip_below, .substitute = config.lossy.substitute};
  options.hot_set = hot_set_file(config.memory);
  options.read_shape = state_file("disk");
  options.memory_headroom = config.memory.headroom;
  return options;
}

ServerLimits server_limits(const LimitsConfig& config) {
  using std::chrono::milliseconds;
  return {.connections = config.connections,
          .admin_connections = config.admin_connections,
          .queued_bytes = config.queued_bytes,
          .frame_bytes = config.frame_bytes,
          .hello_timeout = milliseconds(config.hello_timeout_ms),
          .frame_timeout = milliseconds(config.frame_timeout_ms),
          .flush_timeout = milliseconds(config.flush_timeout_ms)};
}

Result<std::optional<AdminSocket>> admin_socket(const ServerConfig& config) {
  if (config.admin_socket.empty()) return std::nullopt;
  auto socket = ListeningSocket::bind(
      {.path = config.admin_socket == "auto" ? wire::admin_socket(config.socket) : config.admin_socket,
       .mode = static_cast<mode_t>(config.admin_mode),
       .group = config.admin_group});
  if (!socket) return fail(ErrorCode::io, "the socket for administration (server.admin_socket): {}", socket.error());
  return AdminSocket{.socket = *std::move(socket), .anybody = !config.admin_group.empty()};
}

void log_plan(const Engine& engine) {
  const EngineParts& parts = engine.parts();
  const ModelSpec& spec = parts.model->spec();
  spdlog::info("model: {} ({}), {} layers, {} parameters, tokenizer {}, chat format {}", spec.name, spec.architecture,
               spec.layers, parts.model->sizes().parameters, parts.tokenizer->kind(),
               parts.chat ? parts.chat->name() : "none");
  if (!parts.chat) spdlog::warn("only raw prompts can be answered: {}", parts.chat_error->message());
  for (const std::string& warning : parts.warnings) spdlog::warn("{}", warning);
  for (const std::string& reason : parts.degraded) spdlog::warn("degraded: {}", reason);
  spdlog::info("backend: {} ({}), {} threads", parts.backend->name(), parts.backend->isa(), parts.backend->threads());
  spdlog::info("memory budget: {}", format_bytes(parts.plan.budget));
  for (const MemoryPlan::Line& line : parts.plan.lines)
    spdlog::info("  {}{}: {} ({})", line.charged ? "* " : "  ", line.name, format_bytes(line.bytes), line.note);
}

// "Ready: Mixtral"; with what does not work as well as it should.
std::string status_line(const Engine* engine) {
  if (engine == nullptr) return "No model is configured (model.path)";
  const std::string& name = engine->parts().model->spec().name;
  const EngineStatus status = engine->status();
  if (status.failure) return fmt::format("Failed: {}", status.failure->message());
  if (status.degraded.empty()) return "Ready: " + name;
  return fmt::format("Degraded: {}: {}", name, fmt::join(status.degraded, "; "));
}

}  // namespace

Result<void> run(const Config& config, Supervisor& supervisor) {
  SIROCCO_TRY(Log log, Log::open(config.log));
  std::optional<Error> failure;  // written by the engine thread, read after its end
  Service service(config.log.prompts);
  SIROCCO_TRY(ClientPolicies clients, ClientPolicies::resolve(config.clients));
  service.set_clients(std::move(clients));

  // The sockets are claimed before the model is read: a second daemon finds out at once.
  auto socket = ListeningSocket::bind(
      {.path = config.server.socket, .mode = static_cast<mode_t>(config.server.mode), .group = config.server.group});
  if (!socket) return fail(ErrorCode::io, "{}", socket.error());
  SIROCCO_TRY(std::optional<AdminSocket> admin, admin_socket(config.server));
  std::unique_ptr<Engine> engine;
  if (!config.model.path.empty()) {
    notify_systemd("STATUS=Loading " + config.model.path);
    SIROCCO_TRY(engine, Engine::open(engine_options(config), service.sink(), [&](const Error& error) {
                  failure = error;
                  supervisor.fail(error.message());
                }));
    log_plan(*engine);
  }
  Server server(*std::move(socket), server_limits(config.server.limits), service, std::move(admin));
  service.connect(engine.get(), &server);
  server.start();
  std::string line = status_line(engine.get());
  spdlog::info("serving {}; {}", config.server.socket, line);
  notify_systemd("READY=1\nSTATUS=" + line);

  std::optional<MetricsFile> metrics;
  if (!config.metrics.file.empty()) metrics.emplace(config.metrics.file);
  const std::chrono::seconds metrics_interval(config.metrics.interval_s);
  auto metrics_due = std::chrono::steady_clock::now();
  const auto look = [&] {
    if (std::string now = status_line(engine.get()); now != line) {
      line = std::move(now);
      spdlog::warn("{}", line);
      notify_systemd("STATUS=" + line);
    }
    if (!metrics || std::chrono::steady_clock::now() < metrics_due) return;
    metrics_due = std::chrono::steady_clock::now() + metrics_interval;
    if (const auto written = metrics->write(service.report()); !written) spdlog::warn("{}", written.error().message());
  };
  look();
  // Nothing changes by itself but for a model with slots.
  const bool looks = metrics || (engine && engine->parts().slotted != nullptr);
  const bool asked =
      supervisor.wait([&] { log.reopen(); }, looks ? kLookInterval : std::chrono::milliseconds(-1), look);
  notify_systemd("STOPPING=1");
  server.stop();  // every request in flight gets SHUTTING_DOWN
  if (engine) engine->close();
  if (const auto file = hot_set_file(config.memory); engine && !file.empty()) {
    if (const auto saved = engine->save_hot_set(file); !saved) spdlog::warn("{}", saved.error().message());
  }
  service.stop();
  if (!asked) {
    // main() writes it to standard error, which is the log where no file is.
    if (!config.log.file.empty()) spdlog::error("{}", failure->message());
    return fail(*failure);
  }
  spdlog::info("stopped");
  return {};
}

}  // namespace sirocco::daemon

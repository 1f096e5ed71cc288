#include "daemon/options.h"

#include <cstdlib>
#include <filesystem>

namespace sirocco::daemon {
namespace {

// Of systemd's StateDirectory=. Empty: there is none.
std::filesystem::path state_file(const char* name) {
  const char* const folder = std::getenv("STATE_DIRECTORY");
  return folder == nullptr || *folder == '\0' ? std::filesystem::path() : std::filesystem::path(folder) / name;
}

// Empty: nowhere.
std::filesystem::path kv_swap_folder(const MemoryConfig& config) {
  return config.kv_swap_directory != "auto" ? std::filesystem::path(config.kv_swap_directory) : state_file("");
}

// Likewise.
std::filesystem::path hot_set_file(const MemoryConfig& config) {
  return config.hot_set != "auto" ? std::filesystem::path(config.hot_set) : state_file("hot-set");
}

// Likewise.
std::filesystem::path session_folder(const SessionsConfig& config) {
  return config.directory != "auto" ? std::filesystem::path(config.directory) : state_file("sessions");
}

}  // namespace

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
  options.kv_swap = kv_swap_folder(config.memory);
  options.kv_swap_bytes = config.memory.kv_swap_bytes;
  options.memory_budget = config.memory.budget.value_or(0);
  options.eviction = config.memory.eviction;
  options.foresight = config.memory.foresight;
  options.lossy = {.skip_below = config.lossy.skip_below, .substitute = config.lossy.substitute};
  options.hot_set = hot_set_file(config.memory);
  options.read_shape = state_file("disk");
  options.cache_share = config.cache.share;
  options.sessions = {.folder = session_folder(config.sessions),
                      .disk_bytes_per_uid = config.sessions.disk_bytes_per_user,
                      .max_per_uid = config.sessions.max_per_user,
                      .kept_tokens_per_uid = config.sessions.kept_tokens_per_user};
  options.memory_headroom = config.memory.headroom;
  options.device_memory = config.device.memory.value_or(0);
  options.idle_after = std::chrono::milliseconds(config.engine.idle_after_ms);
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

bool same_engine(const Config& a, const Config& b) {
  EngineConfig engine = b.engine;
  engine.idle_after_ms = a.engine.idle_after_ms;
  return a.model == b.model && a.engine == engine && a.memory == b.memory && a.device.memory == b.device.memory &&
         a.lossy == b.lossy && a.cache == b.cache && a.sessions == b.sessions;
}

std::vector<std::string> need_restart(const Config& before, const Config& after) {
  std::vector<std::string> keys;
  if (before.server != after.server) keys.emplace_back("server");
  if (before.log.file != after.log.file) keys.emplace_back("log.file");
  if (before.metrics != after.metrics) keys.emplace_back("metrics");
  return keys;
}

}  // namespace sirocco::daemon

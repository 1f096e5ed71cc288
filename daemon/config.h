// The daemon's configuration: a YAML file, and those that are laid over it, become one validated value, or a list of
// everything that is wrong with them.
// Strict: an unknown key, a wrong type, an impossible value and a key given twice are errors. config/siroccod.yaml
// documents every key and holds the defaults. Read at the start and at each reload, on the main thread; immutable after
// that.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "daemon/client_policy.h"
#include "engine/base/bytes.h"
#include "engine/base/result.h"
#include "engine/kv/cache_share.h"
#include "ipc/wire/limits.h"
#include "ipc/wire/socket_paths.h"
#include "kernels/tensor_type.h"

namespace sirocco::daemon {

enum class LogLevel : std::uint8_t { trace, debug, info, warning, error };

struct ModelConfig {
  std::string path;           // empty: none
  std::uint32_t context = 0;  // tokens; 0: the model's own
  bool operator==(const ModelConfig&) const = default;
};

struct EngineConfig {
  std::string backend = "auto";
  std::string isa = "auto";
  std::uint32_t threads = 0;  // 0: all that the process may use
  bool pin_threads = false;
  std::uint32_t max_rows_per_step = 0;  // 0: chosen
  std::uint32_t max_running = 16;       // sequences in a step, at most max_rows_per_step
  std::uint32_t max_queued = 64;        // requests
  std::uint32_t max_step_ms = 0;        // 0: chosen
  std::uint64_t idle_after_ms = 0;      // 0: never
  bool operator==(const EngineConfig&) const = default;
};

struct MemoryConfig {
  std::optional<std::uint64_t> budget;  // bytes; none: from the cgroup and the free memory
  std::uint64_t headroom = 512 * MiB;
  std::string eviction = "lfru";  // one of policy_names()
  bool foresight = false;
  std::string hot_set = "auto";            // a file, "auto": in $STATE_DIRECTORY, "": none
  TensorType kv_type = TensorType::f16;    // or f32 or q8_0
  std::uint64_t kv_tokens = 0;             // of all sequences; 0: from the budget
  std::string kv_swap_directory = "auto";  // "auto": $STATE_DIRECTORY; "": none
  std::uint64_t kv_swap_bytes = 4 * GiB;
  bool operator==(const MemoryConfig&) const = default;
};

// What is done when a GPU fails twice within an hour, or cannot be set up again after it has failed.
enum class DeviceFailure : std::uint8_t { cpu, fail };

// Of a GPU.
struct DeviceConfig {
  std::optional<std::uint64_t> memory;  // bytes; none: what is free on it, less some headroom
  DeviceFailure on_failure = DeviceFailure::cpu;
  bool operator==(const DeviceConfig&) const = default;
};

struct CacheConfig {
  CacheShare share = CacheShare::uid;
  bool operator==(const CacheConfig&) const = default;
};

struct SessionsConfig {
  std::string directory = "auto";  // "auto": in $STATE_DIRECTORY; "": none, they are not saved
  std::uint64_t disk_bytes_per_user = 4 * GiB;
  std::uint32_t max_per_user = 32;
  std::uint64_t kept_tokens_per_user = 0;  // 0: a quarter of the KV cache
  bool operator==(const SessionsConfig&) const = default;
};

// How much of the time steps may take.
struct PowerConfig {
  float max_duty = 1;                        // share of it, above 0
  float hot_duty = 0.5;                      // likewise, while the machine is hot
  std::optional<std::uint32_t> hot_celsius;  // of any thermal zone; none: where the kernel slows something down
  bool operator==(const PowerConfig&) const = default;
};

// Answers may differ from the model's; they say when they do.
struct LossyConfig {
  float skip_below = 0;  // of a token's routing weight
  bool substitute = false;
  bool operator==(const LossyConfig&) const = default;
};

struct LimitsConfig {
  std::uint32_t connections = 1024;
  std::uint32_t admin_connections = 16;
  std::uint64_t queued_bytes = 1 * MiB;  // unsent, of one connection
  std::uint64_t frame_bytes = wire::kMaxPayload;
  std::uint32_t hello_timeout_ms = 5000;
  std::uint32_t frame_timeout_ms = 10'000;
  std::uint32_t flush_timeout_ms = 1000;
  bool operator==(const LimitsConfig&) const = default;
};

struct ServerConfig {
  std::string socket{wire::kDefaultSocket};
  std::uint32_t mode = 0660;
  std::string group;                  // empty: the daemon's own
  std::string admin_socket = "auto";  // beside `socket` (wire::admin_socket); empty: none
  std::uint32_t admin_mode = 0600;
  std::string admin_group;
  LimitsConfig limits;
  bool operator==(const ServerConfig&) const = default;
};

struct LogConfig {
  LogLevel level = LogLevel::info;
  std::string file;  // empty: standard error
  bool prompts = false;
  float slow_step_factor = 5;      // times what is expected of a step; 0: off
  std::uint32_t slow_step_ms = 0;  // 0: off
  bool operator==(const LogConfig&) const = default;
};

struct MetricsConfig {
  std::string file;  // empty: none
  std::uint32_t interval_s = 15;
  bool operator==(const MetricsConfig&) const = default;
};

struct Config {
  ModelConfig model;
  EngineConfig engine;
  MemoryConfig memory;
  DeviceConfig device;
  PowerConfig power;
  LossyConfig lossy;
  CacheConfig cache;
  SessionsConfig sessions;
  ServerConfig server;
  ClientsConfig clients;
  LogConfig log;
  MetricsConfig metrics;
  bool operator==(const Config&) const = default;
};

// What this build and this machine have to choose from; "auto" is always allowed.
struct Choices {
  std::span<const std::string_view> backends;
  std::span<const std::string_view> isas;
};

inline constexpr std::size_t kMaxConfigBytes = 1 * MiB;  // of a file

// One file. The name stands before each error in it, one a line: "NAME:LINE:COLUMN: key: what; allowed: ...".
struct ConfigText {
  std::string name;
  std::string text;
};

// Each is laid over those before it, key by key; of a client's rule that an earlier one has, the keys that it gives.
// Each is as strict as if it were alone. Error: invalid_argument.
Result<Config> parse_config(std::span<const ConfigText> files, const Choices& choices);

// The file, and over it those named *.yaml in the folder beside it (siroccod.d for siroccod.yaml), in the order of
// their names; there need be no such folder. Also fails if one cannot be read.
Result<Config> load_config(const std::string& path, const Choices& choices);

}  // namespace sirocco::daemon

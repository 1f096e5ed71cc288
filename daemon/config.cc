#include "daemon/config.h"

#include <sys/un.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstdio>
#include <functional>
#include <iterator>
#include <memory>
#include <utility>
#include <vector>

#include "daemon/quoted.h"
#include "daemon/yaml_entries.h"
#include "engine/base/thread_pool.h"
#include "engine/experts/eviction_policy.h"

namespace sirocco::daemon {
namespace {

constexpr std::size_t kMaxFileBytes = 1 * MiB;
constexpr std::size_t kMaxErrors = 50;                                     // that are written out: more help nobody
constexpr std::size_t kMaxSocketPath = sizeof(sockaddr_un::sun_path) - 1;  // 107 bytes, and the final zero
constexpr std::size_t kMaxPath = 4095;                                     // PATH_MAX without its zero
constexpr std::size_t kMaxName = 31;                                       // of a group, as useradd allows

// A value's check and conversion: what is allowed, in words, or nothing if it was accepted.
using Allowed = std::optional<std::string>;

struct Key {
  std::string_view path;
  std::function<Allowed(Config&, const YamlEntry&)> set;
};

template <class T>
Allowed integer(const YamlEntry& entry, std::uint64_t low, std::uint64_t high, T& out) {
  std::uint64_t value = 0;
  const char* const end = entry.text.data() + entry.text.size();
  const auto [rest, error] = std::from_chars(entry.text.data(), end, value);
  if (!entry.plain || error != std::errc() || rest != end || value < low || value > high) {
    return fmt::format("a whole number from {} to {}", low, high);
  }
  out = static_cast<T>(value);
  return {};
}

Allowed fraction(const YamlEntry& entry, float& out) {
  float value = 0;
  const char* const end = entry.text.data() + entry.text.size();
  const auto [rest, error] = std::from_chars(entry.text.data(), end, value);
  if (!entry.plain || error != std::errc() || rest != end || !(value >= 0 && value <= 1)) return "a number from 0 to 1";
  out = value;
  return {};
}

Allowed byte_size(const YamlEntry& entry, std::uint64_t low, std::uint64_t high, std::uint64_t& out) {
  const Result<std::uint64_t> value = parse_bytes(entry.text);
  if (entry.plain && value && *value >= low && *value <= high) {
    out = *value;
    return {};
  }
  return fmt::format("a size from {} to {}, such as 512MiB", format_bytes(low), format_bytes(high));
}

Allowed budget(const YamlEntry& entry, std::optional<std::uint64_t>& out) {
  out.reset();
  if (entry.text == "auto") return {};
  std::uint64_t bytes = 0;
  const Allowed allowed = byte_size(entry, 1 * MiB, 1024 * 1024 * GiB, bytes);
  if (allowed) return fmt::format("auto, or {}", *allowed);
  out = bytes;
  return {};
}

Allowed boolean(const YamlEntry& entry, bool& out) {
  if (!entry.plain || (entry.text != "true" && entry.text != "false")) return "true or false";
  out = entry.text == "true";
  return {};
}

Allowed text(const YamlEntry& entry, std::size_t shortest, std::size_t longest, std::string& out) {
  const bool printable =
      std::none_of(entry.text.begin(), entry.text.end(), [](char c) { return (c >= 0 && c < ' ') || c == '\x7f'; });
  if (entry.kind != YamlEntry::Kind::scalar || !printable || entry.text.size() < shortest ||
      entry.text.size() > longest) {
    return fmt::format("{} to {} bytes without control characters", shortest, longest);
  }
  out = entry.text;
  return {};
}

Allowed mode(const YamlEntry& entry, std::uint32_t& out) {
  std::uint32_t value = 0;
  const char* const end = entry.text.data() + entry.text.size();
  const auto [rest, error] = std::from_chars(entry.text.data(), end, value, 8);
  // Without the owner's bits the daemon's own user could not connect, and nobody means that.
  if (error != std::errc() || rest != end || value > 0777 || (value & 0600) != 0600) {
    return R"(octal permissions from "0600" to "0777" that let the owner read and write)";
  }
  out = value;
  return {};
}

template <class T, std::size_t N>
Allowed one_of(const YamlEntry& entry, const std::pair<std::string_view, T> (&names)[N], T& out) {
  std::string allowed;
  for (const auto& [name, value] : names) {
    if (entry.text == name) {
      out = value;
      return {};
    }
    allowed += fmt::format("{}{}", allowed.empty() ? "" : ", ", name);
  }
  return allowed;
}

Allowed auto_or(std::span<const std::string_view> names, const YamlEntry& entry, std::string& out) {
  if (entry.text != "auto" && std::find(names.begin(), names.end(), entry.text) == names.end()) {
    return names.empty() ? "auto" : fmt::format("auto, {}", fmt::join(names, ", "));
  }
  out = entry.text;
  return {};
}

Allowed kv_type(const YamlEntry& entry, TensorType& out) {
  return one_of<TensorType>(entry, {{"f16", TensorType::f16}, {"f32", TensorType::f32}, {"q8_0", TensorType::q8_0}},
                            out);
}

Allowed eviction(const YamlEntry& entry, std::string& out) {
  const auto names = policy_names();
  if (std::find(names.begin(), names.end(), entry.text) == names.end())
    return fmt::format("{}", fmt::join(names, ", "));
  out = entry.text;
  return {};
}

Allowed log_level(const YamlEntry& entry, LogLevel& out) {
  return one_of<LogLevel>(entry,
                          {{"trace", LogLevel::trace},
                           {"debug", LogLevel::debug},
                           {"info", LogLevel::info},
                           {"warning", LogLevel::warning},
                           {"error", LogLevel::error}},
                          out);
}

// Every key there is. The upper ends are far above any use; they are there so that sums of them cannot overflow.
std::vector<Key> all_keys(const Choices& choices) {
  using C = Config;
  using E = YamlEntry;
  return {
      {"model.path", [](C& c, const E& e) { return text(e, 0, kMaxPath, c.model.path); }},
      {"model.context", [](C& c, const E& e) { return integer(e, 0, 1 << 24, c.model.context); }},
      {"engine.backend", [choices](C& c, const E& e) { return auto_or(choices.backends, e, c.engine.backend); }},
      {"engine.isa", [choices](C& c, const E& e) { return auto_or(choices.isas, e, c.engine.isa); }},
      {"engine.threads", [](C& c, const E& e) { return integer(e, 0, ThreadPool::kMaxThreads, c.engine.threads); }},
      {"engine.pin_threads", [](C& c, const E& e) { return boolean(e, c.engine.pin_threads); }},
      {"engine.max_rows_per_step", [](C& c, const E& e) { return integer(e, 0, 1 << 16, c.engine.max_rows_per_step); }},
      {"engine.max_running", [](C& c, const E& e) { return integer(e, 1, 1 << 16, c.engine.max_running); }},
      {"engine.max_queued", [](C& c, const E& e) { return integer(e, 1, 1 << 16, c.engine.max_queued); }},
      {"engine.max_queued_per_user",
       [](C& c, const E& e) { return integer(e, 1, 1 << 16, c.engine.max_queued_per_user); }},
      {"engine.max_step_ms", [](C& c, const E& e) { return integer(e, 0, 600'000, c.engine.max_step_ms); }},
      {"memory.budget", [](C& c, const E& e) { return budget(e, c.memory.budget); }},
      {"memory.eviction", [](C& c, const E& e) { return eviction(e, c.memory.eviction); }},
      {"memory.foresight", [](C& c, const E& e) { return boolean(e, c.memory.foresight); }},
      {"memory.hot_set", [](C& c, const E& e) { return text(e, 0, kMaxPath, c.memory.hot_set); }},
      {"memory.headroom", [](C& c, const E& e) { return byte_size(e, 0, 1024 * 1024 * GiB, c.memory.headroom); }},
      {"memory.kv_type", [](C& c, const E& e) { return kv_type(e, c.memory.kv_type); }},
      {"memory.kv_tokens", [](C& c, const E& e) { return integer(e, 0, 1ULL << 32, c.memory.kv_tokens); }},
      {"device.memory", [](C& c, const E& e) { return budget(e, c.device.memory); }},
      {"lossy.skip_below", [](C& c, const E& e) { return fraction(e, c.lossy.skip_below); }},
      {"lossy.substitute", [](C& c, const E& e) { return boolean(e, c.lossy.substitute); }},
      {"server.socket", [](C& c, const E& e) { return text(e, 1, kMaxSocketPath, c.server.socket); }},
      {"server.mode", [](C& c, const E& e) { return mode(e, c.server.mode); }},
      {"server.group", [](C& c, const E& e) { return text(e, 0, kMaxName, c.server.group); }},
      {"server.admin_socket", [](C& c, const E& e) { return text(e, 0, kMaxSocketPath, c.server.admin_socket); }},
      {"server.admin_mode", [](C& c, const E& e) { return mode(e, c.server.admin_mode); }},
      {"server.admin_group", [](C& c, const E& e) { return text(e, 0, kMaxName, c.server.admin_group); }},
      {"server.limits.connections",
       [](C& c, const E& e) { return integer(e, 1, 1 << 16, c.server.limits.connections); }},
      {"server.limits.connections_per_uid",
       [](C& c, const E& e) { return integer(e, 1, 1 << 16, c.server.limits.connections_per_uid); }},
      {"server.limits.in_flight", [](C& c, const E& e) { return integer(e, 1, 1 << 10, c.server.limits.in_flight); }},
      {"server.limits.queued_bytes",
       [](C& c, const E& e) { return byte_size(e, 64 * KiB, 64 * MiB, c.server.limits.queued_bytes); }},
      {"server.limits.hello_timeout_ms",
       [](C& c, const E& e) { return integer(e, 10, 600'000, c.server.limits.hello_timeout_ms); }},
      {"server.limits.frame_timeout_ms",
       [](C& c, const E& e) { return integer(e, 10, 600'000, c.server.limits.frame_timeout_ms); }},
      {"server.limits.flush_timeout_ms",
       [](C& c, const E& e) { return integer(e, 10, 600'000, c.server.limits.flush_timeout_ms); }},
      {"log.level", [](C& c, const E& e) { return log_level(e, c.log.level); }},
      {"log.file", [](C& c, const E& e) { return text(e, 0, kMaxPath, c.log.file); }},
      {"log.prompts", [](C& c, const E& e) { return boolean(e, c.log.prompts); }},
      {"metrics.file", [](C& c, const E& e) { return text(e, 0, kMaxPath, c.metrics.file); }},
      {"metrics.interval_s", [](C& c, const E& e) { return integer(e, 1, 3600, c.metrics.interval_s); }},
  };
}

// The names that may stand in the map `path` (empty: the outermost), in the order of the table; none if it is no map.
std::vector<std::string_view> names_in(const std::vector<Key>& keys, std::string_view path) {
  std::vector<std::string_view> names;
  for (const Key& key : keys) {
    std::string_view rest = key.path;
    if (!path.empty()) {
      if (!rest.starts_with(path) || rest.size() == path.size() || rest[path.size()] != '.') continue;
      rest.remove_prefix(path.size() + 1);
    }
    const std::string_view name = rest.substr(0, rest.find('.'));
    if (std::find(names.begin(), names.end(), name) == names.end()) names.push_back(name);
  }
  return names;
}

// One entry into the configuration, or the error about it.
std::optional<YamlError> apply(const std::vector<Key>& keys, const YamlEntry& entry, Config& config) {
  const auto error = [&entry](YamlPlace place, std::string_view what, std::string_view allowed) {
    return YamlError{place, fmt::format("{}: {}; allowed: {}", entry.path, what, allowed)};
  };
  const auto key = std::find_if(keys.begin(), keys.end(), [&](const Key& k) { return k.path == entry.path; });
  if (key != keys.end()) {
    const Allowed allowed = key->set(config, entry);
    if (!allowed) return {};
    if (entry.kind == YamlEntry::Kind::null) return error(entry.key, "has no value", *allowed);
    if (entry.kind == YamlEntry::Kind::map) return error(entry.key, "is a map", *allowed);
    return error(entry.value, fmt::format("{} is not possible", quoted(entry.text)), *allowed);
  }

  if (const auto names = names_in(keys, entry.path); !names.empty()) {
    if (entry.kind != YamlEntry::Kind::scalar) return {};  // a map with nothing in it keeps the defaults
    return error(entry.value, fmt::format("{} is not a map", quoted(entry.text)),
                 fmt::format("a map of {}", fmt::join(names, ", ")));
  }
  const std::size_t dot = entry.path.rfind('.');
  const auto names = names_in(keys, dot == std::string::npos ? "" : entry.path.substr(0, dot));
  if (names.empty()) return {};  // in a map that was refused itself
  return error(entry.key, "unknown key", fmt::format("{}", fmt::join(names, ", ")));
}

// What no value alone is to blame for.
std::optional<YamlError> check_together(const Config& config, const std::vector<YamlEntry>& entries) {
  const EngineConfig& engine = config.engine;
  if (engine.max_rows_per_step == 0 || engine.max_running <= engine.max_rows_per_step) return {};
  // The defaults agree, so that one of the two is in the file. The later one is the one to look at.
  const auto entry = std::find_if(entries.rbegin(), entries.rend(), [](const YamlEntry& e) {
    return e.path == "engine.max_running" || e.path == "engine.max_rows_per_step";
  });
  return YamlError{entry->value,
                   fmt::format("engine.max_running: {} sequences do not fit in a step of {} rows; allowed: "
                               "at most engine.max_rows_per_step",
                               engine.max_running, engine.max_rows_per_step)};
}

}  // namespace

Result<Config> parse_config(std::string_view text, std::string_view name, const Choices& choices) {
  if (text.size() > kMaxFileBytes) {
    const YamlPlace place = yaml_place(text, kMaxFileBytes);
    return fail(ErrorCode::invalid_argument, "{}:{}:{}: the file goes on beyond {}; a configuration is a page or two",
                name, place.line, place.column, format_bytes(kMaxFileBytes));
  }
  const std::vector<Key> keys = all_keys(choices);
  auto [entries, errors] = read_yaml_entries(text);
  Config config;
  for (const YamlEntry& entry : entries) {
    if (auto error = apply(keys, entry, config)) errors.push_back(*std::move(error));
  }
  if (errors.empty()) {
    if (auto error = check_together(config, entries)) errors.push_back(*std::move(error));
  }
  if (errors.empty()) return config;

  std::stable_sort(errors.begin(), errors.end(), [](const YamlError& a, const YamlError& b) {
    return std::pair(a.place.line, a.place.column) < std::pair(b.place.line, b.place.column);
  });
  std::string message;
  for (const YamlError& error : std::span(errors).first(std::min(errors.size(), kMaxErrors))) {
    fmt::format_to(std::back_inserter(message), "{}{}:{}:{}: {}", message.empty() ? "" : "\n", name, error.place.line,
                   error.place.column, error.message);
  }
  if (errors.size() > kMaxErrors) message += fmt::format("\n{}: and {} more errors", name, errors.size() - kMaxErrors);
  return fail(ErrorCode::invalid_argument, "{}", message);
}

Result<Config> load_config(const std::string& path, const Choices& choices) {
  const auto cannot_read = [&path](int error) {
    return fail(errno_code(error), "{}: cannot read the configuration: {}; name another file with --config", path,
                errno_message(error));
  };
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(path.c_str(), "re"), std::fclose);
  if (!file) return cannot_read(errno);
  std::string text(kMaxFileBytes + 1, '\0');
  text.resize(std::fread(text.data(), 1, text.size(), file.get()));
  if (std::ferror(file.get()) != 0) return cannot_read(errno);
  return parse_config(text, path, choices);
}

}  // namespace sirocco::daemon

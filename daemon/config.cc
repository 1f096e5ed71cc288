#include "daemon/config.h"

#include <sys/un.h>

#include <algorithm>
#include <functional>
#include <iterator>
#include <tuple>
#include <utility>
#include <vector>

#include "daemon/config_values.h"
#include "daemon/quoted.h"
#include "daemon/yaml_entries.h"
#include "engine/base/thread_pool.h"
#include "engine/experts/eviction_policy.h"
#include "ipc/wire/limits.h"

namespace sirocco::daemon {
namespace {

constexpr std::size_t kMaxErrors = 50;                                     // that are written out: more help nobody
constexpr std::size_t kMaxSocketPath = sizeof(sockaddr_un::sun_path) - 1;  // 107 bytes, and the final zero
constexpr std::size_t kMaxPath = 4095;                                     // PATH_MAX without its zero
constexpr std::size_t kMaxName = 31;                                       // of a user or a group, as useradd allows
constexpr float kLeastDuty = 0.05F;                                        // or requests would seem to hang
constexpr std::uint64_t kLeastFrame = 256 * KiB;                           // a StatusReport fits, whatever it lists

struct Key {
  std::string path;  // of a rule for clients: with kAnyRule in the place of its name
  std::function<Allowed(Config&, const YamlEntry&)> set;
};

// An entry, or an error, of one of the files.
struct Sourced {
  std::size_t file = 0;
  YamlEntry entry;
};
struct SourcedError {
  std::size_t file = 0;
  YamlError error;
};

constexpr std::string_view kRules = "clients.rules.";
constexpr std::string_view kAnyRule = "clients.rules.NAME";

Allowed budget(const YamlEntry& entry, std::optional<std::uint64_t>& out) {
  out.reset();
  if (entry.text == "auto") return {};
  std::uint64_t bytes = 0;
  const Allowed allowed = byte_size(entry, 1 * MiB, 1024 * 1024 * GiB, bytes);
  if (allowed) return fmt::format("auto, or {}", *allowed);
  out = bytes;
  return {};
}

Allowed hot_celsius(const YamlEntry& entry, std::optional<std::uint32_t>& out) {
  out.reset();
  if (entry.text == "auto") return {};
  std::uint32_t celsius = 0;
  const Allowed allowed = integer(entry, 30, 150, celsius);
  if (allowed) return fmt::format("auto, or {}", *allowed);
  out = celsius;
  return {};
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

Allowed classes(const YamlEntry& entry, ClientPolicy& out) {
  out.realtime = out.interactive = out.batch = false;
  std::string_view rest = entry.text;
  while (!rest.empty()) {
    const std::size_t end = std::min(rest.find(' '), rest.size());
    const std::string_view name = rest.substr(0, end);
    rest.remove_prefix(std::min(end + 1, rest.size()));
    bool* const known = name == "realtime"      ? &out.realtime
                        : name == "interactive" ? &out.interactive
                        : name == "batch"       ? &out.batch
                                                : nullptr;
    if (known == nullptr || *known) return "some of realtime, interactive and batch, with a space between two";
    *known = true;
  }
  if (!out.realtime && !out.interactive && !out.batch) return "at least one of realtime, interactive and batch";
  return {};
}

// The keys of what some clients may do, which stand below `path`; `of` finds it in the configuration.
template <class Of>
void add_policy_keys(std::vector<Key>& keys, std::string_view path, Of of) {
  using C = Config;
  using E = YamlEntry;
  const auto add = [&](std::string_view name, auto set) {
    keys.push_back({fmt::format("{}.{}", path, name), [of, set](C& c, const E& e) { return set(of(c, e), e); }});
  };
  using P = ClientPolicy;
  add("allowed", [](P& p, const E& e) { return boolean(e, p.allowed); });
  add("classes", [](P& p, const E& e) { return classes(e, p); });
  add("weight", [](P& p, const E& e) { return integer(e, 1, 1000, p.weight); });
  add("connections", [](P& p, const E& e) { return integer(e, 1, 1 << 16, p.connections); });
  add("in_flight_per_connection", [](P& p, const E& e) { return integer(e, 1, 1 << 10, p.in_flight_per_connection); });
  add("in_flight", [](P& p, const E& e) { return integer(e, 1, 1 << 16, p.in_flight); });
  add("max_queued", [](P& p, const E& e) { return integer(e, 1, 1 << 16, p.max_queued); });
  add("tokens_per_minute", [](P& p, const E& e) { return integer(e, 0, 1'000'000'000, p.tokens_per_minute); });
}

bool in_rules(const YamlEntry& entry) {
  return entry.path.starts_with(kRules);
}

// Of an entry that is a rule, or in one: its name, with what follows it from the dot on.
std::pair<std::string_view, std::string_view> rule_and_key(const YamlEntry& entry) {
  const std::string_view path = entry.path;
  const std::size_t dot = std::min(path.find('.', kRules.size()), path.size());
  return {path.substr(kRules.size(), dot - kRules.size()), path.substr(dot)};
}

auto find_rule(Config& config, std::string_view name) {
  auto& rules = config.clients.rules;
  return std::find_if(rules.begin(), rules.end(), [&](const ClientRule& rule) { return rule.name == name; });
}

// Every key there is. The upper ends are far above any use; they are there so that sums of them cannot overflow.
std::vector<Key> all_keys(const Choices& choices) {
  using C = Config;
  using E = YamlEntry;
  std::vector<Key> keys = {
      {"model.path", [](C& c, const E& e) { return text(e, 0, kMaxPath, c.model.path); }},
      {"model.context", [](C& c, const E& e) { return integer(e, 0, 1 << 24, c.model.context); }},
      {"engine.backend", [choices](C& c, const E& e) { return auto_or(choices.backends, e, c.engine.backend); }},
      {"engine.isa", [choices](C& c, const E& e) { return auto_or(choices.isas, e, c.engine.isa); }},
      {"engine.threads", [](C& c, const E& e) { return integer(e, 0, ThreadPool::kMaxThreads, c.engine.threads); }},
      {"engine.pin_threads", [](C& c, const E& e) { return boolean(e, c.engine.pin_threads); }},
      {"engine.max_rows_per_step", [](C& c, const E& e) { return integer(e, 0, 1 << 16, c.engine.max_rows_per_step); }},
      {"engine.max_running", [](C& c, const E& e) { return integer(e, 1, 1 << 16, c.engine.max_running); }},
      {"engine.max_queued", [](C& c, const E& e) { return integer(e, 1, 1 << 16, c.engine.max_queued); }},
      {"engine.max_step_ms", [](C& c, const E& e) { return integer(e, 0, 600'000, c.engine.max_step_ms); }},
      {"engine.idle_after", [](C& c, const E& e) { return duration_or_off(e, c.engine.idle_after_ms); }},
      {"memory.budget", [](C& c, const E& e) { return budget(e, c.memory.budget); }},
      {"memory.eviction", [](C& c, const E& e) { return eviction(e, c.memory.eviction); }},
      {"memory.foresight", [](C& c, const E& e) { return boolean(e, c.memory.foresight); }},
      {"memory.hot_set", [](C& c, const E& e) { return text(e, 0, kMaxPath, c.memory.hot_set); }},
      {"memory.headroom", [](C& c, const E& e) { return byte_size(e, 0, 1024 * 1024 * GiB, c.memory.headroom); }},
      {"memory.kv_type", [](C& c, const E& e) { return kv_type(e, c.memory.kv_type); }},
      {"memory.kv_tokens", [](C& c, const E& e) { return integer(e, 0, 1ULL << 32, c.memory.kv_tokens); }},
      {"memory.kv_swap_directory", [](C& c, const E& e) { return text(e, 0, kMaxPath, c.memory.kv_swap_directory); }},
      {"memory.kv_swap_bytes",
       [](C& c, const E& e) { return byte_size(e, 0, 1024 * 1024 * GiB, c.memory.kv_swap_bytes); }},
      {"device.memory", [](C& c, const E& e) { return budget(e, c.device.memory); }},
      {"device.on_failure",
       [](C& c, const E& e) {
         return one_of<DeviceFailure>(e, {{"cpu", DeviceFailure::cpu}, {"fail", DeviceFailure::fail}},
                                      c.device.on_failure);
       }},
      {"power.max_duty", [](C& c, const E& e) { return number(e, kLeastDuty, 1, c.power.max_duty); }},
      {"power.hot_duty", [](C& c, const E& e) { return number(e, kLeastDuty, 1, c.power.hot_duty); }},
      {"power.hot_celsius", [](C& c, const E& e) { return hot_celsius(e, c.power.hot_celsius); }},
      {"lossy.skip_below", [](C& c, const E& e) { return number(e, 0, 1, c.lossy.skip_below); }},
      {"lossy.substitute", [](C& c, const E& e) { return boolean(e, c.lossy.substitute); }},
      {"cache.share",
       [](C& c, const E& e) {
         return one_of<CacheShare>(e, {{"uid", CacheShare::uid}, {"all", CacheShare::all}, {"off", CacheShare::off}},
                                   c.cache.share);
       }},
      {"sessions.directory", [](C& c, const E& e) { return text(e, 0, kMaxPath, c.sessions.directory); }},
      {"sessions.disk_bytes_per_user",
       [](C& c, const E& e) { return byte_size(e, 0, 1024 * 1024 * GiB, c.sessions.disk_bytes_per_user); }},
      {"sessions.max_per_user", [](C& c, const E& e) { return integer(e, 0, 1 << 16, c.sessions.max_per_user); }},
      {"sessions.kept_tokens_per_user",
       [](C& c, const E& e) { return integer(e, 0, 1ULL << 32, c.sessions.kept_tokens_per_user); }},
      {"server.socket", [](C& c, const E& e) { return text(e, 1, kMaxSocketPath, c.server.socket); }},
      {"server.mode", [](C& c, const E& e) { return mode(e, c.server.mode); }},
      {"server.group", [](C& c, const E& e) { return text(e, 0, kMaxName, c.server.group); }},
      {"server.admin_socket", [](C& c, const E& e) { return text(e, 0, kMaxSocketPath, c.server.admin_socket); }},
      {"server.admin_mode", [](C& c, const E& e) { return mode(e, c.server.admin_mode); }},
      {"server.admin_group", [](C& c, const E& e) { return text(e, 0, kMaxName, c.server.admin_group); }},
      {"server.limits.connections",
       [](C& c, const E& e) { return integer(e, 1, 1 << 16, c.server.limits.connections); }},
      {"server.limits.admin_connections",
       [](C& c, const E& e) { return integer(e, 1, 1 << 10, c.server.limits.admin_connections); }},
      {"server.limits.frame_bytes",
       [](C& c, const E& e) { return byte_size(e, kLeastFrame, wire::kMaxPayload, c.server.limits.frame_bytes); }},
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
      {"log.slow_step_factor", [](C& c, const E& e) { return number(e, 0, 1000, c.log.slow_step_factor); }},
      {"log.slow_step_ms", [](C& c, const E& e) { return integer(e, 0, 600'000, c.log.slow_step_ms); }},
      {"metrics.file", [](C& c, const E& e) { return text(e, 0, kMaxPath, c.metrics.file); }},
      {"metrics.interval_s", [](C& c, const E& e) { return integer(e, 1, 3600, c.metrics.interval_s); }},
  };
  add_policy_keys(keys, "clients.default", [](C& c, const E&) -> ClientPolicy& { return c.clients.others; });
  const auto rule = [](C& c, const E& e) -> ClientRule& { return *find_rule(c, rule_and_key(e).first); };
  const std::string any(kAnyRule);
  keys.push_back({any + ".user", [rule](C& c, const E& e) { return text(e, 1, kMaxName, rule(c, e).user); }});
  keys.push_back({any + ".group", [rule](C& c, const E& e) { return text(e, 1, kMaxName, rule(c, e).group); }});
  add_policy_keys(keys, any, [rule](C& c, const E& e) -> ClientPolicy& { return rule(c, e).policy; });
  return keys;
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

// The entry's path, with kAnyRule in the place of a rule and its name.
std::string path_of_key(const YamlEntry& entry) {
  return in_rules(entry) ? std::string(kAnyRule).append(rule_and_key(entry).second) : entry.path;
}

// One entry into the configuration, over what is there; or the error about it.
std::optional<YamlError> apply(const std::vector<Key>& keys, const YamlEntry& entry, Config& config) {
  const std::string path = path_of_key(entry);
  if (path == kAnyRule && entry.kind != YamlEntry::Kind::scalar) {
    const std::string name(rule_and_key(entry).first);
    if (find_rule(config, name) == config.clients.rules.end())
      config.clients.rules.push_back({.name = name, .user = {}, .group = {}, .policy = config.clients.others});
  }
  const auto error = [&entry](YamlPlace place, std::string_view what, std::string_view allowed) {
    return YamlError{place, fmt::format("{}: {}; allowed: {}", entry.path, what, allowed)};
  };
  const auto key = std::find_if(keys.begin(), keys.end(), [&](const Key& k) { return k.path == path; });
  if (key != keys.end()) {
    const Allowed allowed = key->set(config, entry);
    if (!allowed) return {};
    if (entry.kind == YamlEntry::Kind::null) return error(entry.key, "has no value", *allowed);
    if (entry.kind == YamlEntry::Kind::map) return error(entry.key, "is a map", *allowed);
    return error(entry.value, fmt::format("{} is not possible", in_quotes(entry.text)), *allowed);
  }

  if (const auto names = names_in(keys, path); !names.empty()) {
    if (entry.kind != YamlEntry::Kind::scalar) return {};  // a map with nothing in it keeps the defaults
    return error(entry.value, fmt::format("{} is not a map", in_quotes(entry.text)),
                 fmt::format("a map of {}", fmt::join(names, ", ")));
  }
  const std::size_t dot = path.rfind('.');
  const auto names = names_in(keys, dot == std::string::npos ? "" : path.substr(0, dot));
  if (names.empty()) return {};  // in a map that was refused itself
  return error(entry.key, "unknown key", fmt::format("{}", fmt::join(names, ", ")));
}

// A rule that names nobody would fit everybody, and end the list.
std::optional<SourcedError> check_rules(const Config& config, const std::vector<Sourced>& entries) {
  for (const ClientRule& rule : config.clients.rules) {
    if (!rule.user.empty() || !rule.group.empty()) continue;
    const auto found = std::find_if(entries.begin(), entries.end(), [&](const Sourced& e) {
      return in_rules(e.entry) && rule_and_key(e.entry).first == rule.name;
    });
    return SourcedError{
        found->file,
        {found->entry.key, fmt::format("{}: says nobody whom it is for; allowed: with user, group or both; what is "
                                       "for all others stands in clients.default",
                                       found->entry.path)}};
  }
  return {};
}

// What no value alone is to blame for.
std::optional<SourcedError> check_together(const Config& config, const std::vector<Sourced>& entries) {
  const EngineConfig& engine = config.engine;
  if (engine.max_rows_per_step == 0 || engine.max_running <= engine.max_rows_per_step) return {};
  // The defaults agree, so that one of the two is in a file. The later one is the one to look at.
  const auto found = std::find_if(entries.rbegin(), entries.rend(), [](const Sourced& e) {
    return e.entry.path == "engine.max_running" || e.entry.path == "engine.max_rows_per_step";
  });
  return SourcedError{
      found->file,
      {found->entry.value, fmt::format("engine.max_running: {} sequences do not fit in a step of {} rows; allowed: "
                                       "at most engine.max_rows_per_step",
                                       engine.max_running, engine.max_rows_per_step)}};
}

// All of them, a line each, in the order of the files.
std::string message_of(std::vector<SourcedError> errors, std::span<const ConfigText> files) {
  std::stable_sort(errors.begin(), errors.end(), [](const SourcedError& a, const SourcedError& b) {
    return std::tuple(a.file, a.error.place.line, a.error.place.column) <
           std::tuple(b.file, b.error.place.line, b.error.place.column);
  });
  std::string message;
  for (const auto& [file, error] : std::span(errors).first(std::min(errors.size(), kMaxErrors))) {
    fmt::format_to(std::back_inserter(message), "{}{}:{}:{}: {}", message.empty() ? "" : "\n", files[file].name,
                   error.place.line, error.place.column, error.message);
  }
  if (errors.size() > kMaxErrors)
    message += fmt::format("\n{}: and {} more errors", files[errors[kMaxErrors].file].name, errors.size() - kMaxErrors);
  return message;
}

// Entries and errors of one file, after those before it.
void read_entries(std::span<const ConfigText> files, std::size_t file, std::vector<Sourced>& entries,
                  std::vector<SourcedError>& errors) {
  const std::string& text = files[file].text;
  if (text.size() > kMaxConfigBytes) {
    errors.push_back(
        {file,
         {yaml_place(text, kMaxConfigBytes),
          fmt::format("the file goes on beyond {}; a configuration is a page or two", format_bytes(kMaxConfigBytes))}});
    return;
  }
  auto [read, wrong] = read_yaml_entries(text);
  for (YamlEntry& entry : read) entries.push_back({file, std::move(entry)});
  for (YamlError& error : wrong) errors.push_back({file, std::move(error)});
}

}  // namespace

Result<Config> parse_config(std::span<const ConfigText> files, const Choices& choices) {
  std::vector<Sourced> entries;
  std::vector<SourcedError> errors;
  for (std::size_t file = 0; file < files.size(); ++file) read_entries(files, file, entries, errors);
  // A rule for clients begins as the default is, wherever that stands.
  std::stable_partition(entries.begin(), entries.end(), [](const Sourced& e) { return !in_rules(e.entry); });
  const std::vector<Key> keys = all_keys(choices);
  Config config;
  for (const auto& [file, entry] : entries) {
    if (auto error = apply(keys, entry, config)) errors.push_back({file, *std::move(error)});
  }
  if (errors.empty()) {
    if (auto error = check_together(config, entries)) errors.push_back(*std::move(error));
    if (auto error = check_rules(config, entries)) errors.push_back(*std::move(error));
  }
  if (errors.empty()) return config;
  return fail(ErrorCode::invalid_argument, "{}", message_of(std::move(errors), files));
}

}  // namespace sirocco::daemon

#include "daemon/check_config.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <grp.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <optional>

namespace sirocco::daemon {
namespace {

std::optional<std::string> group_problem(std::string_view key, const std::string& name) {
  if (name.empty() || getgrnam(name.c_str()) != nullptr) return std::nullopt;
  return fmt::format("{}: there is no group \"{}\": create it (groupadd --system {})", key, name, name);
}

std::optional<std::string> model_problem(const std::string& path) {
  if (path.empty()) return std::nullopt;
  const int descriptor = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (descriptor < 0) return fmt::format("model.path: {}: {}", path, errno_message(errno));
  struct stat found = {};
  const bool file = fstat(descriptor, &found) == 0 && S_ISREG(found.st_mode);
  close(descriptor);
  return file ? std::nullopt : std::optional(fmt::format("model.path: {}: is no file", path));
}

// Of a file or folder that the daemon makes.
std::optional<std::string> folder_problem(std::string_view key, const std::string& path) {
  if (path.empty() || path == "auto") return std::nullopt;
  const std::filesystem::path folder = std::filesystem::absolute(path).parent_path();
  struct stat found = {};
  if (stat(folder.c_str(), &found) != 0)
    return fmt::format("{}: {}: its folder {}: {}", key, path, folder.string(), errno_message(errno));
  if (S_ISDIR(found.st_mode)) return std::nullopt;
  return fmt::format("{}: {}: {} is no folder", key, path, folder.string());
}

}  // namespace

std::vector<std::string> problems_of(const Config& config) {
  std::vector<std::string> problems;
  const auto add = [&](std::optional<std::string> problem) {
    if (problem) problems.push_back(*std::move(problem));
  };
  add(model_problem(config.model.path));
  add(folder_problem("memory.hot_set", config.memory.hot_set));
  add(folder_problem("sessions.directory", config.sessions.directory));
  add(group_problem("server.group", config.server.group));
  add(group_problem("server.admin_group", config.server.admin_group));
  for (const ClientRule& rule : config.clients.rules) {
    const auto resolved = ClientPolicies::resolve({.others = config.clients.others, .rules = {rule}});
    if (!resolved) problems.push_back(resolved.error().message());
  }
  add(folder_problem("log.file", config.log.file));
  add(folder_problem("metrics.file", config.metrics.file));
  return problems;
}

}  // namespace sirocco::daemon

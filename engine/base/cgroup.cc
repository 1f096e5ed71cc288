#include "engine/base/cgroup.h"

#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <fstream>
#include <functional>
#include <sstream>
#include <string>
#include <string_view>

namespace sirocco {
namespace {

namespace fs = std::filesystem;

std::optional<std::string> first_line(const fs::path& file) {
  std::ifstream in(file);
  std::string line;
  if (!in || !std::getline(in, line)) return std::nullopt;
  return line;
}

std::optional<std::uint64_t> number(std::string_view text) {
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end == text.data()) return std::nullopt;
  return value;
}

// "Key:   123 kB" lines of /proc, or "key 123" lines of memory.stat.
std::optional<std::uint64_t> field(const fs::path& file, std::string_view key) {
  std::ifstream in(file);
  for (std::string line; std::getline(in, line);) {
    std::istringstream words(line);
    std::string name;
    std::uint64_t value = 0;
    if (words >> name >> value && name == key) return value;
  }
  return std::nullopt;
}

// The folder of this process's group in the v2 hierarchy (controller empty) or of one v1 controller.
struct Group {
  fs::path root;
  fs::path path;
};
std::optional<Group> group(std::string_view controller, const CgroupView& view = {}) {
  std::ifstream in(view.root / "proc" / view.process / "cgroup");
  for (std::string line; std::getline(in, line);) {
    // hierarchy-id:controllers:path
    const auto first = line.find(':');
    const auto second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) continue;
    const std::string controllers = "," + line.substr(first + 1, second - first - 1) + ",";
    const std::string path = line.substr(second + 1);
    if (controller.empty() ? controllers != ",,"
                           : controllers.find("," + std::string(controller) + ",") == std::string::npos)
      continue;
    fs::path root = view.root / "sys/fs/cgroup";
    if (!controller.empty()) root /= controller;
    if (controller.empty() && !fs::exists(root / "cgroup.controllers") && fs::exists(root / "unified"))
      root /= "unified";
    std::error_code ignored;
    fs::path full = root / fs::path(path).relative_path();
    // In a container the path is that of the host; the container sees its own group at the root.
    if (!fs::exists(full, ignored)) full = root;
    return Group{root, full};
  }
  return std::nullopt;
}

// Calls `visit` for the group and each of its parents.
void upwards(const Group& group, const std::function<void(const fs::path&)>& visit) {
  for (fs::path at = group.path;; at = at.parent_path()) {
    visit(at);
    if (at == group.root || at == at.parent_path()) return;
  }
}

constexpr std::uint64_t kUnlimited = std::uint64_t{1} << 60;  // v1 writes a huge number for "none"

struct TightestGroup {
  MemoryStatus status;
  fs::path folder;

  void consider(const fs::path& at, std::optional<std::uint64_t> limit, std::uint64_t used) {
    if (folder.empty()) folder = at;
    if (!limit || *limit >= kUnlimited) return;
    if (status.cgroup_limit && *limit >= *status.cgroup_limit) return;
    status.cgroup_limit = limit;
    status.cgroup_used = used;
    folder = at;
  }
};

TightestGroup tightest_group(const CgroupView& view = {}) {
  TightestGroup tightest;
  if (const auto v2 = group("", view)) {
    upwards(*v2, [&](const fs::path& at) {
      const auto used = number(first_line(at / "memory.current").value_or("")).value_or(0);
      const auto cache = field(at / "memory.stat", "file").value_or(0);
      tightest.consider(at, number(first_line(at / "memory.max").value_or("max")), used - std::min(used, cache));
    });
  }
  if (const auto v1 = group("memory", view)) {
    tightest.folder.clear();  // then v2 has no memory controller
    upwards(*v1, [&](const fs::path& at) {
      const auto used = number(first_line(at / "memory.usage_in_bytes").value_or("0")).value_or(0);
      const auto cache = field(at / "memory.stat", "total_cache").value_or(0);
      tightest.consider(at, number(first_line(at / "memory.limit_in_bytes").value_or("")),
                        used - std::min(used, cache));
    });
  }
  return tightest;
}

}  // namespace

std::optional<double> cgroup_cpu_quota() {
  std::optional<double> quota;
  const auto take = [&](double value) { quota = quota ? std::min(*quota, value) : value; };
  if (const auto v2 = group("")) {
    upwards(*v2, [&](const fs::path& at) {
      std::istringstream words(first_line(at / "cpu.max").value_or("max"));
      double limit = 0;
      double period = 0;
      if (words >> limit >> period && period > 0) take(limit / period);
    });
  }
  if (const auto v1 = group("cpu")) {
    upwards(*v1, [&](const fs::path& at) {
      const auto limit = number(first_line(at / "cpu.cfs_quota_us").value_or("-1"));
      const auto period = number(first_line(at / "cpu.cfs_period_us").value_or("0"));
      if (limit && period && *period > 0) take(static_cast<double>(*limit) / static_cast<double>(*period));
    });
  }
  return quota;
}

MemoryStatus memory_status(const CgroupView& view) {
  MemoryStatus status = tightest_group(view).status;
  const fs::path meminfo = view.root / "proc/meminfo";
  status.total = field(meminfo, "MemTotal:").value_or(0) * 1024;
  status.available = field(meminfo, "MemAvailable:").value_or(0) * 1024;
  return status;
}

int memory_cgroup_version(const CgroupView& view) {
  if (group("memory", view)) return 1;
  std::error_code ignored;
  const auto v2 = group("", view);
  return v2 && fs::exists(v2->path / "memory.max", ignored) ? 2 : 0;
}

std::string memory_cgroup() {
  return tightest_group().folder.string();
}

std::uint64_t MemoryStatus::free() const {
  if (!cgroup_limit) return available;
  return std::min(available, *cgroup_limit - std::min(*cgroup_limit, cgroup_used));
}

std::uint64_t resident_bytes() {
  std::ifstream in("/proc/self/statm");
  std::uint64_t total = 0;
  std::uint64_t resident = 0;
  in >> total >> resident;
  return resident * static_cast<std::uint64_t>(sysconf(_SC_PAGESIZE));
}

}  // namespace sirocco

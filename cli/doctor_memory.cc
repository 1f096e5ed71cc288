#include <fstream>
#include <sstream>

#include "cli/doctor_checks.h"
#include "engine/base/bytes.h"

namespace sirocco {
namespace {

constexpr std::uint64_t kLittleMemory = 1 * GiB;  // for a small model and its conversations
constexpr std::uint64_t kLittleLocked = 1 * GiB;

}  // namespace

Finding check_cgroup(const CgroupView& view) {
  const int version = memory_cgroup_version(view);
  if (version == 0) return finding_ok("cgroup", "no memory limit by a control group");
  const MemoryStatus status = memory_status(view);
  if (!status.cgroup_limit) return finding_ok("cgroup", fmt::format("v{}, no memory limit", version));
  const std::string found = fmt::format("v{}, memory limit {}, {} of it used", version,
                                        format_bytes(*status.cgroup_limit), format_bytes(status.cgroup_used));
  if (*status.cgroup_limit < kLittleMemory)
    return finding_warning("cgroup", found, "few models fit in that: raise MemoryMax= of the unit or the container");
  return finding_ok("cgroup", found);
}

Finding check_memory(const CgroupView& view) {
  const MemoryStatus status = memory_status(view);
  if (status.total == 0)
    return finding_error("memory", "/proc/meminfo cannot be read",
                         "the memory budget is made from it: let the daemon see it (no ProcSubset=pid)");
  const std::string found =
      fmt::format("{} available of {}", format_bytes(status.available), format_bytes(status.total));
  if (status.available < kLittleMemory)
    return finding_warning("memory", found, "end what needs it, or set memory.budget and try `sirocco model fit`");
  return finding_ok("memory", found);
}

Finding check_locked_memory(const std::filesystem::path& limits, std::string_view whose) {
  constexpr std::string_view kKey = "Max locked memory";
  std::ifstream in(limits);
  for (std::string line; std::getline(in, line);) {
    if (!line.starts_with(kKey)) continue;
    std::istringstream words(line.substr(kKey.size()));
    std::string soft;
    words >> soft;
    if (soft == "unlimited") return finding_ok("locked memory", fmt::format("{} is unlimited", whose));
    std::uint64_t bytes = 0;
    std::istringstream(soft) >> bytes;
    const std::string found = fmt::format("{} limit is {}", whose, format_bytes(bytes));
    if (bytes >= kLittleLocked) return finding_ok("locked memory", found);
    return finding_warning(
        "locked memory", found,
        "weights in memory may be swapped out: LimitMEMLOCK=infinity in the unit, `ulimit -l unlimited` "
        "in a shell, --ulimit memlock=-1 for a container");
  }
  return finding_warning("locked memory", fmt::format("{}: cannot be read", limits.string()),
                         "look at it as root: whether weights can be locked in memory is not known");
}

}  // namespace sirocco

// What the control groups (v1 and v2) that this process is in allow it, and what the machine has. A limit counts
// wherever it is set on the way from the process's group to the root.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>

namespace sirocco {

// Whose limits: this process's, unless told otherwise.
struct CgroupView {
  std::filesystem::path root = "/";  // where /proc and /sys are
  std::string process = "self";      // a folder of /proc
};

// CPUs' worth of time per period, for example 1.5; nothing if unlimited.
std::optional<double> cgroup_cpu_quota();

struct MemoryStatus {
  std::uint64_t total = 0;                    // of the machine, bytes
  std::uint64_t available = 0;                // MemAvailable, bytes
  std::optional<std::uint64_t> cgroup_limit;  // the tightest, bytes; nothing if unlimited
  std::uint64_t cgroup_used = 0;              // in the group with that limit, page cache not counted

  // What may still be allocated without meeting either limit.
  std::uint64_t free() const;
};

MemoryStatus memory_status(const CgroupView& view = {});

// 2 where the memory of the process is limited by a v2 hierarchy, 1 by a v1 controller, 0: by none.
int memory_cgroup_version(const CgroupView& view = {});

// Folder of the cgroup with the tightest limit on memory, or of this process's own where there is none; empty without
// cgroups.
std::string memory_cgroup();

// Resident set size of this process, bytes.
std::uint64_t resident_bytes();

}  // namespace sirocco

// Which CPUs are worth a thread of a step, where a processor has fast and slow cores.
#pragma once

#include <filesystem>
#include <span>
#include <vector>

namespace sirocco {

// Of `cpus`, those whose capacity (cpuN/cpu_capacity under `sysfs`, which Linux has where cores differ) is at least
// half of the largest: a step would wait for a slow core's last chunk. All of them where nothing is said. Hardware
// threads that share a core all count: in a virtual machine what is said of that is fiction, and half the speed would
// be lost.
std::vector<int> fast_cpus(std::span<const int> cpus, const std::filesystem::path& sysfs = "/sys/devices/system/cpu");

}  // namespace sirocco

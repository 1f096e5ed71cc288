#include "engine/base/fast_cpus.h"

#include <algorithm>
#include <cstdint>
#include <fstream>
#include <string>

namespace sirocco {

std::vector<int> fast_cpus(std::span<const int> cpus, const std::filesystem::path& sysfs) {
  std::vector<std::uint32_t> capacities;
  for (const int cpu : cpus) {
    std::ifstream file(sysfs / ("cpu" + std::to_string(cpu)) / "cpu_capacity");
    std::uint32_t capacity = 0;
    if (!(file >> capacity) || capacity == 0) return {cpus.begin(), cpus.end()};
    capacities.push_back(capacity);
  }
  const std::uint32_t largest = cpus.empty() ? 0 : *std::max_element(capacities.begin(), capacities.end());
  std::vector<int> fast;
  for (std::size_t i = 0; i < cpus.size(); ++i)
    if (capacities[i] >= largest / 2) fast.push_back(cpus[i]);
  return fast;
}

}  // namespace sirocco

// How warm the machine is: the thermal zones that the kernel reports (/sys/class/thermal), those of a Jetson, too.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace sirocco {

struct ThermalZone {
  std::string name;  // the driver's: "x86_pkg_temp", "gpu-thermal"
  double celsius = 0;
  // From here on the kernel slows something down to cool it: the zone's lowest trip point of the type passive or hot,
  // from 60 degrees on. Nothing: it has none.
  std::optional<double> slows_at;
};

// In order of their numbers. Left out: sensors that are off (a GPU's that sleeps), and values that no machine has.
std::vector<ThermalZone> thermal_zones(const std::filesystem::path& sys = "/sys");

}  // namespace sirocco

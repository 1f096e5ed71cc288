#include "engine/base/thermal.h"

#include <algorithm>
#include <fstream>
#include <utility>

namespace sirocco {
namespace {

namespace fs = std::filesystem;

constexpr int kMaxZones = 256;
constexpr int kMaxTrips = 32;
// A sensor that is off reads as 0 K, or as a huge number.
constexpr double kColdest = -60;
constexpr double kHottest = 250;
// A trip point that is lower belongs to a battery or a case that a hand holds, and says nothing about what computes; or
// it is not set.
constexpr double kLeastTrip = 60;

// Millidegrees in a file. Reading fails where the sensor sleeps.
std::optional<double> celsius_in(const fs::path& file) {
  std::ifstream in(file);
  long value = 0;
  if (!(in >> value)) return std::nullopt;
  const double celsius = static_cast<double>(value) / 1000;
  return celsius < kColdest || celsius > kHottest ? std::nullopt : std::optional(celsius);
}

std::string word_in(const fs::path& file) {
  std::ifstream in(file);
  std::string word;
  in >> word;
  return word;
}

std::optional<double> slows_at(const fs::path& zone) {
  std::optional<double> lowest;
  for (int i = 0; i < kMaxTrips; ++i) {
    const std::string trip = "trip_point_" + std::to_string(i);
    const std::string type = word_in(zone / (trip + "_type"));
    if (type.empty()) break;
    if (type != "passive" && type != "hot") continue;
    const auto at = celsius_in(zone / (trip + "_temp"));
    if (!at || *at < kLeastTrip) continue;
    lowest = std::min(lowest.value_or(*at), *at);
  }
  return lowest;
}

}  // namespace

std::vector<ThermalZone> thermal_zones(const fs::path& sys) {
  std::vector<ThermalZone> zones;
  for (int i = 0; i < kMaxZones; ++i) {
    const fs::path folder = sys / "class/thermal" / ("thermal_zone" + std::to_string(i));
    std::error_code ignored;
    if (!fs::exists(folder, ignored)) continue;  // numbers of zones that went away are not used again
    const auto celsius = celsius_in(folder / "temp");
    if (!celsius) continue;
    std::string name = word_in(folder / "type");
    zones.push_back({.name = name.empty() ? folder.filename().string() : std::move(name),
                     .celsius = *celsius,
                     .slows_at = slows_at(folder)});
  }
  return zones;
}

}  // namespace sirocco

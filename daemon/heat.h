// What the machine's temperature does to the engine's pace. The decision is a pure function with hysteresis; HeatWatch
// reads the thermal zones every few seconds while there are requests, and hardly ever else. Main thread only.
#pragma once

#include <chrono>
#include <filesystem>
#include <optional>
#include <span>
#include <string>

#include "daemon/config.h"
#include "engine/base/thermal.h"
#include "engine/pace.h"

namespace sirocco::daemon {

struct Heat {
  bool hot = false;
  std::string since;  // what it became hot by; stays the same until it no longer is
  std::string zone;   // closest to its limit, or the warmest if none has one; empty: there is none
  double celsius = 0;
  std::optional<double> limit;
};

// Degrees below the limit from which on it is no longer hot: else the pace would change with every look.
inline constexpr double kCooler = 5;

// Hot from a zone's limit on (power.hot_celsius, or where the kernel slows it), until all zones are kCooler below it.
Heat judge_heat(const Heat& before, std::span<const ThermalZone> zones, const PowerConfig& config);

Pace pace_of(const Heat& heat, const PowerConfig& config);

class HeatWatch {
 public:
  static constexpr std::chrono::seconds kInterval{2};
  // Without requests nothing of ours makes it warm: for status alone, about as often as the watchdog wakes up.
  static constexpr std::chrono::seconds kIdleInterval{60};

  explicit HeatWatch(std::filesystem::path sys = "/sys") : sys_(std::move(sys)) {}

  // Looks at the zones, unless it did so less than the interval ago. busy: there are requests.
  Pace pace(const PowerConfig& config, bool busy, std::chrono::steady_clock::time_point now);
  // Until the next look is due; negative: never, there are no zones.
  std::chrono::milliseconds until_due(bool busy, std::chrono::steady_clock::time_point now) const;

 private:
  std::filesystem::path sys_;
  Heat heat_;
  std::optional<std::chrono::steady_clock::time_point> looked_;
};

}  // namespace sirocco::daemon

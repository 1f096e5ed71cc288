#include "daemon/heat.h"

#include <algorithm>

namespace sirocco::daemon {
namespace {

std::optional<double> limit_of(const ThermalZone& zone, const PowerConfig& config) {
  return config.hot_celsius ? std::optional<double>(*config.hot_celsius) : zone.slows_at;
}

}  // namespace

Heat judge_heat(const Heat& before, std::span<const ThermalZone> zones, const PowerConfig& config) {
  Heat heat;
  for (const ThermalZone& zone : zones) {
    const auto limit = limit_of(zone, config);
    const bool closer = heat.zone.empty() || (limit && !heat.limit) ||
                        (limit && heat.limit && zone.celsius - *limit > heat.celsius - *heat.limit) ||
                        (!limit && !heat.limit && zone.celsius > heat.celsius);
    if (closer) heat = {.hot = false, .since = {}, .zone = zone.name, .celsius = zone.celsius, .limit = limit};
  }
  if (heat.limit) heat.hot = heat.celsius >= *heat.limit - (before.hot ? kCooler : 0);
  if (heat.hot)
    heat.since = before.hot ? before.since
                            : fmt::format("{} has reached {:.0f} °C, its limit is {:.0f} °C", heat.zone, heat.celsius,
                                          *heat.limit);
  return heat;
}

Pace pace_of(const Heat& heat, const PowerConfig& config) {
  Pace pace = {.duty = config.max_duty,
               .reason = {},
               .zone = heat.zone,
               .celsius = heat.celsius,
               .limit_celsius = heat.limit.value_or(0)};
  if (!heat.hot) return pace;
  pace.duty = std::min(config.max_duty, config.hot_duty);
  pace.reason =
      fmt::format("the machine is hot ({}): steps take at most {:.0f} % of the time (power.hot_duty); cool it",
                  heat.since, 100 * pace.duty);
  return pace;
}

Pace HeatWatch::pace(const PowerConfig& config, bool busy, std::chrono::steady_clock::time_point now) {
  if (!looked_ || now - *looked_ >= (busy ? kInterval : kIdleInterval)) {
    looked_ = now;
    heat_ = judge_heat(heat_, thermal_zones(sys_), config);
  }
  return pace_of(heat_, config);
}

std::chrono::milliseconds HeatWatch::until_due(bool busy, std::chrono::steady_clock::time_point now) const {
  if (looked_ && heat_.zone.empty()) return std::chrono::milliseconds(-1);
  if (!looked_) return std::chrono::milliseconds(0);
  const auto due = *looked_ + (busy ? kInterval : kIdleInterval);
  return std::max(std::chrono::ceil<std::chrono::milliseconds>(due - now), std::chrono::milliseconds(0));
}

}  // namespace sirocco::daemon

#include <fstream>
#include <iterator>
#include <regex>

#include "cli/doctor_checks.h"

namespace sirocco {
namespace {

namespace fs = std::filesystem;

std::string text_in(const fs::path& file) {
  std::ifstream in(file);
  return {std::istreambuf_iterator<char>(in), {}};
}

std::string zone_text(const ThermalZone& zone) {
  return fmt::format("{} {:.0f} °C{}", zone.name, zone.celsius,
                     zone.slows_at ? fmt::format(" (slows at {:.0f})", *zone.slows_at) : "");
}

}  // namespace

Finding check_heat(std::span<const ThermalZone> zones) {
  if (zones.empty()) return finding_ok("temperature", "this machine has no thermal zones to look at");
  std::vector<std::string> all;
  std::vector<std::string> hot;
  for (const ThermalZone& zone : zones) {
    all.push_back(zone_text(zone));
    if (zone.slows_at && zone.celsius >= *zone.slows_at) hot.push_back(zone.name);
  }
  const std::string found = fmt::format("{}", fmt::join(all, ", "));
  if (hot.empty()) return finding_ok("temperature", found);
  return finding_warning("temperature", found,
                         fmt::format("{} is too hot, the kernel slows the machine down: cool it; meanwhile steps take "
                                     "power.hot_duty of the time",
                                     fmt::join(hot, ", ")));
}

std::optional<Finding> check_power_mode(const fs::path& root) {
  static const std::regex mode(R"(pmode:(\d+))");
  std::smatch found;
  if (const std::string status = text_in(root / "var/lib/nvpmodel/status"); std::regex_search(status, found, mode)) {
    const int id = std::stoi(found[1]);
    const std::string table = text_in(root / "etc/nvpmodel.conf");
    const std::regex name(fmt::format(R"(POWER_MODEL\s+ID=0*{}\s+NAME=(\S+))", id));
    std::smatch named;
    const std::string what = std::regex_search(table, named, name) ? named[1].str() : fmt::format("mode {}", id);
    return finding_ok("power mode", fmt::format("{} (`nvpmodel -q`; MAXN is the fastest)", what));
  }
  std::string profile = text_in(root / "sys/firmware/acpi/platform_profile");
  if (profile.empty()) return std::nullopt;
  while (!profile.empty() && profile.back() == '\n') profile.pop_back();
  if (profile == "low-power" || profile == "quiet" || profile == "cool")
    return finding_warning("power mode", fmt::format("the platform profile is {}", profile),
                           "the processor is slowed down: echo balanced > /sys/firmware/acpi/platform_profile");
  return finding_ok("power mode", fmt::format("the platform profile is {}", profile));
}

}  // namespace sirocco

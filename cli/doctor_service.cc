#include <unistd.h>

#include <cerrno>
#include <sstream>

#include "cli/child_process.h"
#include "cli/daemon_config.h"
#include "cli/doctor_checks.h"

namespace sirocco {
namespace {

namespace fs = std::filesystem;

std::string value(const std::map<std::string, std::string>& properties, const std::string& key) {
  const auto found = properties.find(key);
  return found == properties.end() ? "" : found->second;
}

}  // namespace

std::map<std::string, std::string> parse_properties(std::string_view text) {
  std::map<std::string, std::string> properties;
  std::istringstream lines{std::string(text)};
  for (std::string line; std::getline(lines, line);) {
    const auto equals = line.find('=');
    if (equals != std::string::npos) properties[line.substr(0, equals)] = line.substr(equals + 1);
  }
  return properties;
}

std::map<std::string, std::string> unit_properties() {
  std::error_code error;
  if (!fs::exists("/run/systemd/system", error)) return {};  // systemd is not what runs this system (sd_booted)
  const auto ended = run_program({"systemctl", "show", "sirocco.service", "--property",
                                  "LoadState,ActiveState,SubState,UnitFileState,MainPID,Result,StatusText"});
  return ended && ended->code == 0 ? parse_properties(ended->output) : std::map<std::string, std::string>{};
}

Finding check_unit(const std::map<std::string, std::string>& properties) {
  if (properties.empty()) return finding_ok("service", "no systemd here: the daemon is started by other means");
  if (value(properties, "LoadState") == "not-found")
    return finding_warning("service", "sirocco.service is not installed",
                           "install the package siroccod, or start the daemon by hand: siroccod --config FILE");
  if (value(properties, "LoadState") != "loaded")
    return finding_error("service", fmt::format("sirocco.service is {}", value(properties, "LoadState")),
                         "systemctl status sirocco says why");
  const std::string active = value(properties, "ActiveState");
  const std::string file = value(properties, "UnitFileState");
  const std::string found = fmt::format("sirocco.service is {} ({}), {}", active, value(properties, "SubState"), file);
  if (active == "failed")
    return finding_error("service", fmt::format("{}: {}", found, value(properties, "Result")),
                         "journalctl -u sirocco -e says why; then systemctl restart sirocco");
  if (active != "active" && active != "activating" && active != "reloading")
    return finding_warning("service", found, "systemctl enable --now sirocco");
  if (file == "disabled")
    return finding_warning("service", found, "it will not start with the machine: systemctl enable sirocco");
  return finding_ok("service", found);
}

Finding check_config(const fs::path& config, const SystemUser& user) {
  std::error_code error;
  if (!fs::exists(config, error) && !error)
    return finding_ok("configuration", fmt::format("{} is not there: the defaults hold", config.string()));
  if (access(config.c_str(), R_OK) != 0 && errno == EACCES)
    return finding_warning("configuration", fmt::format("{} is not for you to look at", config.string()),
                           "look as root: sudo sirocco doctor");
  if (const auto why = why_not_readable(config, user))
    return finding_error("configuration", fmt::format("{} cannot be read by {}: {}", config.string(), user.name, *why),
                         fmt::format("chmod o+r {}, and o+x its folder", config.string()));
  const auto ended = check_config_with_daemon(config);
  if (!ended)
    return finding_ok("configuration", fmt::format("{} can be read by {} (no siroccod here that could check it)",
                                                   config.string(), user.name));
  if (ended->code != 0)
    return finding_error("configuration", ended->output, "mend these lines; siroccod --check-config looks again");
  return finding_ok("configuration", fmt::format("{} is valid", config.string()));
}

}  // namespace sirocco

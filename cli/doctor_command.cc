// sirocco doctor: what is right with this machine and the daemon, what is not, and what to do about it.
#include <fmt/format.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <memory>
#include <nlohmann/json.hpp>

#include "cli/client_commands.h"
#include "cli/daemon_config.h"
#include "cli/doctor_checks.h"
#include "cli/doctor_report.h"
#include "cli/model_folder.h"
#include "cli/option_values.h"
#include "cli/output.h"
#include "cli/request_options.h"
#include "engine/engine.h"

namespace sirocco {
namespace {

namespace fs = std::filesystem;

struct DoctorOptions {
  std::string socket;
  std::string model;
  std::string config_folder = kConfigFolder;
  bool json = false;
};

std::vector<gid_t> process_groups() {
  std::vector<gid_t> groups(static_cast<std::size_t>(std::max(getgroups(0, nullptr), 0)));
  groups.resize(static_cast<std::size_t>(std::max(getgroups(static_cast<int>(groups.size()), groups.data()), 0)));
  groups.push_back(getegid());
  return groups;
}

// The daemon: the process that serves the socket, or that of the unit; and who it runs as, or would run as.
struct DaemonProcess {
  pid_t pid = 0;  // 0: none
  SystemUser user;
  bool service = false;  // the unit's

  std::string folder() const { return pid == 0 ? "self" : fmt::format("{}", pid); }
};

DaemonProcess find_daemon(const std::string& socket, const std::map<std::string, std::string>& unit) {
  DaemonProcess daemon;
  const auto main_pid = unit.find("MainPID");
  const pid_t of_unit =
      main_pid == unit.end() ? 0 : static_cast<pid_t>(std::strtol(main_pid->second.c_str(), nullptr, 10));
  const auto peer = peer_of(socket);
  const bool installed = unit.contains("LoadState") && unit.at("LoadState") == "loaded";
  // A socket that systemd made is served by the unit.
  daemon.service = peer ? peer->pid == 1 || peer->pid == of_unit : installed;
  const auto own = user_named(kDaemonUser);
  if (daemon.service) {
    daemon.pid = of_unit;
    daemon.user = own.value_or(user_of(0));
  } else {
    daemon.pid = peer ? peer->pid : 0;
    daemon.user = peer ? user_of(peer->uid) : own && installed ? *own : user_of(geteuid());
  }
  return daemon;
}

void add(std::vector<Finding>& all, std::vector<Finding>&& some) {
  std::move(some.begin(), some.end(), std::back_inserter(all));
}

// The one that is named, or configured, or lies where models are kept; empty: there is none.
fs::path model_to_look_at(const DoctorOptions& options, std::vector<Finding>& findings) {
  if (!options.model.empty()) return options.model;
  const auto configured = configured_model(options.config_folder);
  if (!configured) {
    findings.push_back(finding_warning("configuration", configured.error().message(),
                                       "look as root; the model is not known: --model FILE names it"));
  } else if (!configured->empty()) {
    return *configured;
  }
  const std::vector<fs::path> kept = model_files_in(kModelsFolder);
  return kept.empty() ? fs::path() : kept.front();
}

void look_at_machine(std::vector<Finding>& findings, const DaemonProcess& daemon) {
  utsname system = {};
  uname(&system);
  const CgroupView view = {.root = "/", .process = daemon.folder()};
  const std::string_view whose = daemon.pid != 0 ? "the daemon's" : "this shell's";
  findings.push_back(check_kernel(system.release));
  findings.push_back(check_processor(isa_names()));
  findings.push_back(check_io_uring(set_up_io_uring()));
  findings.push_back(check_cgroup(view));
  findings.push_back(check_memory(view));
  if (daemon.pid == 0 && daemon.service) {
    findings.push_back(finding_ok("locked memory", "as the unit says; look again when the daemon runs"));
  } else {
    findings.push_back(check_locked_memory(fs::path("/proc") / daemon.folder() / "limits", whose));
  }
  findings.push_back(check_huge_pages());
  findings.push_back(check_heat(thermal_zones()));
  if (auto mode = check_power_mode()) findings.push_back(*std::move(mode));
  const BackendKind* const device = device_backend();
  const Result<void> usable = device == nullptr ? Result<void>{} : device->available({});
  add(findings, check_gpu("/", daemon.user, device, usable));
  if (device == nullptr || !usable) return;
  if (const auto state = device->device_state()) add(findings, check_gpu_state(*state));
}

void look_at_model(std::vector<Finding>& findings, const fs::path& path, const DaemonProcess& daemon) {
  if (path.empty()) {
    findings.push_back(finding_warning("model", "none is configured, and none is in /var/lib/sirocco/models",
                                       "`sirocco setup FILE` (as root) serves one; --model FILE looks at one here"));
    return;
  }
  if (access(path.c_str(), R_OK) != 0 && errno == EACCES) {
    findings.push_back(finding_warning("model", fmt::format("{} is not for you to look at", path.string()),
                                       "look as root: sudo sirocco doctor"));
    return;
  }
  findings.push_back(check_model_access(path, daemon.user, daemon.service));
  const auto model = Model::open(path);
  if (!model) {
    findings.push_back(
        finding_error("model", model.error().message(), "`sirocco model verify` says more about the file"));
    return;
  }
  // A daemon that runs has taken the memory already, and says itself what it found.
  if (daemon.pid == 0) {
    if (const auto plan = plan_engine(*model, {})) {
      add(findings, check_gpu_model(plan->warnings));
    } else {
      findings.push_back(
          finding_warning("model and memory", plan.error().message(), "`sirocco model fit` tries other budgets"));
    }
  }
  findings.push_back(check_model_disk(path));
}

std::vector<Finding> examine(const DoctorOptions& options) {
  std::vector<Finding> findings;
  const auto unit = unit_properties();
  const DaemonProcess daemon = find_daemon(options.socket, unit);
  look_at_machine(findings, daemon);
  findings.push_back(check_unit(unit));
  findings.push_back(check_config(config_file(options.config_folder), daemon.user));
  look_at_model(findings, model_to_look_at(options, findings), daemon);
  if (daemon.service) {
    findings.push_back(check_state_folder(kStateFolder, daemon.user));
    findings.push_back(check_free_space(kStateFolder));
  }
  findings.push_back(check_socket(options.socket, user_of(geteuid()), process_groups()));
  if (findings.back().level != Finding::Level::ok) return findings;
  const bool gpu =
      std::any_of(findings.begin(), findings.end(), [](const Finding& f) { return f.check == kGpuAccess; });
  add(findings, check_daemon(options.socket, gpu));
  return findings;
}

int doctor(const DoctorOptions& options) {
  const std::vector<Finding> findings = examine(options);
  if (options.json) {
    print_json(doctor_json(findings));
  } else if (!show(doctor_text(findings))) {
    return 1;
  }
  return has_error(findings) ? 1 : 0;
}

}  // namespace

void add_doctor_command(CLI::App& app, CommandContext& context) {
  const auto options = std::make_shared<DoctorOptions>();
  CLI::App* const command = app.add_subcommand(
      "doctor",
      "Look at this machine and the daemon: what is right, what is not, and what to do; exit 1 after an error");
  add_socket_option(*command, options->socket);
  command
      ->add_option(
          "--model", options->model,
          "The model to look at; the configured one, or one in " + std::string(kModelsFolder) + ", if not given")
      ->type_name("FILE")
      ->check(not_empty());
  command->add_option("--config-dir", options->config_folder, "The folder of siroccod.yaml and siroccod.d")
      ->type_name("DIR")
      ->check(not_empty())
      ->capture_default_str();
  command->add_flag("--json", options->json, "Print one JSON document");
  command->callback([options, &context] { context.exit_code = doctor(*options); });
}

}  // namespace sirocco

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>

#include "cli/doctor_checks.h"
#include "ipc/client/connect.h"
#include "ipc/wire/limits.h"

namespace sirocco {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::chrono::milliseconds kPatience(3000);  // for an answer that is to come within kPrompt
constexpr double kPrompt = 1;                         // second

constexpr std::string_view kLog = "its log says more: journalctl -u sirocco -e";

Finding state_finding(const wire::StatusReport& report) {
  const std::string found = fmt::format(
      "{}{}{}", wire::state_name(report.state), report.model ? ": " + report.model->name : "",
      report.state == wire::State::ready ? fmt::format(", computes with {} ({})", report.backend, report.isa) : "");
  switch (report.state) {
    case wire::State::ready:
      return finding_ok("state", found);
    case wire::State::starting:
      return finding_warning("state", found, "the model is being loaded: wait, and look again");
    case wire::State::degraded:
      return finding_warning("state", found, "it works, but not as well as it could: the reasons follow");
    case wire::State::draining:
      return finding_warning("state", found,
                             "no requests are taken: `sirocco drain --undo` (as root) takes them again");
    case wire::State::no_model:
      return finding_warning("state", found,
                             "`sirocco setup` lists models that fit; `sirocco setup FILE` (as root) serves one");
    case wire::State::failed:
      break;
  }
  return finding_error("state", found, std::string(kLog));
}

}  // namespace

std::optional<SocketPeer> peer_of(const std::string& socket) {
  const auto connected = connect_socket(socket, Clock::now() + kPatience);
  if (!connected) return std::nullopt;
  ucred credentials = {};
  socklen_t size = sizeof credentials;
  const bool told = getsockopt(*connected, SOL_SOCKET, SO_PEERCRED, &credentials, &size) == 0;
  close(*connected);
  if (!told) return std::nullopt;
  return SocketPeer{.pid = credentials.pid, .uid = credentials.uid};
}

Finding check_socket(const std::string& socket, const SystemUser& self, std::span<const gid_t> process_groups) {
  struct stat status = {};
  if (stat(socket.c_str(), &status) != 0) {
    if (errno == EACCES)
      return finding_error("socket", fmt::format("{}: its folder may not be entered", socket),
                           "ask who runs the daemon for access, or look as root");
    return finding_error(
        "socket", fmt::format("{}: {}", socket, errno_message(errno)),
        "no daemon serves it: systemctl start sirocco, or siroccod --config FILE; another socket is named "
        "with --socket or $SIROCCO_SOCKET");
  }
  if (!S_ISSOCK(status.st_mode))
    return finding_error("socket", fmt::format("{} is no socket", socket), "name the daemon's socket with --socket");
  const std::string group = group_name(status.st_gid);
  const std::string found =
      fmt::format("{}: mode {:o}, {}:{}", socket, status.st_mode & 07777U, user_of(status.st_uid).name, group);
  SystemUser process = self;
  process.groups.assign(process_groups.begin(), process_groups.end());
  if (allows(status, process, 2)) return finding_ok("socket", found + "; you may connect");
  if (allows(status, self, 2))
    return finding_error(
        "socket", found,
        fmt::format("you are in the group {} since this login began: log in again (or newgrp {})", group, group));
  return finding_error("socket", found,
                       group == "root" ? std::string("you may not connect: ask who runs the daemon (server.group)")
                                       : fmt::format("you may not connect: sudo usermod -aG {} {}, then log in again",
                                                     group, self.name));
}

std::vector<Finding> check_daemon(const std::string& socket, bool gpu) {
  const auto began = Clock::now();
  auto client = Client::connect(socket, {.name = "sirocco doctor", .timeout = kPatience, .answer_timeout = kPatience});
  if (!client)
    return {
        finding_error("daemon", client.error().message,
                      client.error().code == wire::ErrorCode::version_mismatch
                          ? "daemon and client are of versions that do not understand each other: systemctl restart "
                            "sirocco, after both packages are up to date"
                          : std::string(kLog))};
  const auto report = client->status();
  if (!report) return {finding_error("daemon", report.error().message, std::string(kLog))};
  return judge_status(*report, client->welcome().version, std::chrono::duration<double>(Clock::now() - began).count(),
                      gpu);
}

std::vector<Finding> judge_status(const wire::StatusReport& report, std::uint16_t protocol, double seconds, bool gpu) {
  std::vector<Finding> findings;
  const std::string answers = fmt::format("answers within {:.0f} ms", std::ceil(1000 * seconds));
  if (seconds <= kPrompt) {
    findings.push_back(finding_ok("daemon", answers));
  } else {
    findings.push_back(finding_warning(
        "daemon", answers, fmt::format("that is slow: is the machine out of memory, or of CPU time? {}", kLog)));
  }
  const std::string version = fmt::format("siroccod {}, protocol {}", report.daemon_version, protocol);
  if (report.daemon_version == SIROCCO_VERSION && protocol == wire::kProtocolVersion) {
    findings.push_back(finding_ok("version", version));
  } else {
    findings.push_back(finding_warning("version", fmt::format("{}; this is sirocco {}", version, SIROCCO_VERSION),
                                       "after an update the old daemon goes on: systemctl restart sirocco"));
  }
  findings.push_back(state_finding(report));
  for (const std::string& reason : report.reasons)
    findings.push_back(finding_warning("reason", reason, std::string(kLog)));
  if (gpu && report.model && report.backend != "cuda")
    findings.push_back(
        finding_warning("GPU use", fmt::format("the daemon computes with {}, though a GPU is here", report.backend),
                        "journalctl -u sirocco | grep GPU says why; engine.backend: cuda makes it an error"));
  return findings;
}

}  // namespace sirocco

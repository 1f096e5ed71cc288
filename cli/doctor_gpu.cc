#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <fstream>
#include <iterator>
#include <regex>

#include "cli/doctor_checks.h"
#include "engine/base/bytes.h"

namespace sirocco {
namespace {

namespace fs = std::filesystem;

constexpr int kOldestDriver = 580;  // of CUDA 13

std::string text_in(const fs::path& file) {
  std::ifstream in(file);
  return {std::istreambuf_iterator<char>(in), {}};
}

// What a process opens to compute: a card's nodes, or those of a Jetson.
std::vector<fs::path> device_nodes(const fs::path& root) {
  static const std::regex node(R"(nvidia\d+|nvidiactl|nvidia-uvm|nvmap|nvhost-gpu|nvhost-ctrl-gpu)");
  std::vector<fs::path> nodes;
  std::error_code error;
  for (const fs::directory_entry& entry : fs::directory_iterator(root / "dev", error))
    if (std::regex_match(entry.path().filename().string(), node)) nodes.push_back(entry.path());
  std::sort(nodes.begin(), nodes.end());
  return nodes;
}

bool has_nvidia_card(const fs::path& root) {
  std::error_code error;
  for (const fs::directory_entry& entry : fs::directory_iterator(root / "sys/bus/pci/devices", error))
    if (text_in(entry.path() / "vendor").starts_with("0x10de") && text_in(entry.path() / "class").starts_with("0x03"))
      return true;
  return false;
}

std::optional<Finding> driver(const fs::path& root) {
  static const std::regex version(R"(Kernel Module\D+(?:x86_64|aarch64)?\s+((\d+)\.[\d.]+))");
  static const std::regex jetson(R"(# R(\d+) \(release\), REVISION: ([\d.]+))");
  std::smatch found;
  if (const std::string tegra = text_in(root / "etc/nv_tegra_release"); std::regex_search(tegra, found, jetson))
    return finding_ok("GPU driver", fmt::format("Jetson Linux {}.{}", found[1].str(), found[2].str()));
  const std::string text = text_in(root / "proc/driver/nvidia/version");
  if (!std::regex_search(text, found, version)) return std::nullopt;
  if (std::stoi(found[2]) >= kOldestDriver) return finding_ok("GPU driver", found[1].str());
  return finding_warning("GPU driver", found[1].str(),
                         fmt::format("CUDA 13 needs {} or newer: update the driver", kOldestDriver));
}

std::optional<Finding> closed_node(const std::vector<fs::path>& nodes, const SystemUser& user) {
  for (const fs::path& node : nodes) {
    struct stat status = {};
    if (stat(node.c_str(), &status) != 0 || allows(status, user, 6)) continue;
    const std::string group = group_name(status.st_gid);
    return finding_warning(
        kGpuAccess,
        fmt::format("{} cannot be opened by {}: mode {:o}, group {}", node.string(), user.name, status.st_mode & 07777U,
                    group),
        group == "root" ? std::string("the driver lets root alone use it: set its device file's mode")
                        : fmt::format("SupplementaryGroups={0} in a drop-in of the unit, or `usermod -aG {0} {1}`",
                                      group, user.name));
  }
  return std::nullopt;
}

}  // namespace

std::vector<Finding> check_gpu(const fs::path& root, const SystemUser& user, const BackendKind* device,
                               const Result<void>& usable) {
  const std::vector<fs::path> nodes = device_nodes(root);
  if (nodes.empty()) {
    if (has_nvidia_card(root))
      return {finding_warning("GPU", "an NVIDIA card is there, and no driver (/dev/nvidia0)",
                              "install its driver, and restart; until then the processor computes")};
    return {finding_ok("GPU", "none of NVIDIA here: the processor computes")};
  }
  std::vector<std::string> names;
  for (const fs::path& node : nodes) names.push_back(node.filename().string());
  std::vector<Finding> findings = {finding_ok("GPU", fmt::format("device files: {}", fmt::join(names, ", ")))};
  if (auto of_driver = driver(root)) findings.push_back(*std::move(of_driver));
  auto closed = closed_node(nodes, user);
  findings.push_back(closed ? *std::move(closed) : finding_ok(kGpuAccess, fmt::format("{} may open them", user.name)));
  if (device == nullptr) {
    findings.push_back(finding_warning("GPU backend", "this sirocco was built without CUDA: the GPU is not used",
                                       "install the package with CUDA, or build with SIROCCO_CUDA=ON where nvcc is"));
  } else if (!usable) {
    findings.push_back(
        finding_warning("GPU backend", fmt::format("{}: {}", kNotUsed, usable.error().message()),
                        "what stands above about the GPU says what to do; the daemon's log may say more"));
  } else {
    findings.push_back(finding_ok("GPU backend", fmt::format("{} can be used", device->name())));
  }
  return findings;
}

std::vector<Finding> check_gpu_state(const DeviceState& device) {
  std::vector<Finding> findings = {
      finding_ok("GPU memory", fmt::format("{} ({}): {} of {} used", device.name, device.architecture,
                                           format_bytes(device.used), format_bytes(device.memory)))};
  if (!device.unknown.empty()) findings.push_back(finding_ok("GPU state", "not known: " + device.unknown));
  if (!device.celsius && !device.clock_mhz) return findings;
  const std::string state = fmt::format(
      "{}{}", device.celsius ? fmt::format("{:.0f} °C", *device.celsius) : "temperature not known",
      device.clock_mhz ? fmt::format(", {} of {} MHz", *device.clock_mhz, device.most_mhz.value_or(0)) : "");
  findings.push_back(
      device.throttled.empty()
          ? finding_ok("GPU heat", state)
          : finding_warning("GPU heat", fmt::format("{}; held down by {}", state, device.throttled),
                            "cool it, or raise its power limit (nvidia-smi -q -d PERFORMANCE says more)"));
  return findings;
}

std::vector<Finding> check_gpu_model(std::span<const std::string> passed_over) {
  std::vector<Finding> findings;
  for (const std::string& why : passed_over)
    findings.push_back(finding_warning("GPU and model", why,
                                       "the processor computes this model; a smaller one, or one of other types, "
                                       "would fit"));
  return findings;
}

}  // namespace sirocco

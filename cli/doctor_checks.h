// The checks of `sirocco doctor`. Each looks at one thing and returns what it found; they change nothing, need no
// daemon and no privileges, and read below `root`, so that tests bring a /proc and a /sys of their own.
#pragma once

#include <filesystem>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "cli/finding.h"
#include "cli/system_user.h"
#include "engine/backend/backend.h"
#include "engine/base/cgroup.h"
#include "engine/base/thermal.h"
#include "ipc/client/client.h"

namespace sirocco {

// --- doctor_kernel.cc: kernel and processor

// release: as uname says it, "6.1.0-18-amd64".
Finding check_kernel(std::string_view release);
// ring: of setting one up.
Finding check_io_uring(const Result<void>& ring, const std::filesystem::path& root = "/");
Result<void> set_up_io_uring();
Finding check_huge_pages(const std::filesystem::path& root = "/");
// isas: that this machine has of those that this program knows, best first.
Finding check_processor(std::span<const std::string_view> isas);

// --- doctor_memory.cc

Finding check_cgroup(const CgroupView& view);
Finding check_memory(const CgroupView& view);
// whose: "the daemon's" or "this shell's".
Finding check_locked_memory(const std::filesystem::path& limits, std::string_view whose);

// --- doctor_heat.cc

Finding check_heat(std::span<const ThermalZone> zones);
// Of a Jetson (nvpmodel) or the firmware; nothing where neither says any.
std::optional<Finding> check_power_mode(const std::filesystem::path& root = "/");

// --- doctor_gpu.cc

// The check that every machine with a GPU's device files has.
inline constexpr const char* kGpuAccess = "GPU access";

// user: who the daemon runs as. device: of this program; null: built without. usable: whether that can be used here.
std::vector<Finding> check_gpu(const std::filesystem::path& root, const SystemUser& user, const BackendKind* device,
                               const Result<void>& usable);
// What a GPU says of itself, and whether it is held down.
std::vector<Finding> check_gpu_state(const DeviceState& device);
// Why the GPU would not compute this model.
std::vector<Finding> check_gpu_model(std::span<const std::string> passed_over);

// --- doctor_disk.cc

// The file system of a file, by mountinfo: "ext4"; empty: not found.
std::string file_system_of(const std::filesystem::path& file, const std::filesystem::path& mountinfo);
// The disk that a model is on: measures it for about a second.
Finding check_model_disk(const std::filesystem::path& model);
// Whether the model can be read by the daemon. service: it runs as the unit, which hides home folders.
Finding check_model_access(const std::filesystem::path& model, const SystemUser& user, bool service);
// For sessions and models.
Finding check_free_space(const std::filesystem::path& folder);
// Whether the daemon may write to its state folder.
Finding check_state_folder(const std::filesystem::path& folder, const SystemUser& user);

// --- doctor_service.cc

// `systemctl show`: key -> value. Empty: there is no systemd here, or it does not answer.
std::map<std::string, std::string> unit_properties();
std::map<std::string, std::string> parse_properties(std::string_view text);
Finding check_unit(const std::map<std::string, std::string>& properties);
// What `siroccod --check-config` says of it.
Finding check_config(const std::filesystem::path& config, const SystemUser& user);

// --- doctor_daemon.cc

struct SocketPeer {
  pid_t pid = 0;  // 0: not known
  uid_t uid = 0;
};
// Who listens there. Nothing: it cannot be connected to.
std::optional<SocketPeer> peer_of(const std::string& socket);
// Who may connect, and whether that is us.
Finding check_socket(const std::string& socket, const SystemUser& self, std::span<const gid_t> process_groups);
// Connects and asks: state, reasons, version, backend.
std::vector<Finding> check_daemon(const std::string& socket, bool gpu);
// gpu: this machine has one that could compute.
std::vector<Finding> judge_status(const wire::StatusReport& report, std::uint16_t protocol, double seconds, bool gpu);

}  // namespace sirocco

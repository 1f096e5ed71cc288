#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <nlohmann/json.hpp>

#include "cli/doctor_checks.h"
#include "cli/doctor_report.h"
#include "engine/base/bytes.h"
#include "tests/support/fake_root.h"
#include "tests/unit/cli/run_sirocco.h"

namespace sirocco {
namespace {

using Level = Finding::Level;

const SystemUser kNobody = {.name = "nobody", .uid = 65534, .groups = {65534}};

bool says(const Finding& finding, std::string_view what) {
  return finding.found.find(what) != std::string::npos || finding.advice.find(what) != std::string::npos;
}

TEST(Doctor, AKernelOlderThanTheOldestTestedIsAWarning) {
  EXPECT_EQ(check_kernel("6.1.0-18-amd64").level, Level::ok);
  EXPECT_EQ(check_kernel("5.15.148-tegra").level, Level::ok);
  EXPECT_EQ(check_kernel("5.10.104-tegra").level, Level::warning);
  EXPECT_EQ(check_kernel("5.9").level, Level::warning);
  EXPECT_EQ(check_kernel("strange").level, Level::warning);
}

TEST(Doctor, WhyThereIsNoIoUringIsSaid) {
  const test::FakeRoot root;
  const Result<void> refused = fail(ErrorCode::unsupported, "io_uring cannot be used here: Operation not permitted");
  EXPECT_EQ(check_io_uring({}, root.path()).level, Level::ok);
  EXPECT_TRUE(says(check_io_uring(refused, root.path()), "seccomp"));
  root.write("proc/sys/kernel/io_uring_disabled", "1\n");
  EXPECT_TRUE(says(check_io_uring(refused, root.path()), "io_uring_group"));
  root.write("proc/sys/kernel/io_uring_disabled", "2\n");
  const Finding finding = check_io_uring(refused, root.path());
  EXPECT_EQ(finding.level, Level::warning);
  EXPECT_TRUE(says(finding, "kernel.io_uring_disabled=2"));
  EXPECT_TRUE(says(finding, "Operation not permitted"));
}

TEST(Doctor, HugePagesThatAreOffAreAWarning) {
  const test::FakeRoot root;
  EXPECT_EQ(check_huge_pages(root.path()).level, Level::warning);
  const std::string file = "sys/kernel/mm/transparent_hugepage/enabled";
  root.write(file, "always [madvise] never\n");
  EXPECT_EQ(check_huge_pages(root.path()).found, "transparent, madvise");
  root.write(file, "always madvise [never]\n");
  EXPECT_EQ(check_huge_pages(root.path()).level, Level::warning);
}

TEST(Doctor, TheInstructionsThatWillBeUsedAreNamed) {
  const std::vector<std::string_view> isas = {"avx512_vnni", "avx2"};
  EXPECT_EQ(check_processor(isas).found, "computes with avx512_vnni (also has avx2)");
  EXPECT_EQ(check_processor({}).level, Level::warning);
}

TEST(Doctor, ASmallMemoryLimitOfTheCgroupIsAWarning) {
  const test::FakeRoot root;
  const CgroupView view = {.root = root.path(), .process = "9"};
  EXPECT_EQ(check_cgroup(view).level, Level::ok);
  root.write("proc/9/cgroup", "0::/a\n");
  root.write("sys/fs/cgroup/a/memory.max", "max\n");
  EXPECT_EQ(check_cgroup(view).found, "v2, no memory limit");
  root.write("sys/fs/cgroup/a/memory.max", "6442450944\n");
  EXPECT_EQ(check_cgroup(view).found, "v2, memory limit 6.00 GiB, 0 B of it used");
  root.write("sys/fs/cgroup/a/memory.max", "268435456\n");
  EXPECT_EQ(check_cgroup(view).level, Level::warning);
}

TEST(Doctor, LittleMemoryIsAWarningAndNoMeminfoAnError) {
  const test::FakeRoot root;
  const CgroupView view = {.root = root.path(), .process = "self"};
  EXPECT_EQ(check_memory(view).level, Level::error);
  root.write("proc/meminfo", "MemTotal: 8388608 kB\nMemAvailable: 4194304 kB\n");
  EXPECT_EQ(check_memory(view).found, "4.00 GiB available of 8.00 GiB");
  root.write("proc/meminfo", "MemTotal: 8388608 kB\nMemAvailable: 4194 kB\n");
  EXPECT_EQ(check_memory(view).level, Level::warning);
}

TEST(Doctor, ASmallLimitOnLockedMemoryIsAWarning) {
  const test::FakeRoot root;
  const auto limits = [&](const std::string& soft) {
    root.write("limits",
               "Limit                     Soft Limit           Hard Limit           Units     \n"
               "Max locked memory         " +
                   soft + "              unlimited            bytes     \n");
    return check_locked_memory(root.path() / "limits", "the daemon's");
  };
  EXPECT_EQ(limits("unlimited").found, "the daemon's is unlimited");
  EXPECT_EQ(limits("8388608").level, Level::warning);
  EXPECT_TRUE(says(limits("8388608"), "8.00 MiB"));
  EXPECT_EQ(limits("17179869184").level, Level::ok);
  EXPECT_EQ(check_locked_memory(root.path() / "none", "the daemon's").level, Level::warning);
}

TEST(Doctor, AZoneBeyondItsLimitIsAWarningThatNamesIt) {
  std::vector<ThermalZone> zones = {{.name = "cpu", .celsius = 60, .slows_at = 95},
                                    {.name = "board", .celsius = 99, .slows_at = {}}};
  EXPECT_EQ(check_heat(zones).found, "cpu 60 °C (slows at 95), board 99 °C");
  EXPECT_EQ(check_heat(zones).level, Level::ok);
  zones[0].celsius = 96;
  EXPECT_TRUE(says(check_heat(zones), "cpu is too hot"));
  EXPECT_EQ(check_heat({}).level, Level::ok);
}

TEST(Doctor, AJetsonsPowerModeHasItsName) {
  const test::FakeRoot root;
  EXPECT_FALSE(check_power_mode(root.path()));
  root.write("var/lib/nvpmodel/status", "pmode:0002\n");
  EXPECT_TRUE(says(*check_power_mode(root.path()), "mode 2"));
  root.write("etc/nvpmodel.conf", "< POWER_MODEL ID=0 NAME=MAXN >\n< POWER_MODEL ID=2 NAME=MODE_30W >\n");
  EXPECT_TRUE(says(*check_power_mode(root.path()), "MODE_30W"));
}

TEST(Doctor, AFirmwareProfileThatSavesPowerIsAWarning) {
  const test::FakeRoot root;
  root.write("sys/firmware/acpi/platform_profile", "balanced\n");
  EXPECT_EQ(check_power_mode(root.path())->level, Level::ok);
  root.write("sys/firmware/acpi/platform_profile", "low-power\n");
  EXPECT_EQ(check_power_mode(root.path())->level, Level::warning);
}

Finding named(const std::vector<Finding>& findings, std::string_view check) {
  for (const Finding& finding : findings)
    if (finding.check == check) return finding;
  return finding_error(std::string(check), "not looked at", "");
}

TEST(DoctorGpu, WithoutACardNothingIsWrong) {
  const test::FakeRoot root;
  const auto findings = check_gpu(root.path(), kNobody, nullptr, {});
  ASSERT_EQ(findings.size(), 1U);
  EXPECT_EQ(findings[0].level, Level::ok);
}

TEST(DoctorGpu, ACardWithoutItsDriverIsAWarning) {
  const test::FakeRoot root;
  root.write("sys/bus/pci/devices/0000:01:00.0/vendor", "0x10de\n");
  root.write("sys/bus/pci/devices/0000:01:00.0/class", "0x040300\n");  // its sound
  EXPECT_EQ(check_gpu(root.path(), kNobody, nullptr, {})[0].level, Level::ok);
  root.write("sys/bus/pci/devices/0000:01:00.1/vendor", "0x10de\n");
  root.write("sys/bus/pci/devices/0000:01:00.1/class", "0x030000\n");
  EXPECT_EQ(check_gpu(root.path(), kNobody, nullptr, {})[0].level, Level::warning);
}

TEST(DoctorGpu, DriverGroupsAndBuildAreLookedAt) {
  const test::FakeRoot root;
  root.write("dev/nvidia0", "");
  root.write("dev/nvidiactl", "");
  root.write("dev/nvram", "");
  root.write("proc/driver/nvidia/version",
             "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.95.05  Release Build\n");
  chmod((root.path() / "dev/nvidiactl").c_str(), 0666);
  chmod((root.path() / "dev/nvidia0").c_str(), 0660);
  auto findings = check_gpu(root.path(), kNobody, nullptr, {});
  EXPECT_EQ(named(findings, "GPU").found, "device files: nvidia0, nvidiactl");
  EXPECT_EQ(named(findings, "GPU driver").found, "580.95.05");
  EXPECT_EQ(named(findings, "GPU access").level, Level::warning);
  EXPECT_TRUE(says(named(findings, "GPU access"), "nvidia0 cannot be opened by nobody"));
  EXPECT_TRUE(says(named(findings, "GPU backend"), "built without CUDA"));
  chmod((root.path() / "dev/nvidia0").c_str(), 0666);
  root.write("proc/driver/nvidia/version", "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.183.01  Sun\n");
  findings = check_gpu(root.path(), kNobody, nullptr, {});
  EXPECT_EQ(named(findings, "GPU access").level, Level::ok);
  EXPECT_EQ(named(findings, "GPU driver").level, Level::warning);
}

TEST(DoctorGpu, WhyItIsNotUsedIsSaid) {
  const test::FakeRoot root;
  root.write("dev/nvhost-gpu", "");
  root.write("etc/nv_tegra_release", "# R36 (release), REVISION: 4.3, GCID: 1, BOARD: generic\n");
  const auto findings = check_gpu(root.path(), kNobody, &host_backend(), fail(ErrorCode::io, "CUDA error 999"));
  EXPECT_EQ(named(findings, "GPU driver").found, "Jetson Linux 36.4.3");
  EXPECT_EQ(named(findings, "GPU backend").found, "the GPU is not used: CUDA error 999");
  EXPECT_EQ(named(check_gpu(root.path(), kNobody, &host_backend(), {}), "GPU backend").level, Level::ok);
  const std::vector<std::string> passed_over = {"the GPU is not used: it has 4 GiB"};
  EXPECT_EQ(check_gpu_model(passed_over).at(0).found, passed_over[0]);
}

TEST(DoctorGpu, ItsHeatAndWhatHoldsItDownAreSaid) {
  DeviceState state = {.name = "NVIDIA Thor", .architecture = "sm_110", .memory = 2 * GiB, .used = 1 * GiB};
  auto findings = check_gpu_state(state);
  EXPECT_EQ(named(findings, "GPU memory").found, "NVIDIA Thor (sm_110): 1.00 GiB of 2.00 GiB used");
  EXPECT_EQ(findings.size(), 1U);
  state.unknown = "clock: NVML cannot be loaded";
  EXPECT_TRUE(says(named(check_gpu_state(state), "GPU state"), "NVML cannot be loaded"));
  state.celsius = 83.4;
  state.clock_mhz = 1200;
  state.most_mhz = 1980;
  EXPECT_EQ(named(check_gpu_state(state), "GPU heat").found, "83 °C, 1200 of 1980 MHz");
  EXPECT_EQ(named(check_gpu_state(state), "GPU heat").level, Level::ok);
  state.throttled = "heat";
  EXPECT_EQ(named(check_gpu_state(state), "GPU heat").level, Level::warning);
  EXPECT_TRUE(says(named(check_gpu_state(state), "GPU heat"), "held down by heat"));
}

TEST(DoctorDisk, AFilesFileSystemIsTheOneOfTheLongestMountPoint) {
  const test::FakeRoot root;
  root.write("mountinfo",
             "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n"
             "23 22 0:21 / /proc rw - proc proc rw\n"
             "24 22 0:30 / /my\\040models rw shared:2 master:1 - btrfs /dev/sdb rw\n");
  const auto info = root.path() / "mountinfo";
  EXPECT_EQ(file_system_of("/var/x.gguf", info), "ext4");
  EXPECT_EQ(file_system_of("/my models/x.gguf", info), "btrfs");
  EXPECT_EQ(file_system_of("/my models2/x.gguf", info), "ext4");
  EXPECT_EQ(file_system_of("/x", root.path() / "none"), "");
}

class DoctorAccess : public testing::Test {
 protected:
  DoctorAccess() {
    // Temporary folders are for their owner alone.
    chmod(root_.path().c_str(), 0755);
    root_.write("a/m.gguf", "x");
    chmod(file().c_str(), 0644);
    chmod(file().parent_path().c_str(), 0755);
  }
  std::filesystem::path file() const { return root_.path() / "a/m.gguf"; }
  test::FakeRoot root_;
};

TEST_F(DoctorAccess, AModelThatTheDaemonsUserMayNotReadIsAnError) {
  EXPECT_EQ(check_model_access(file(), kNobody, false).level, Level::ok);
  chmod(file().c_str(), 0640);
  const Finding finding = check_model_access(file(), kNobody, false);
  EXPECT_EQ(finding.level, Level::error);
  EXPECT_TRUE(says(finding, "mode 640"));
  EXPECT_TRUE(says(finding, "does not let nobody read it"));
  EXPECT_EQ(check_model_access(file(), {.name = "root", .uid = 0, .groups = {}}, false).level, Level::ok);
}

TEST_F(DoctorAccess, TheFoldersOnTheWayCount) {
  chmod(file().parent_path().c_str(), 0750);
  EXPECT_TRUE(says(check_model_access(file(), kNobody, false), "does not let nobody enter it"));
  struct stat status = {};
  stat(file().c_str(), &status);
  const SystemUser member = {.name = "member", .uid = 65534, .groups = {status.st_gid}};
  EXPECT_EQ(check_model_access(file(), member, false).level, Level::ok);
}

TEST_F(DoctorAccess, AServiceSeesNoHomeFolders) {
  EXPECT_TRUE(says(check_model_access(file(), kNobody, true), "the unit lets the daemon see nothing"));
  EXPECT_TRUE(hidden_from_service("/home/me/m.gguf"));
  EXPECT_FALSE(hidden_from_service("/var/lib/sirocco/models/m.gguf"));
  EXPECT_FALSE(hidden_from_service("/homes/m.gguf"));
}

TEST_F(DoctorAccess, AStateFolderThatCannotBeWrittenIsAnError) {
  EXPECT_EQ(check_state_folder(root_.path() / "a", kNobody).level, Level::error);
  EXPECT_EQ(check_state_folder(root_.path() / "a", user_of(geteuid())).level, Level::ok);
  EXPECT_EQ(check_state_folder(root_.path() / "none", kNobody).level, Level::warning);
}

TEST_F(DoctorAccess, ASocketThatMayNotBeOpenedSaysWhetherANewLoginHelps) {
  const auto path = (root_.path() / "s.sock").string();
  EXPECT_TRUE(says(check_socket(path, kNobody, {}), "no daemon serves it"));
  EXPECT_TRUE(says(check_socket(file().string(), kNobody, {}), "is no socket"));
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  path.copy(address.sun_path, path.size());
  const int socket = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  ASSERT_EQ(bind(socket, reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
  chmod(path.c_str(), 0660);
  struct stat status = {};
  stat(path.c_str(), &status);
  const SystemUser member = {.name = "member", .uid = 65534, .groups = {status.st_gid}};
  EXPECT_TRUE(says(check_socket(path, kNobody, kNobody.groups), "you may not connect"));
  EXPECT_TRUE(says(check_socket(path, member, kNobody.groups), "log in again"));
  EXPECT_EQ(check_socket(path, member, member.groups).level, Level::ok);
  close(socket);
}

TEST(DoctorService, TheUnitsStateIsJudged) {
  const auto unit = [](std::string_view text) { return check_unit(parse_properties(text)); };
  EXPECT_EQ(check_unit({}).level, Level::ok);
  EXPECT_EQ(unit("LoadState=not-found\nActiveState=inactive\n").level, Level::warning);
  EXPECT_EQ(unit("LoadState=masked\n").level, Level::error);
  EXPECT_EQ(unit("LoadState=loaded\nActiveState=active\nSubState=running\nUnitFileState=enabled\n").level, Level::ok);
  EXPECT_TRUE(says(unit("LoadState=loaded\nActiveState=active\nSubState=running\nUnitFileState=disabled\n"),
                   "systemctl enable sirocco"));
  EXPECT_TRUE(says(unit("LoadState=loaded\nActiveState=inactive\nSubState=dead\nUnitFileState=enabled\n"), "--now"));
  const Finding failed = unit("LoadState=loaded\nActiveState=failed\nSubState=failed\nResult=oom-kill\n");
  EXPECT_EQ(failed.level, Level::error);
  EXPECT_TRUE(says(failed, "oom-kill"));
}

TEST(DoctorDaemon, EachReasonIsAFinding) {
  wire::StatusReport report;
  report.daemon_version = SIROCCO_VERSION;
  report.state = wire::State::degraded;
  report.reasons = {"io_uring cannot be used", "weights are not locked"};
  const auto findings = judge_status(report, 1, 0.01, false);
  EXPECT_EQ(named(findings, "daemon").level, Level::ok);
  EXPECT_EQ(named(findings, "version").level, Level::ok);
  EXPECT_EQ(named(findings, "state").level, Level::warning);
  EXPECT_EQ(std::count_if(findings.begin(), findings.end(), [](const Finding& f) { return f.check == "reason"; }), 2);
}

TEST(DoctorDaemon, ASlowAnswerAnotherVersionAndAFailureAreSaid) {
  wire::StatusReport report;
  report.daemon_version = "0.0.9";
  report.state = wire::State::failed;
  const auto findings = judge_status(report, 1, 1.5, false);
  EXPECT_EQ(named(findings, "daemon").level, Level::warning);
  EXPECT_TRUE(says(named(findings, "version"), "systemctl restart"));
  EXPECT_EQ(named(findings, "state").level, Level::error);
  report.state = wire::State::no_model;
  EXPECT_TRUE(says(named(judge_status(report, 1, 0, false), "state"), "sirocco setup"));
}

TEST(DoctorDaemon, AGpuThatItDoesNotUseIsAWarning) {
  wire::StatusReport report;
  report.state = wire::State::ready;
  report.model = wire::ModelCard{};
  report.backend = "cpu";
  EXPECT_EQ(named(judge_status(report, 1, 0, true), "GPU use").level, Level::warning);
  EXPECT_EQ(named(judge_status(report, 1, 0, false), "GPU use").found, "not looked at");
  report.backend = "cuda";
  EXPECT_EQ(named(judge_status(report, 1, 0, true), "GPU use").found, "not looked at");
}

TEST(DoctorReport, LinesAreAlignedAndAdviceStandsBelow) {
  const std::vector<Finding> findings = {finding_ok("kernel", "Linux 6.1"),
                                         finding_warning("disk", "slow", "buy another"),
                                         finding_error("configuration", "a: b\nc: d", "mend it")};
  EXPECT_EQ(doctor_text(findings),
            "ok       kernel         Linux 6.1\n"
            "warning  disk           slow\n"
            "                        -> buy another\n"
            "error    configuration  a: b\n"
            "                        c: d\n"
            "                        -> mend it\n"
            "\n1 ok, 1 warnings, 1 errors\n");
  EXPECT_EQ(doctor_json(findings).at("errors"), 1);
  EXPECT_EQ(doctor_json(findings).at("checks").at(1).at("level"), "warning");
  EXPECT_TRUE(has_error(findings));
  EXPECT_FALSE(has_error(std::span(findings).first(2)));
}

TEST(Doctor, WithoutADaemonItLooksAtTheRestAndFails) {
  const test::TemporaryDirectory folder;
  const std::string model = test::golden_dir() / "model" / "tiny-mixtral.gguf";
  const test::Ran ran = test::run_sirocco(
      {"doctor", "--json", "--socket", folder.path() / "none.sock", "--model", model, "--config-dir", folder.path()});
  EXPECT_EQ(ran.code, 1);
  const auto json = nlohmann::json::parse(ran.out);
  const auto level = [&](std::string_view check) {
    for (const auto& found : json.at("checks"))
      if (found.at("check") == check) return found.at("level").get<std::string>();
    return std::string("not looked at");
  };
  EXPECT_EQ(level("socket"), "error");
  EXPECT_NE(level("kernel"), "not looked at");
  EXPECT_NE(level("memory"), "not looked at");
  EXPECT_NE(level("disk"), "not looked at");
  EXPECT_EQ(level("daemon"), "not looked at");
}

}  // namespace
}  // namespace sirocco

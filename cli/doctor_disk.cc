#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <cerrno>
#include <fstream>
#include <sstream>

#include "cli/doctor_checks.h"
#include "cli/roofline.h"
#include "engine/base/bytes.h"

namespace sirocco {
namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t kMeasured = 128 * MiB;   // about a second of a slow disk
constexpr double kSlowDisk = 0.4e9;              // bytes per second: of SATA and below
constexpr std::uint64_t kLittleSpace = 1 * GiB;  // a few sessions

// mountinfo writes what would end a field as \040 and the like.
std::string unescaped(std::string_view text) {
  std::string plain;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\\' && i + 3 < text.size()) {
      plain += static_cast<char>((text[i + 1] - '0') * 64 + (text[i + 2] - '0') * 8 + (text[i + 3] - '0'));
      i += 3;
    } else {
      plain += text[i];
    }
  }
  return plain;
}

bool is_below(const std::string& path, const std::string& folder) {
  return folder == "/" || path == folder || (path.starts_with(folder) && path[folder.size()] == '/');
}

}  // namespace

std::string file_system_of(const fs::path& file, const fs::path& mountinfo) {
  std::error_code error;
  const std::string path = fs::weakly_canonical(file, error).string();
  std::ifstream in(mountinfo);
  std::string kind;
  std::size_t longest = 0;
  for (std::string line; std::getline(in, line);) {
    // id parent major:minor root MOUNTPOINT options [optional fields] - KIND source options
    std::istringstream words(line);
    std::string word;
    std::string point;
    for (int i = 0; i < 5 && words >> word; ++i) point = word;
    while (words >> word && word != "-") {
    }
    if (!(words >> word)) continue;
    point = unescaped(point);
    if (!is_below(path, point) || point.size() < longest) continue;  // later mounts lie over earlier ones
    longest = point.size();
    kind = word;
  }
  return kind;
}

Finding check_model_disk(const fs::path& model) {
  std::string kind = file_system_of(model, "/proc/self/mountinfo");
  if (kind.empty()) kind = "a file system that is not known";
  const int direct = open(model.c_str(), O_RDONLY | O_DIRECT | O_CLOEXEC);
  if (direct < 0) {
    if (errno == EINVAL)
      return finding_warning(
          "disk", fmt::format("{} on {}: no O_DIRECT", model.string(), kind),
          "experts that do not fit in memory are read through the page cache, which is slower and takes "
          "memory from them: put the model on ext4, XFS or btrfs");
    return finding_warning("disk", fmt::format("{}: {}", model.string(), errno_message(errno)),
                           "its speed is not measured: name a model that you may read with --model");
  }
  close(direct);
  const auto speed = disk_bandwidth(model, kMeasured);
  const std::string where = fmt::format("{} on {}, O_DIRECT works", model.string(), kind);
  if (!speed) return finding_ok("disk", where + "; the file is too small to measure the speed");
  const std::string found = fmt::format("{}, {:.2f} GB/s", where, *speed / 1e9);
  if (*speed < kSlowDisk)
    return finding_warning("disk", found,
                           "a model that is larger than memory will answer slowly from here: an NVMe disk is several "
                           "times faster");
  return finding_ok("disk", found);
}

Finding check_model_access(const fs::path& model, const SystemUser& user, bool service) {
  if (service && hidden_from_service(model))
    return finding_error("model", fmt::format("{} lies where the unit lets the daemon see nothing", model.string()),
                         "`sirocco setup FILE` puts it into /var/lib/sirocco/models; or a drop-in with "
                         "ProtectHome=read-only");
  if (const auto why = why_not_readable(model, user))
    return finding_error("model", fmt::format("{} cannot be read by {}: {}", model.string(), user.name, *why),
                         "chmod o+r the file and o+x its folders, or `sirocco setup --copy FILE`");
  return finding_ok("model", fmt::format("{} can be read by {}", model.string(), user.name));
}

Finding check_free_space(const fs::path& folder) {
  struct statvfs status = {};
  if (statvfs(folder.c_str(), &status) != 0)
    return finding_warning("disk space", fmt::format("{}: {}", folder.string(), errno_message(errno)),
                           "sessions cannot be saved: the package's unit makes this folder (StateDirectory=sirocco)");
  const std::uint64_t free = std::uint64_t{status.f_bavail} * status.f_frsize;
  const std::string found = fmt::format("{} free at {}", format_bytes(free), folder.string());
  if (free >= kLittleSpace) return finding_ok("disk space", found);
  const std::string advice = "sessions and models need room: delete what is not needed there";
  return free == 0 ? finding_error("disk space", found, advice) : finding_warning("disk space", found, advice);
}

Finding check_state_folder(const fs::path& folder, const SystemUser& user) {
  struct stat status = {};
  if (stat(folder.c_str(), &status) != 0)
    return finding_warning("state folder", fmt::format("{}: {}", folder.string(), errno_message(errno)),
                           "sessions are not saved; the package's unit makes it (StateDirectory=sirocco)");
  if (allows(status, user, 7))
    return finding_ok("state folder", fmt::format("{} belongs to {}", folder.string(), user.name));
  return finding_error("state folder",
                       fmt::format("{} cannot be written by {}: mode {:o} of {}:{}", folder.string(), user.name,
                                   status.st_mode & 07777U, user_of(status.st_uid).name, group_name(status.st_gid)),
                       fmt::format("chown {} {}", user.name, folder.string()));
}

}  // namespace sirocco

#include "cli/system_user.h"

#include <fmt/format.h>
#include <grp.h>
#include <pwd.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "engine/base/result.h"

namespace sirocco {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kEntryBytes = 16384;  // of a user or a group, by glibc's advice
constexpr int kMaxGroups = 1024;

SystemUser from_entry(const passwd& entry) {
  SystemUser user = {.name = entry.pw_name, .uid = entry.pw_uid, .groups = {}};
  user.groups.resize(kMaxGroups);
  int count = kMaxGroups;
  if (getgrouplist(entry.pw_name, entry.pw_gid, user.groups.data(), &count) < 0) count = kMaxGroups;
  user.groups.resize(static_cast<std::size_t>(count));
  return user;
}

}  // namespace

bool SystemUser::in(gid_t group) const {
  return std::find(groups.begin(), groups.end(), group) != groups.end();
}

std::optional<SystemUser> user_named(const std::string& name) {
  std::array<char, kEntryBytes> buffer{};
  passwd entry{};
  passwd* found = nullptr;
  getpwnam_r(name.c_str(), &entry, buffer.data(), buffer.size(), &found);
  if (found == nullptr) return std::nullopt;
  return from_entry(*found);
}

SystemUser user_of(uid_t uid) {
  std::array<char, kEntryBytes> buffer{};
  passwd entry{};
  passwd* found = nullptr;
  getpwuid_r(uid, &entry, buffer.data(), buffer.size(), &found);
  if (found == nullptr) return SystemUser{.name = fmt::format("{}", uid), .uid = uid, .groups = {}};
  return from_entry(*found);
}

std::string group_name(gid_t group_id) {
  std::array<char, kEntryBytes> buffer{};
  group entry{};
  group* found = nullptr;
  getgrgid_r(group_id, &entry, buffer.data(), buffer.size(), &found);
  return found == nullptr ? fmt::format("{}", group_id) : found->gr_name;
}

bool allows(const struct stat& file, const SystemUser& user, mode_t bits) {
  if (user.uid == 0) return true;
  const mode_t shift = file.st_uid == user.uid ? 6 : user.in(file.st_gid) ? 3 : 0;
  return (file.st_mode >> shift & bits) == bits;
}

std::optional<std::string> why_not_readable(const fs::path& file, const SystemUser& user) {
  std::error_code error;
  const fs::path real = fs::canonical(file, error);
  if (error) return fmt::format("{}: {}", file.string(), error.message());
  fs::path at;
  for (const fs::path& part : real) {
    at /= part;
    struct stat status = {};
    if (stat(at.c_str(), &status) != 0) return fmt::format("{}: {}", at.string(), errno_message(errno));
    const bool last = at == real;
    if (!allows(status, user, last ? 4 : 1))
      return fmt::format("{}: mode {:o} of {}:{} does not let {} {} it", at.string(), status.st_mode & 07777U,
                         user_of(status.st_uid).name, group_name(status.st_gid), user.name, last ? "read" : "enter");
  }
  return std::nullopt;
}

bool hidden_from_service(const fs::path& file) {
  std::error_code error;
  const fs::path real = fs::weakly_canonical(file, error);
  const std::string path = error ? fs::absolute(file, error).string() : real.string();
  constexpr std::array<std::string_view, 5> kHidden = {"/home/", "/root/", "/run/user/", "/tmp/", "/var/tmp/"};
  return std::any_of(kHidden.begin(), kHidden.end(),
                     [&path](std::string_view folder) { return path.starts_with(folder); });
}

}  // namespace sirocco

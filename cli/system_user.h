// A user of the system, and what its permissions let it read. Judged by owner, group and mode alone: access control
// lists may allow more.
#pragma once

#include <sys/types.h>

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

struct stat;

namespace sirocco {

struct SystemUser {
  std::string name;
  uid_t uid = 0;
  std::vector<gid_t> groups;  // its own and the supplementary ones

  bool in(gid_t group) const;
};

// The user that the packages make for the daemon.
inline constexpr const char* kDaemonUser = "sirocco";

std::optional<SystemUser> user_named(const std::string& name);
SystemUser user_of(uid_t uid);  // named by its number where it has no name

std::string group_name(gid_t group);  // its number where it has none

// Whether all of `bits` (4 read, 2 write, 1 execute or enter) are allowed.
bool allows(const struct stat& file, const SystemUser& user, mode_t bits);

// What keeps the user from reading a file, from the outermost folder on; nothing: it may. Links are followed.
std::optional<std::string> why_not_readable(const std::filesystem::path& file, const SystemUser& user);

// Whether it lies where the unit lets the daemon see nothing, whatever the permissions (ProtectHome=, PrivateTmp=).
bool hidden_from_service(const std::filesystem::path& file);

}  // namespace sirocco

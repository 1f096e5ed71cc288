#include "daemon/client_policy.h"

#include <grp.h>
#include <pwd.h>

#include <algorithm>
#include <charconv>

namespace sirocco::daemon {
namespace {

constexpr std::size_t kEntryBytes = 65536;  // of a user or a group with the names of its members

// "1000": a user or group may be named by its number, whether or not it has a name.
template <class Id>
std::optional<Id> number_of(const std::string& name) {
  Id id = 0;
  const char* const end = name.data() + name.size();
  const auto [rest, error] = std::from_chars(name.data(), end, id);
  return error == std::errc() && rest == end ? std::optional(id) : std::nullopt;
}

Result<uid_t> user_of(const ClientRule& rule) {
  if (const auto id = number_of<uid_t>(rule.user)) return *id;
  passwd entry{};
  passwd* found = nullptr;
  std::vector<char> buffer(kEntryBytes);
  getpwnam_r(rule.user.c_str(), &entry, buffer.data(), buffer.size(), &found);
  if (found != nullptr) return entry.pw_uid;
  return fail(ErrorCode::not_found, "clients.rules.{}.user: there is no user \"{}\": create it, or name another",
              rule.name, rule.user);
}

Result<gid_t> group_of(const ClientRule& rule) {
  if (const auto id = number_of<gid_t>(rule.group)) return *id;
  group entry{};
  group* found = nullptr;
  std::vector<char> buffer(kEntryBytes);
  getgrnam_r(rule.group.c_str(), &entry, buffer.data(), buffer.size(), &found);
  if (found != nullptr) return entry.gr_gid;
  return fail(ErrorCode::not_found, "clients.rules.{}.group: there is no group \"{}\": create it, or name another",
              rule.name, rule.group);
}

}  // namespace

bool ClientPolicy::allows(wire::Priority priority) const {
  switch (priority) {
    case wire::Priority::realtime:
      return realtime;
    case wire::Priority::batch:
      return batch;
    case wire::Priority::interactive:
      break;
  }
  return interactive;
}

std::string ClientPolicy::classes() const {
  std::string names;
  for (const auto& [has, name] : {std::pair(realtime, "realtime"), {interactive, "interactive"}, {batch, "batch"}})
    if (has) names += fmt::format("{}{}", names.empty() ? "" : ", ", name);
  return names;
}

Result<ClientPolicies> ClientPolicies::resolve(const ClientsConfig& config) {
  ClientPolicies policies;
  for (const ClientRule& rule : config.rules) {
    Entry entry = {.user = {}, .group = {}, .found = {.where = "clients.rules." + rule.name, .policy = rule.policy}};
    if (!rule.user.empty()) {
      SIROCCO_TRY(entry.user, user_of(rule));
    }
    if (!rule.group.empty()) {
      SIROCCO_TRY(entry.group, group_of(rule));
    }
    policies.entries_.push_back(std::move(entry));
  }
  policies.entries_.push_back(
      {.user = {}, .group = {}, .found = {.where = "clients.default", .policy = config.others}});
  return policies;
}

const ClientPolicies::Found& ClientPolicies::find(const Peer& peer) const {
  const auto fits = [&](const Entry& entry) {
    const bool in_group = !entry.group || *entry.group == peer.gid ||
                          std::find(peer.groups.begin(), peer.groups.end(), *entry.group) != peer.groups.end();
    return in_group && (!entry.user || *entry.user == peer.uid);
  };
  return std::find_if(entries_.begin(), entries_.end(), fits)->found;
}

}  // namespace sirocco::daemon

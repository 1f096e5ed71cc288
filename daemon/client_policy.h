// What a client may do, by who the kernel says it is. The configuration's section `clients` says it: a default, and
// rules by user or group of which the first that fits counts.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "engine/base/result.h"
#include "ipc/server/handler.h"

namespace sirocco::daemon {

struct ClientPolicy {
  bool allowed = true;
  // Requests of these classes may be made.
  bool realtime = true;
  bool interactive = true;
  bool batch = true;
  std::uint32_t weight = 1;                    // tokens of a user in a class go by it
  std::uint32_t connections = 64;              // of a user, as all that follow
  std::uint32_t in_flight_per_connection = 8;  // requests
  std::uint32_t in_flight = 64;                // of all its connections
  std::uint32_t max_queued = 32;
  std::uint32_t tokens_per_minute = 0;  // of prompts and answers; 0: any number
  bool operator==(const ClientPolicy&) const = default;

  bool allows(wire::Priority priority) const;
  std::string classes() const;  // "interactive, batch"
};

struct ClientRule {
  std::string name;
  std::string user;   // by name or number; empty: any
  std::string group;  // likewise; one of the client's, supplementary ones included
  ClientPolicy policy;
  bool operator==(const ClientRule&) const = default;
};

struct ClientsConfig {
  ClientPolicy others;            // clients.default
  std::vector<ClientRule> rules;  // in the order of the file
  bool operator==(const ClientsConfig&) const = default;
};

// The rules with the numbers of their users and groups. Immutable.
class ClientPolicies {
 public:
  // Error: a user or a group that does not exist.
  static Result<ClientPolicies> resolve(const ClientsConfig& config);

  struct Found {
    std::string where;  // "clients.rules.robots" or "clients.default", for messages
    ClientPolicy policy;
  };
  const Found& find(const Peer& peer) const;

 private:
  struct Entry {
    std::optional<uid_t> user;
    std::optional<gid_t> group;
    Found found;
  };
  std::vector<Entry> entries_;  // the last fits everybody
};

}  // namespace sirocco::daemon

// Sessions of the daemon, for the commands that talk in one.
#pragma once

#include <string>

#include "ipc/client/client.h"

namespace sirocco {

// The session as it is, or a new one.
ClientResult<wire::SessionState> find_or_open(Client& client, const std::string& name, wire::SessionOverflow overflow);

}  // namespace sirocco

// sirocco status --check: one line and an exit code for monitoring, by the convention of Nagios' plugins.
#pragma once

#include <string>

#include "ipc/client/client.h"

namespace sirocco {

struct StatusCheck {
  // 0: READY. 1: it answers, or will, but somebody should look: DEGRADED, DRAINING, STARTING. 2: nobody is answered:
  // FAILED, NO_MODEL, no daemon. 3: not known, since the daemon could not be asked.
  int exit_code = 3;
  std::string line;  // "DEGRADED: Mixtral: memory is short", without an end of line
};

StatusCheck check_status(const ClientResult<wire::StatusReport>& report);

}  // namespace sirocco

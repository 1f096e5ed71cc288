// Where log lines go: standard error (under systemd, the journal), or a file that SIGHUP opens again for logrotate.
#pragma once

#include "daemon/config.h"
#include "engine/base/result.h"

namespace sirocco::daemon {

Result<void> open_log(const LogConfig& config);

// Opens the file again by its name; on failure the old one stays in use and gets the error.
void reopen_log(const LogConfig& config);

}  // namespace sirocco::daemon

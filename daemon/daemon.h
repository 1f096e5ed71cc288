// The daemon from start to end: engine, server and supervisor, made in that order and ended in the other.
#pragma once

#include "daemon/config.h"
#include "daemon/supervisor.h"
#include "engine/base/result.h"

namespace sirocco::daemon {

// Serves until SIGTERM or SIGINT. Error: it could not start, or the engine could not go on.
Result<void> run(const Config& config, Supervisor& supervisor);

}  // namespace sirocco::daemon

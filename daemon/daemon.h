// The daemon from start to end: engine, server and supervisor, made in that order and ended in the other.
#pragma once

#include <functional>

#include "daemon/config.h"
#include "daemon/supervisor.h"
#include "engine/base/result.h"

namespace sirocco::daemon {

// The configuration as it is now: read at the start and at each reload.
using ConfigSource = std::function<Result<Config>()>;

// Serves until SIGTERM, SIGINT or an administrator ends it. Error: it could not start, or the engine could not go on.
Result<void> run(const Config& config, const ConfigSource& read_config, Supervisor& supervisor);

}  // namespace sirocco::daemon

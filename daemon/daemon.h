// The daemon from start to end: server, engine and supervisor. Clients are answered while the model is loaded.
#pragma once

#include <functional>

#include "daemon/config.h"
#include "daemon/supervisor.h"
#include "engine/base/result.h"

namespace sirocco::daemon {

// The configuration as it is now: read at the start and at each reload.
using ConfigSource = std::function<Result<Config>()>;

// Serves until SIGTERM, SIGINT or an administrator ends it. stay_up: a model that cannot be loaded is the state FAILED,
// until a reload can; else it ends the daemon. Error: it could not start, or the engine could not go on.
Result<void> run(const Config& config, const ConfigSource& read_config, Supervisor& supervisor, bool stay_up);

}  // namespace sirocco::daemon

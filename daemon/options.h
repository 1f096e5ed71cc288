// The configuration's values as the options of the engine and of the server. Pure functions of the configuration and
// the environment.
#pragma once

#include "daemon/config.h"
#include "engine/engine.h"
#include "ipc/server/server.h"

namespace sirocco::daemon {

EngineOptions engine_options(const Config& config);

ServerLimits server_limits(const LimitsConfig& config);

// Whether these ask for the same model with the same memory and settings.
bool same_engine(const Config& a, const Config& b);

// What has changed and is not taken over while the daemon runs: "server", "log.file".
std::vector<std::string> need_restart(const Config& before, const Config& after);

}  // namespace sirocco::daemon

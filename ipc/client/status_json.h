// The daemon's status report for programs, the same from `sirocco status --json` and from the C interface.
#pragma once

#include <nlohmann/json_fwd.hpp>

#include "ipc/wire/messages.h"

namespace sirocco {

// The report's fields under the names of the protocol; states as written there ("READY").
nlohmann::ordered_json status_json(const wire::StatusReport& report);

}  // namespace sirocco

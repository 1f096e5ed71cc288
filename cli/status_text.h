// The daemon's status report, for people and for programs.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

#include "ipc/client/client.h"

namespace sirocco {

// Ends with a newline; one screen, and with `layers` the experts of each layer. Text that came from the model file has
// its control characters replaced.
std::string status_text(const wire::StatusReport& report, bool layers = false);

// The report's fields under the names of the protocol; states as written there ("READY").
nlohmann::ordered_json status_json(const wire::StatusReport& report);

}  // namespace sirocco

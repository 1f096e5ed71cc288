// The daemon's status report, for people.
#pragma once

#include <string>

#include "ipc/client/client.h"

namespace sirocco {

// Ends with a newline; one screen, and with `layers` the experts of each layer. Text that came from the model file has
// its control characters replaced.
std::string status_text(const wire::StatusReport& report, bool layers = false);

}  // namespace sirocco

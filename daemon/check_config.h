// What is wrong with a configuration that its text does not show: users, groups, files and folders that are not there.
// For `siroccod --check-config`, before a restart finds out.
#pragma once

#include <string>
#include <vector>

#include "daemon/config.h"

namespace sirocco::daemon {

// A line each; none: all that can be known without loading the model is right. The sockets' folder is not looked for:
// systemd makes it at the start (RuntimeDirectory=).
std::vector<std::string> problems_of(const Config& config);

}  // namespace sirocco::daemon

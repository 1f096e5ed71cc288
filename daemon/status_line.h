// How the daemon is, for people: one line for systemd (systemctl status) and the log; and what a model that was loaded
// is made of, line by line.
#pragma once

#include <string>

#include "engine/engine.h"
#include "ipc/wire/messages.h"

namespace sirocco::daemon {

// "Ready: Mixtral"; with what does not work as well as it should, or what is waited for.
std::string status_line(const wire::StatusReport& report);

// The line into the log, if the state is another than before, or the reasons are and do not change all the time.
void log_state(wire::State before, const wire::StatusReport& report);

// The model, what computes, and the memory plan, into the log.
void log_plan(const Engine& engine);

}  // namespace sirocco::daemon

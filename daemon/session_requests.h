// What clients ask of sessions, done by the engine. Called on the text thread: to close or to find one may read and
// write files.
#pragma once

#include "engine/sessions.h"
#include "ipc/server/handler.h"

namespace sirocco::daemon {

// Errors: those of the engine.
Result<wire::SessionReport> change_session(Sessions& sessions, const Peer& peer, const wire::Session& request);

}  // namespace sirocco::daemon

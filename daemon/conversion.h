// The engine's values as messages, and the other way round. Pure functions.
#pragma once

#include "daemon/client_policy.h"
#include "engine/engine.h"
#include "ipc/wire/messages.h"

namespace sirocco::daemon {

wire::Error to_wire(const Error& error);
wire::Done to_wire(const DoneEvent& done);
wire::ModelCard model_card(const EngineParts& parts);

// Error UNSUPPORTED: what the protocol knows and this version does not do yet. Nothing is ignored silently.
Result<GenerateRequest> from_wire(wire::Generate&& generate, std::uint32_t uid, const ClientPolicy& policy);

// READY, DEGRADED or FAILED.
wire::State state_of(const EngineStatus& status);

// The plan, speed and requests of an engine; its state, who asked for what, and how it ended, is filled in by the
// caller.
void fill_status(const EngineParts& parts, const EngineStatus& status, wire::StatusReport& report);

}  // namespace sirocco::daemon

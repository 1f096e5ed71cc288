#include "daemon/session_requests.h"

#include <algorithm>

#include "ipc/wire/limits.h"

namespace sirocco::daemon {
namespace {

wire::SessionState to_wire(const SessionState& state) {
  return {.name = state.name,
          .uid = state.uid,
          .turns = state.turns,
          .tokens = state.tokens,
          .overflow = state.overflow == SessionOverflow::drop_oldest ? wire::SessionOverflow::drop_oldest
                                                                     : wire::SessionOverflow::fail,
          .busy = state.busy,
          .idle_ms = static_cast<std::uint64_t>(state.idle.count()),
          .saved_bytes = state.saved_bytes};
}

wire::SessionReport all_of(const Sessions& sessions, const Peer& peer) {
  wire::SessionReport report;
  for (const SessionState& state : sessions.list(peer.admin ? std::nullopt : std::optional(peer.uid)))
    if (report.sessions.size() < wire::kMaxSessions) report.sessions.push_back(to_wire(state));
  return report;
}

wire::SessionReport one(const SessionState& state) {
  return {.sessions = {to_wire(state)}};
}

}  // namespace

Result<wire::SessionReport> change_session(Sessions& sessions, const Peer& peer, const wire::Session& request) {
  switch (request.action) {
    case wire::SessionAction::open:
      return sessions
          .open(peer.uid, request.name,
                request.overflow == wire::SessionOverflow::drop_oldest ? SessionOverflow::drop_oldest
                                                                       : SessionOverflow::fail)
          .map(one);
    case wire::SessionAction::fork:
      return sessions.fork(peer.uid, request.name, request.to).map(one);
    case wire::SessionAction::rewind:
      return sessions.rewind(peer.uid, request.name, request.turns).map(one);
    case wire::SessionAction::close:
      return sessions.close(peer.uid, request.name, request.save).map([] { return wire::SessionReport(); });
    case wire::SessionAction::list:
      break;
  }
  return all_of(sessions, peer);
}

}  // namespace sirocco::daemon

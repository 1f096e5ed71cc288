// Log lines for systemd's journal, by its own protocol, where standard error is the journal: a level, and fields that
// journalctl can search by (journalctl -u sirocco SIROCCO_STATE=DEGRADED).
#pragma once

#include <spdlog/common.h>

#include <string>
#include <string_view>
#include <vector>

#include "daemon/log_event.h"

namespace sirocco::daemon {

// Whether what is written to this descriptor goes to the journal. stream: $JOURNAL_STREAM, "device:inode" of what
// systemd has opened for us (systemd.exec(5)); null: it has not.
bool is_journal(int descriptor, const char* stream);

// "MESSAGE=...", "PRIORITY=6", ...: the line as the journal wants it. event: null for a line without.
std::vector<std::string> journal_fields(spdlog::level::level_enum level, std::string_view message,
                                        const LoggedEvent* event);

spdlog::sink_ptr journal_sink();

}  // namespace sirocco::daemon

// What a Timeline recorded, for `sirocco bench --trace`: a file that chrome://tracing and Perfetto show, and what the
// time of prompts and answers went to.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <ostream>
#include <string>
#include <string_view>

#include "engine/base/timeline.h"

namespace sirocco {

// In the Chrome trace event format: the engine thread's work on one track, each read on the first track that is free.
// `about` is written as the file's metadata, with the number of events and of those left out.
void write_chrome_trace(std::ostream& out, const Timeline& timeline, nlohmann::ordered_json about);

// {"seconds", "computing", "waiting", "other"}, shares of the time; with reads from disk also "disk_idle", the share
// without a read under way, and "read_gb_s", what was read by all the time. A read is over when the engine thread
// looks, so the disk idles for longer than that.
nlohmann::ordered_json phase_json(const Timeline::Totals& totals, bool reads);

// Lines of text about {"file", "events", "events_left_out", "prefill", "decode"}: how much of the time was computing,
// waiting for reads and something else.
std::string timeline_text(const nlohmann::ordered_json& report);

}  // namespace sirocco

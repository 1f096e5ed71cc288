#include "cli/timeline_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <numeric>
#include <string>
#include <vector>

#include "engine/base/printable.h"

namespace sirocco {
namespace {

// Processes and threads, as the format calls groups of tracks and tracks; Perfetto wants their numbers unique.
constexpr int kEngine = 1;
constexpr int kReads = 2;
constexpr std::size_t kEngineTrack = 1;
constexpr std::size_t kFirstRead = 2;

std::string_view category(Timeline::Kind kind) {
  if (kind == Timeline::Kind::read) return "read";
  switch (Timeline::share(kind)) {
    case Timeline::Share::computing:
      return "compute";
    case Timeline::Share::waiting:
      return "wait";
    case Timeline::Share::none:
      break;
  }
  return "other";
}

void append_name(std::string_view what, int process, std::size_t track, std::string_view name, std::string& out) {
  fmt::format_to(std::back_inserter(out),
                 ",\n{{\"ph\":\"M\",\"name\":\"{}\",\"pid\":{},\"tid\":{},\"args\":{{\"name\":\"{}\"}}}}", what,
                 process, track, name);
}

// Microseconds, with the nanoseconds behind the point.
std::string microseconds(std::uint64_t ns) {
  return fmt::format("{}.{:03}", ns / 1000, ns % 1000);
}

void append_event(const Timeline::Event& event, std::size_t track, std::string& out) {
  const bool read = event.kind == Timeline::Kind::read;
  std::string name(Timeline::name(event.kind));
  if (read) name = fmt::format("layer {} expert {}", event.layer, event.expert);
  if (event.kind == Timeline::Kind::layer) name = fmt::format("layer {}", event.layer);
  fmt::format_to(
      std::back_inserter(out),
      ",\n{{\"ph\":\"X\",\"name\":\"{}\",\"cat\":\"{}\",\"pid\":{},\"tid\":{},\"ts\":{},\"dur\":{},\"args\":{{", name,
      category(event.kind), read ? kReads : kEngine, track, microseconds(event.begin_ns),
      microseconds(event.end_ns - event.begin_ns));
  std::string_view comma;
  const auto argument = [&](std::string_view argument_name, std::uint64_t value) {
    fmt::format_to(std::back_inserter(out), "{}\"{}\":{}", comma, argument_name, value);
    comma = ",";
  };
  if (event.layer != Timeline::kNone) argument("layer", event.layer);
  if (read) {
    argument("expert", event.expert);
    argument("extent", event.extent);
    if (event.failed) argument("failed", 1);
  }
  if (event.experts != 0) argument("experts", event.experts);
  if (event.rows != 0) argument("rows", event.rows);
  if (event.bytes != 0) argument("bytes", event.bytes);
  out += "}}";
}

// "61 % computing, 35 % waiting for reads, 4 % other"
std::string phase_text(const nlohmann::ordered_json& phase) {
  const auto percent = [&](const char* name) { return 100 * phase[name].get<double>(); };
  std::string text = fmt::format("{:.1f} % computing, {:.1f} % waiting for reads, {:.1f} % other", percent("computing"),
                                 percent("waiting"), percent("other"));
  if (phase.contains("disk_idle"))
    text += fmt::format("; no read under way {:.1f} % of the time, {:.2f} GB/s read", percent("disk_idle"),
                        phase["read_gb_s"].get<double>());
  return text;
}

}  // namespace

void write_chrome_trace(std::ostream& out, const Timeline& timeline, nlohmann::ordered_json about) {
  const std::vector<Timeline::Event>& events = timeline.events();
  // What encloses others comes before them.
  std::vector<std::uint32_t> order(events.size());
  std::iota(order.begin(), order.end(), 0U);
  std::sort(order.begin(), order.end(), [&](std::uint32_t a, std::uint32_t b) {
    return events[a].begin_ns != events[b].begin_ns ? events[a].begin_ns < events[b].begin_ns
           : events[a].end_ns != events[b].end_ns   ? events[a].end_ns > events[b].end_ns
                                                    : a > b;
  });
  about["events"] = events.size();
  about["events_left_out"] = timeline.left_out();
  out << "{\"displayTimeUnit\":\"ms\",\n\"otherData\":"
      << about.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace) << ",\n\"traceEvents\":[";
  std::string lines;
  append_name("process_name", kEngine, kEngineTrack, "engine", lines);
  append_name("thread_name", kEngine, kEngineTrack, "engine thread", lines);
  append_name("process_name", kReads, kFirstRead, "reads, until the engine thread hears of their end", lines);
  lines.erase(0, 1);                   // the comma before the first
  std::vector<std::uint64_t> free_at;  // each track of reads
  for (const std::uint32_t index : order) {
    const Timeline::Event& event = events[index];
    std::size_t track = kEngineTrack;
    if (event.kind == Timeline::Kind::read) {
      const auto found =
          std::find_if(free_at.begin(), free_at.end(), [&](std::uint64_t end) { return end <= event.begin_ns; });
      const auto place = static_cast<std::size_t>(found - free_at.begin());
      track = kFirstRead + place;
      if (place == free_at.size()) {
        append_name("thread_name", kReads, track, fmt::format("read {:03}", place + 1), lines);
        free_at.push_back(0);
      }
      free_at[place] = event.end_ns;
    }
    append_event(event, track, lines);
    out << lines;
    lines.clear();
  }
  out << lines << "\n]}\n";
}

nlohmann::ordered_json phase_json(const Timeline::Totals& totals, bool reads) {
  const auto all = static_cast<double>(std::max<std::uint64_t>(totals.ns, 1));
  const double computing = static_cast<double>(totals.computing_ns) / all;
  const double waiting = static_cast<double>(totals.waiting_ns) / all;
  nlohmann::ordered_json phase = {{"seconds", all * 1e-9},
                                  {"computing", computing},
                                  {"waiting", waiting},
                                  {"other", std::max(0.0, 1 - computing - waiting)}};
  if (reads) {
    phase["disk_idle"] = 1 - static_cast<double>(totals.reading_ns) / all;
    phase["read_gb_s"] = static_cast<double>(totals.bytes_read) / all;
  }
  return phase;
}

std::string timeline_text(const nlohmann::ordered_json& report) {
  std::string text = fmt::format("timeline {}, of the last run\n", printable(report["file"].get<std::string>()));
  if (const auto left_out = report["events_left_out"].get<std::size_t>(); left_out != 0)
    text += fmt::format("         cut: the first {} events are in it, {} are left out\n",
                        report["events"].get<std::size_t>(), left_out);
  text += fmt::format("         prompts: {}\n         answers: {}\n", phase_text(report["prefill"]),
                      phase_text(report["decode"]));
  return text;
}

}  // namespace sirocco

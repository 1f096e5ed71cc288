// The file that `sirocco bench --trace` writes: JSON that viewers read, in which nothing overlaps on a track.
#include "cli/timeline_report.h"

#include <gtest/gtest.h>

#include <map>
#include <sstream>
#include <vector>

namespace sirocco {
namespace {

using Json = nlohmann::ordered_json;
using Kind = Timeline::Kind;

Json written(const Timeline& timeline, const Json& about = Json::object()) {
  std::ostringstream out;
  write_chrome_trace(out, timeline, about);
  return Json::parse(out.str());
}

// A layer that computes while two reads are under way, then waits for them; then another.
void record(Timeline& timeline) {
  timeline.start();
  for (std::uint32_t layer = 0; layer < 2; ++layer) {
    const Timeline::Span whole(&timeline, {.kind = Kind::layer, .layer = layer});
    const std::uint64_t begun = timeline.reads_begin(2);
    { const Timeline::Span compute(&timeline, {.kind = Kind::gate_up, .layer = layer, .experts = 3, .rows = 4}); }
    const Timeline::Span wait(&timeline, {.kind = Kind::wait, .layer = layer});
    timeline.read_ends({.kind = Kind::read, .extent = 1, .layer = layer, .expert = 7, .bytes = 4096}, begun);
    timeline.read_ends({.kind = Kind::read, .layer = layer, .expert = 6, .bytes = 8192}, begun);
  }
  timeline.stop();
}

TEST(ChromeTrace, EveryTrackNestsAndReadsAreBesideEachOther) {
  Timeline timeline(100);
  record(timeline);
  const Json file = written(timeline);
  std::map<int, std::vector<Json>> open;  // by track: what has begun and not ended
  std::map<std::string, int> names;
  std::map<std::string, int> categories;
  double last = 0;
  for (const Json& event : file["traceEvents"]) {
    if (event["ph"] == "M") continue;
    ASSERT_EQ(event["ph"], "X");
    ++names[event["name"]];
    ++categories[event["cat"]];
    const double begin = event["ts"];
    EXPECT_GE(begin, last);
    last = begin;
    auto& spans = open[event["tid"]];
    const auto end = [](const Json& span) { return span["ts"].get<double>() + span["dur"].get<double>(); };
    constexpr double kRounding = 1e-6;  // of microseconds
    while (!spans.empty() && end(spans.back()) <= begin + kRounding) spans.pop_back();
    if (!spans.empty()) {
      EXPECT_LE(end(event), end(spans.back()) + kRounding) << event;
      EXPECT_EQ(event["pid"], 1) << "reads do not nest: " << event;
    }
    spans.push_back(event);
  }
  EXPECT_EQ(open.size(), 3U);  // the engine thread, and as many reads as were under way together
  EXPECT_EQ(categories, (std::map<std::string, int>{{"compute", 2}, {"other", 2}, {"read", 4}, {"wait", 2}}));
  EXPECT_EQ(names["layer 1"], 1);
  EXPECT_EQ(names["layer 1 expert 7"], 1);
  EXPECT_EQ(names["gate, up"], 2);
}

TEST(ChromeTrace, ArgumentsSayWhatItWas) {
  Timeline timeline(100);
  record(timeline);
  const Json file = written(timeline);
  for (const Json& event : file["traceEvents"]) {
    if (event["name"] == "gate, up") {
      EXPECT_EQ(event["args"]["experts"], 3);
      EXPECT_EQ(event["args"]["rows"], 4);
    }
    if (event["name"] == "layer 0 expert 7") {
      EXPECT_EQ(event["args"], (Json{{"layer", 0}, {"expert", 7}, {"extent", 1}, {"bytes", 4096}}));
    }
  }
}

TEST(ChromeTrace, SaysWhatItIsAboutAndWhatWasLeftOut) {
  Timeline timeline(3);
  record(timeline);
  const Json about = written(timeline, {{"model", "a \"b\"\n\xff"}})["otherData"];
  EXPECT_EQ(about["model"], "a \"b\"\n\xef\xbf\xbd");
  EXPECT_EQ(about["events"], 3);
  EXPECT_EQ(about["events_left_out"], 7);
  const std::string text = timeline_text({{"file", "t.json"},
                                          {"events", 3},
                                          {"events_left_out", 7},
                                          {"prefill", phase_json({.ns = 4}, false)},
                                          {"decode", phase_json({.ns = 4}, false)}});
  EXPECT_NE(text.find("cut: the first 3 events are in it, 7 are left out"), std::string::npos) << text;
}

TEST(ChromeTrace, OfNothingIsAFile) {
  EXPECT_FALSE(written(Timeline(0))["traceEvents"].empty());
}

TEST(TimelineReport, SharesOfAPhaseAddUp) {
  const Timeline::Totals totals = {.ns = 4'000'000'000,
                                   .computing_ns = 1'000'000'000,
                                   .waiting_ns = 2'000'000'000,
                                   .reading_ns = 3'000'000'000,
                                   .bytes_read = 2'000'000'000};
  EXPECT_EQ(phase_json(totals, true), (Json{{"seconds", 4.0},
                                            {"computing", 0.25},
                                            {"waiting", 0.5},
                                            {"other", 0.25},
                                            {"disk_idle", 0.25},
                                            {"read_gb_s", 0.5}}));
  EXPECT_FALSE(phase_json(totals, false).contains("disk_idle"));  // no reads of ours
}

}  // namespace
}  // namespace sirocco

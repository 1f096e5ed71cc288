// The timeline of a measured run: what is recorded, and that the totals hold what is not.
#include "engine/base/timeline.h"

#include <gtest/gtest.h>

#include <thread>

namespace sirocco {
namespace {

using Kind = Timeline::Kind;

void work() {
  std::this_thread::sleep_for(std::chrono::microseconds(50));
}

TEST(Timeline, SpansNest) {
  Timeline timeline(10);
  timeline.start();
  {
    const Timeline::Span step(&timeline, {.kind = Kind::step, .rows = 3});
    work();
    {
      Timeline::Span down(&timeline, {.kind = Kind::down, .layer = 2});
      down.event().bytes = 7;
      work();
    }
    const Timeline::Span sum(&timeline, {.kind = Kind::sum});
    work();
  }
  const auto& events = timeline.events();
  ASSERT_EQ(events.size(), 3U);  // in the order of their ends
  EXPECT_EQ(events[0].kind, Kind::down);
  EXPECT_EQ(events[0].layer, 2U);
  EXPECT_EQ(events[0].bytes, 7U);
  EXPECT_EQ(events[1].kind, Kind::sum);
  EXPECT_EQ(events[1].layer, Timeline::kNone);
  EXPECT_EQ(events[2].kind, Kind::step);
  EXPECT_EQ(events[2].rows, 3U);
  EXPECT_LT(events[2].begin_ns, events[0].begin_ns);
  EXPECT_LT(events[0].begin_ns, events[0].end_ns);
  EXPECT_LE(events[0].end_ns, events[1].begin_ns);
  EXPECT_LE(events[1].end_ns, events[2].end_ns);
  const Timeline::Totals totals = timeline.totals();
  const auto took = [](const Timeline::Event& event) { return event.end_ns - event.begin_ns; };
  EXPECT_EQ(totals.computing_ns, took(events[0]) + took(events[1]));
  EXPECT_EQ(totals.waiting_ns, 0U);
  EXPECT_GE(totals.ns, events[2].end_ns);
}

TEST(Timeline, RecordsNothingWhereThereIsNoneOrItIsStopped) {
  { const Timeline::Span none(nullptr, {.kind = Kind::step}); }
  Timeline timeline(10);
  { const Timeline::Span early(&timeline, {.kind = Kind::step}); }
  timeline.start();
  { const Timeline::Span recorded(&timeline, {.kind = Kind::route}); }
  timeline.stop();
  { const Timeline::Span late(&timeline, {.kind = Kind::step}); }
  ASSERT_EQ(timeline.events().size(), 1U);
  EXPECT_EQ(timeline.events()[0].kind, Kind::route);
  timeline.start();
  EXPECT_TRUE(timeline.events().empty());
}

TEST(Timeline, WhatDoesNotFitIsCountedAndInTheTotals) {
  Timeline timeline(2);
  timeline.start();
  const auto* const memory = timeline.events().data();
  std::uint64_t recorded = 0;
  for (int i = 0; i < 5; ++i) {
    {
      const Timeline::Span wait(&timeline, {.kind = Kind::wait});
      work();
    }
    if (i == 1) recorded = timeline.totals().waiting_ns;
  }
  EXPECT_EQ(timeline.events().size(), 2U);
  EXPECT_EQ(timeline.events().data(), memory);  // nothing was allocated
  EXPECT_EQ(timeline.left_out(), 3U);
  EXPECT_GT(timeline.totals().waiting_ns, recorded);
  timeline.start();
  EXPECT_EQ(timeline.left_out(), 0U);
}

TEST(Timeline, TheDiskReadsWhileAnyReadIsUnderWay) {
  Timeline timeline(10);
  const std::uint64_t early = timeline.reads_begin(1);
  work();
  timeline.start();
  work();
  const std::uint64_t late = timeline.reads_begin(1);
  work();
  timeline.read_ends({.kind = Kind::read, .layer = 1, .expert = 5, .bytes = 100}, early);
  work();
  const Timeline::Totals between = timeline.totals();
  timeline.read_ends({.kind = Kind::read, .failed = true, .bytes = 10}, late);
  const Timeline::Totals last = timeline.totals();
  work();
  const Timeline::Totals idle = timeline.totals() - last;

  ASSERT_EQ(timeline.events().size(), 2U);
  EXPECT_EQ(timeline.events()[0].begin_ns, 0U);  // it had begun before
  EXPECT_EQ(timeline.events()[0].expert, 5U);
  EXPECT_GT(timeline.events()[1].begin_ns, 0U);
  EXPECT_LT(timeline.events()[1].begin_ns, timeline.events()[0].end_ns);
  EXPECT_EQ(between.reading_ns, between.ns);
  EXPECT_EQ(between.bytes_read, 100U);
  EXPECT_EQ(last.reading_ns, timeline.events()[1].end_ns);
  EXPECT_EQ(last.bytes_read, 110U);
  EXPECT_EQ(idle.reading_ns, 0U);
  EXPECT_GT(idle.ns, 0U);
}

}  // namespace
}  // namespace sirocco

// How many slots there are while memory, budget and warnings change.
#include "engine/experts/slot_governor.h"

#include <gtest/gtest.h>

#include <atomic>
#include <future>
#include <optional>

#include "engine/experts/residency.h"
#include "tests/support/source_dir.h"

namespace sirocco {
namespace {

using namespace std::chrono_literals;

MemoryReading memory(std::uint64_t free, std::size_t slots, std::size_t planned) {
  return {.free = free, .reserve = 100 * MiB, .slot_bytes = 10 * MiB, .slots = slots, .planned = planned};
}

TEST(SlotsFor, ShrinksWhenMemoryIsShortAndGrowsBackToThePlan) {
  EXPECT_EQ(slots_for(memory(100 * MiB, 50, 50)), 50U);
  EXPECT_EQ(slots_for(memory(60 * MiB, 50, 50)), 50U);  // not yet
  EXPECT_EQ(slots_for(memory(45 * MiB, 50, 50)), 44U);
  EXPECT_EQ(slots_for(memory(0, 50, 50)), 40U);
  EXPECT_EQ(slots_for(memory(0, 6, 50)), 2U);
  EXPECT_EQ(slots_for(memory(0, 2, 50)), 2U);
  EXPECT_EQ(slots_for(memory(109 * MiB, 44, 50)), 44U);
  EXPECT_EQ(slots_for(memory(131 * MiB, 44, 50)), 47U);
  EXPECT_EQ(slots_for(memory(10 * GiB, 44, 50)), 50U);
  // What it gave is not taken back at once.
  EXPECT_EQ(slots_for(memory(45 * MiB + 6 * 10 * MiB, 44, 50)), 44U);
}

TEST(SlotsFor, FollowsThePlanDown) {
  EXPECT_EQ(slots_for(memory(10 * GiB, 50, 20)), 20U);
  EXPECT_EQ(slots_for(memory(100 * MiB, 50, 20)), 20U);
  EXPECT_EQ(slots_for(memory(60 * MiB, 50, 20)), 20U);
  EXPECT_EQ(slots_for(memory(0, 50, 20)), 10U);
}

TEST(SlotsFor, AWarningTakesAnEighthAndKeepsThemForAWhile) {
  MemoryReading warned = memory(10 * GiB, 40, 50);
  warned.warned = true;
  warned.calm = false;
  EXPECT_EQ(slots_for(warned), 35U);
  warned.slots = 3;
  EXPECT_EQ(slots_for(warned), 2U);
  warned.slots = 2;
  EXPECT_EQ(slots_for(warned), 2U);
  warned.slots = 40;
  warned.free = 0;  // more is missing
  EXPECT_EQ(slots_for(warned), 30U);
  MemoryReading later = memory(10 * GiB, 35, 50);
  later.calm = false;
  EXPECT_EQ(slots_for(later), 35U);
  later.calm = true;
  EXPECT_EQ(slots_for(later), 50U);
}

// Slots in the memory of a machine on which nothing else happens: what this one's kernel warns of, and how much it has
// left, are not what these tests are about.
class OnACalmMachine final : public ExpertSlots {
 public:
  explicit OnACalmMachine(SlottedExperts& slots) : slots_(slots) {}
  void set_slots(std::size_t slots) override { slots_.set_slots(slots); }
  std::size_t wished_slots() const override { return slots_.wished_slots(); }
  std::size_t slots() const override { return slots_.slots(); }
  std::size_t experts() const override { return slots_.experts(); }
  std::size_t least_slots() const override { return slots_.least_slots(); }
  std::uint64_t slot_bytes() const override { return slots_.slot_bytes(); }
  std::uint64_t free_memory() const override { return GiB; }
  bool of_host() const override { return false; }
  ExpertCounters counters() const override { return slots_.counters(); }
  void preload(std::span<const ExpertId> experts) override { slots_.preload(experts); }
  bool pump() override { return slots_.pump(); }
  std::vector<ExpertId> hot_set() const override { return slots_.hot_set(); }

 private:
  SlottedExperts& slots_;
};

class Governed : public testing::Test {
 protected:
  Governed() {
    const auto model = Model::open(test::golden_dir() / "model" / "tiny-qwen3moe.gguf").value();
    all_ = model->spec().layers * std::size_t{model->spec().moe->experts};
    residency_ = make_residency(model, {.slots = all_, .queue = nullptr}).value();
    experts_.emplace(*residency_.slotted);
  }
  ExpertSlots& experts() { return *experts_; }

  std::size_t all_ = 0;
  Residency residency_;
  std::optional<OnACalmMachine> experts_;
};

TEST_F(Governed, AnotherPlanIsToldWhenItHasBeenFollowed) {
  // Nobody computes: the engine thread is this one, and comes by when it is told to.
  std::promise<void> asked;
  SlotGovernor governor(experts(), all_, 0, [&] { asked.set_value(); });
  EXPECT_EQ(governor.planned(), all_);
  std::promise<std::size_t> told;
  governor.set_plan(5, 0, [&] { told.set_value(experts().slots()); });
  asked.get_future().wait();
  auto slots = told.get_future();
  EXPECT_EQ(slots.wait_for(50ms), std::future_status::timeout);  // they are still there
  while (experts().pump()) std::this_thread::yield();
  EXPECT_EQ(slots.get(), 5U);
  EXPECT_EQ(governor.planned(), 5U);
}

TEST_F(Governed, AtRestOnlyTwoAreLeftWhateverThePlanSays) {
  std::atomic<int> changes = 0;
  SlotGovernor governor(experts(), all_, 0, [&] { ++changes; });
  const auto follow = [&](int change) {
    while (changes < change) std::this_thread::yield();
    while (experts().pump()) std::this_thread::yield();
  };
  governor.set_resting(true);
  follow(1);
  EXPECT_EQ(experts().slots(), SlottedExperts::kLeastSlots);
  std::promise<void> told;
  governor.set_plan(7, 0, [&] { told.set_value(); });
  told.get_future().wait();
  EXPECT_EQ(experts().slots(), SlottedExperts::kLeastSlots);
  governor.set_resting(false);
  follow(2);
  EXPECT_EQ(experts().slots(), 7U);
}

TEST_F(Governed, WhatOthersWishedForMeanwhileDoesNotStay) {
  std::promise<void> asked;
  SlotGovernor governor(experts(), all_, 0, [&] { asked.set_value(); });
  experts().set_slots(SlottedExperts::kLeastSlots);  // as who releases memory does
  while (experts().pump()) std::this_thread::yield();
  governor.set_resting(false);  // it looks
  ASSERT_EQ(asked.get_future().wait_for(20s), std::future_status::ready);
  while (experts().pump()) std::this_thread::yield();
  EXPECT_EQ(experts().slots(), all_);
}

TEST_F(Governed, EachPlanIsToldOnceAtTheLatestAtTheEnd) {
  std::atomic<int> told = 0;
  {
    SlotGovernor governor(experts(), all_, 0, [] {});
    for (const std::size_t planned : {std::size_t{4}, std::size_t{9}, all_, std::size_t{2}})
      governor.set_plan(planned, 0, [&] { ++told; });
  }
  EXPECT_EQ(told, 4);
}

TEST_F(Governed, WithoutFreeMemoryOnlyTwoAreLeft) {
  std::promise<void> asked;
  SlotGovernor governor(experts(), all_, std::uint64_t{1} << 60, [&] { asked.set_value(); });
  asked.get_future().wait();
  while (experts().pump()) std::this_thread::yield();
  EXPECT_EQ(experts().slots(), SlottedExperts::kLeastSlots);
  EXPECT_EQ(governor.planned(), all_);
}

}  // namespace
}  // namespace sirocco

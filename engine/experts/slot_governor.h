// How many slots there are while the world changes: as many as the budget buys, which an administrator may change, and
// fewer when others need the memory. Looks twice a second, and at once when the kernel warns, on a thread of its own:
// the engine thread follows before its next layer.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "engine/base/bytes.h"
#include "engine/experts/slotted_experts.h"

namespace sirocco {

// What is left to others where a budget was given: that is kept unless memory really runs out.
inline constexpr std::uint64_t kLeastReserve = 64 * MiB;

struct MemoryReading {
  std::uint64_t free = 0;     // on the machine and in the cgroup, bytes
  std::uint64_t reserve = 0;  // of it, what is to be left to others
  std::uint64_t slot_bytes = 0;
  std::size_t slots = 0;    // there are
  std::size_t planned = 0;  // that the budget buys
  std::size_t least = SlottedExperts::kLeastSlots;
  std::size_t at_once = 1;  // that are given back or taken together
  bool warned = false;      // by the kernel, just now
  bool calm = true;         // it has not warned for some time
};

// How many slots there should be, between the least and those planned: as many fewer as it takes to leave the reserve
// free once less than half of it is, an eighth fewer when the kernel warns, and more again when it is calm and there is
// room.
std::size_t slots_for(const MemoryReading& memory);

class SlotGovernor {
 public:
  // `changed`: another number is wished for; the engine thread should come by (ExpertSlots::pump). Called from the
  // governor's thread, as `done` is.
  SlotGovernor(ExpertSlots& experts, std::size_t planned, std::uint64_t reserve, std::function<void()> changed);
  SlotGovernor(const SlotGovernor&) = delete;
  SlotGovernor& operator=(const SlotGovernor&) = delete;
  ~SlotGovernor();

  // From any thread. `done`, once: when there are as many slots as the budget buys and memory allows, or when reads
  // that do not end have kept that from happening for some seconds.
  void set_plan(std::size_t planned, std::uint64_t reserve, std::function<void()> done);

  std::size_t planned() const;

  // At rest there are only ExpertSlots::least_slots(), and nothing is looked at; then again as many as there should
  // be. From any thread, never waits.
  void set_resting(bool resting);

 private:
  using Clock = std::chrono::steady_clock;

  void loop();
  void decide(bool warned);
  void tell_done();

  ExpertSlots& experts_;
  const std::function<void()> changed_;
  const int wake_;  // eventfd

  mutable std::mutex mutex_;
  std::size_t planned_;
  std::uint64_t reserve_;
  bool resting_ = false;
  bool stopping_ = false;
  std::vector<std::function<void()>> asked_;

  // Of the thread.
  std::vector<std::function<void()>> waiting_;  // for the slots to be as wished
  Clock::time_point waiting_since_;
  std::optional<Clock::time_point> warned_;
  std::thread thread_;
};

}  // namespace sirocco

#include "engine/weight_memory.h"

#include <sys/mman.h>

#include <algorithm>
#include <chrono>
#include <thread>

#include "engine/base/cgroup.h"
#include "engine/base/heap.h"

namespace sirocco {
namespace {

constexpr std::chrono::milliseconds kLongestWait(
    1000);  // for reads that are under way: their slots stay until they end

void advise(const Model& model, int advice) {
  for (const GgufFile::Part& part : model.file().parts()) {
    if (part.descriptor >= 0) madvise(const_cast<std::byte*>(part.mapping.data()), part.mapping.size(), advice);
  }
}

}  // namespace

ReleasedMemory WeightMemory::release(bool now) {
  const std::uint64_t before = resident_bytes();
  ReleasedMemory released;
  for (Tier& tier : tiers_) {
    if (tier.slots == nullptr) continue;
    tier.hot = tier.slots->hot_set();
    const std::size_t slots = tier.slots->slots();
    tier.slots->preload({});
    tier.slots->set_slots(tier.slots->least_slots());
    const auto until = std::chrono::steady_clock::now() + kLongestWait;
    while (tier.slots->pump() && std::chrono::steady_clock::now() < until)
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    released.experts += tier.hot.size() - std::min(tier.hot.size(), tier.slots->hot_set().size());
    if (!tier.slots->of_host())
      released.bytes += (slots - std::min(slots, tier.slots->slots())) * tier.slots->slot_bytes();
  }
  if (parts_.slotted == nullptr && parts_.model != nullptr) advise(*parts_.model, now ? MADV_PAGEOUT : MADV_COLD);
  return_free_heap();
  released.bytes += before - std::min(before, resident_bytes());
  return released;
}

void WeightMemory::take_back() {
  for (Tier& tier : tiers_) {
    // To a device from the host's memory alone: a disk's experts come there as they are missed.
    const bool at_hand = tier.slots == parts_.slotted || parts_.slotted == nullptr;
    if (tier.slots != nullptr && at_hand) tier.slots->preload(tier.hot);
    tier.hot.clear();
  }
}

}  // namespace sirocco

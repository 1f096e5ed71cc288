#include "engine/weight_memory.h"

#include <sys/mman.h>

#include <algorithm>
#include <chrono>
#include <thread>

#include "engine/base/cgroup.h"

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
  if (SlottedExperts* const slotted = parts_.slotted; slotted != nullptr) {
    hot_ = slotted->hot_set();
    slotted->preload({});
    slotted->set_slots(SlottedExperts::kLeastSlots);
    const auto until = std::chrono::steady_clock::now() + kLongestWait;
    while (slotted->pump() && std::chrono::steady_clock::now() < until)
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    released.experts = hot_.size() - std::min(hot_.size(), slotted->hot_set().size());
  } else if (parts_.model != nullptr) {
    advise(*parts_.model, now ? MADV_PAGEOUT : MADV_COLD);
  }
  released.bytes = before - std::min(before, resident_bytes());
  return released;
}

void WeightMemory::take_back() {
  if (parts_.slotted != nullptr) parts_.slotted->preload(hot_);
  hot_.clear();
}

}  // namespace sirocco

// The memory of weights that the engine could do without for a while: the experts' slots, or the pages of a mapped
// file. Given back when nobody has asked for long, or when an administrator says so, and taken again with the next
// step. Part of engine.cc: used by the engine thread.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "engine/engine.h"

namespace sirocco {

class WeightMemory {
 public:
  explicit WeightMemory(const EngineParts& parts)
      : parts_(parts), tiers_{{{.slots = parts.slotted}, {.slots = parts.backend->device_slots()}}} {}

  // now: mapped pages leave at once; else they are the first to leave when somebody needs memory. Slots always leave at
  // once. May take as long as a read that is under way.
  ReleasedMemory release(bool now);

  // The experts that were in slots are read again in the background (SlottedExperts::pump). Whoever decides how many
  // slots there are, decides it anew.
  void take_back();

 private:
  const EngineParts& parts_;
  // A tier, and the experts that were in its slots.
  struct Tier {
    ExpertSlots* slots = nullptr;  // null: there is none
    std::vector<ExpertId> hot = {};
  };

  std::array<Tier, 2> tiers_;  // the host's, a device's
};

}  // namespace sirocco

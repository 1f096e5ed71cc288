// What measurements attach to a forward pass. Null, as everywhere but in `sirocco bench`: nothing is recorded, and the
// routers choose.
#pragma once

#include <cstdint>
#include <span>

#include "engine/base/timeline.h"

namespace sirocco {

// Experts that stand in for the routers' choice: random weights route at random, where real models have habits that a
// cache lives on. Does not change during a step.
class RoutingReplay {
 public:
  virtual ~RoutingReplay() = default;

  // [used], ascending, of the model's; each weighs 1 / used.
  virtual std::span<const std::uint32_t> experts(std::uint32_t position, std::uint32_t layer) const = 0;
};

struct Instruments {
  Timeline* timeline = nullptr;
  const RoutingReplay* replay = nullptr;
};

}  // namespace sirocco

// Which expert leaves when a slot is wanted: a pure function of how the experts in the slots were used. Nothing here
// knows memory or disks; tests/bench replays traces through it. Time is counted in tokens, and within a token layers
// follow each other.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string_view>

#include "engine/base/ids.h"
#include "engine/base/result.h"

namespace sirocco {

// How an expert was used so far; also kept of experts that are in no slot.
struct ExpertUse {
  ExpertId expert;
  std::uint64_t last = 0;  // token of the last use
  std::uint64_t next = 0;  // token of the next use: known to Belady alone
  double recent = 0;       // uses as of `last`, each halved every kRecentTokens
  double lasting = 0;      // likewise, every kLastingTokens
};

inline constexpr double kRecentTokens = 2;
inline constexpr double kLastingTokens = 24;

// Counts a use: `share` of a step's rows, 1 for a single one.
void count_use(ExpertUse& use, std::uint64_t token, double share);

// When a slot is wanted, and for which layer.
struct EvictionMoment {
  std::uint64_t token = 0;
  std::uint32_t layer = 0;
  std::uint32_t layers = 0;
  std::uint32_t used = 0;                   // experts of a layer that a token uses
  std::size_t slots = 0;                    // in all
  std::span<const std::uint32_t> in_layer;  // slots that each layer has
};

class EvictionPolicy {
 public:
  virtual ~EvictionPolicy() = default;
  virtual std::string_view name() const = 0;
  // The index of one of `uses`, those that may leave; there is at least one.
  virtual std::size_t choose(std::span<const ExpertUse> uses, const EvictionMoment& moment) const = 0;
};

//   lfru       the least frequently used, where recent uses count more
//   lru        the least recently used; with fewer slots than a token needs none would be left when its turn comes
//   layer-lru  the least recently used, in tokens, of the layer itself once it has its share of the slots
//   class-lru  likewise of all layers that have more slots than a token uses experts of one
//   belady     the one whose next use is the latest: the bound that no policy can pass
// Of equals, but for lru, the one whose layer is computed the latest from now.
Result<std::unique_ptr<EvictionPolicy>> make_policy(std::string_view name);
std::span<const std::string_view> policy_names();  // but belady, for which the future would have to be known

}  // namespace sirocco

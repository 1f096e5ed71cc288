// A tier of memory with slots for experts, of which there may be more or fewer at any time: the host's memory
// (SlottedExperts), or a device's (the backend's). Whoever decides how many there should be sees both alike.
//
// Called from the engine thread, between steps; what says so from any.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "engine/base/ids.h"

namespace sirocco {

// Since the start; of a layer, or of all.
struct ExpertCounters {
  std::uint64_t hits = 0;  // experts wanted by a layer and resident
  std::uint64_t misses = 0;
  std::uint64_t foreseen = 0;  // of the misses, those that were being read already
  std::uint64_t evictions = 0;
  std::uint64_t bytes_read = 0;
  std::uint64_t failures = 0;  // reads given up
  std::uint64_t wait_ns = 0;   // of the engine thread, for reads
  std::uint64_t skipped = 0;   // that rows did without (LossyCounts)
  std::uint64_t substituted = 0;

  ExpertCounters operator-(const ExpertCounters& earlier) const {
    return {.hits = hits - earlier.hits,
            .misses = misses - earlier.misses,
            .foreseen = foreseen - earlier.foreseen,
            .evictions = evictions - earlier.evictions,
            .bytes_read = bytes_read - earlier.bytes_read,
            .failures = failures - earlier.failures,
            .wait_ns = wait_ns - earlier.wait_ns,
            .skipped = skipped - earlier.skipped,
            .substituted = substituted - earlier.substituted};
  }
  ExpertCounters operator+(const ExpertCounters& other) const {
    return {.hits = hits + other.hits,
            .misses = misses + other.misses,
            .foreseen = foreseen + other.foreseen,
            .evictions = evictions + other.evictions,
            .bytes_read = bytes_read + other.bytes_read,
            .failures = failures + other.failures,
            .wait_ns = wait_ns + other.wait_ns,
            .skipped = skipped + other.skipped,
            .substituted = substituted + other.substituted};
  }
  double hit_rate() const {
    return hits + misses == 0 ? 1 : static_cast<double>(hits) / static_cast<double>(hits + misses);
  }
};

class ExpertSlots {
 public:
  virtual ~ExpertSlots() = default;

  // --- from any thread

  // So many are wanted from here on; between least_slots() and most_slots(). Memory is given back, or
  // taken again, before the next layer (of a device: step) or by pump(), whichever comes first.
  virtual void set_slots(std::size_t slots) = 0;
  virtual std::size_t wished_slots() const = 0;  // the last number that was wanted, or fewer: what can be had
  virtual std::size_t slots() const = 0;
  virtual std::size_t experts() const = 0;  // of the model
  virtual std::size_t least_slots() const = 0;
  virtual std::size_t most_slots() const { return experts(); }
  virtual std::size_t slots_at_once() const { return 1; }  // that memory is given back and taken for
  virtual std::uint64_t slot_bytes() const = 0;
  virtual std::uint64_t free_memory() const = 0;  // bytes of the tier that nobody uses
  virtual bool of_host() const { return true; }   // the kernel's warnings are about this memory
  virtual ExpertCounters counters() const = 0;    // of all layers

  // ---

  // Brings these into free slots in the background, the first ones first: pump() does.
  virtual void preload(std::span<const ExpertId> experts) = 0;
  // True while there is more to do in the background: to be called again within some milliseconds.
  virtual bool pump() = 0;
  // The experts in memory, the most useful first.
  virtual std::vector<ExpertId> hot_set() const = 0;
};

}  // namespace sirocco

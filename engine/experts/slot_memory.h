// The memory of experts' slots: addresses for all of them, of which those that are taken can hold something, locked in
// memory where that is permitted. Used by the engine thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "engine/base/result.h"

namespace sirocco {

class SlotMemory {
 public:
  SlotMemory() = default;
  SlotMemory(const SlotMemory&) = delete;
  SlotMemory& operator=(const SlotMemory&) = delete;
  ~SlotMemory();

  // Once. Error: addresses that cannot be had.
  Result<void> reserve(std::size_t slots, std::uint64_t slot_bytes);

  std::byte* at(std::size_t slot) const { return base_ + slot * slot_bytes_; }

  // These may be written to: what is written is not swapped out. Ascending.
  void take(std::span<const std::size_t> slots);
  // Its memory is the system's again.
  void give_back(std::size_t slot);

  bool locked() const { return locked_; }  // all that were taken

 private:
  std::byte* base_ = nullptr;
  std::size_t slots_ = 0;
  std::uint64_t slot_bytes_ = 0;
  bool locked_ = true;
};

}  // namespace sirocco

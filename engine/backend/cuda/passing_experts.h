// Experts that pass through the device for one layer of a prompt: two places in turns, so that one is on its way while
// the other is computed with. Owned by the CUDA backend, called by one thread at a time.
#pragma once

#include <array>
#include <memory>

#include "engine/backend/cuda/cuda_forward.h"
#include "engine/backend/cuda/device_experts.h"
#include "engine/model/expert_products.h"

namespace sirocco::cuda {

inline constexpr std::size_t kPassing = 2;

struct PassingMemory {
  std::array<std::byte*, kPassing> slot = {};     // [slot_bytes] each, on the device
  std::array<std::byte*, kPassing> arrived = {};  // [file_bytes], on the device
  // Page-locked:
  std::array<std::byte*, kPassing> leaving = {};  // [file_bytes]
  DeviceExpert* tables = nullptr;                 // [kPassing]
  ExpertTile* tiles = nullptr;                    // [kPassing, rows]
  std::uint32_t* tile_counts = nullptr;           // [kPassing]
  std::size_t rows = 0;                           // of a step, at most

  void take_device_part(const SlotLayout& layout, Bump& device);
  void take_pinned_part(const SlotLayout& layout, std::size_t rows, Bump& pinned);
};

class PassingExperts {
 public:
  static Result<std::unique_ptr<PassingExperts>> create(const SlotLayout& layout, const PassingMemory& memory);
  ~PassingExperts();
  PassingExperts(const PassingExperts&) = delete;
  PassingExperts& operator=(const PassingExperts&) = delete;

  // Copies the expert's bytes, and enqueues their way to the device and then, on the step's stream, the products of the
  // rows at those places. Waits until a place is free.
  Result<void> send(const CudaForward& forward, const StepShape& shape, std::uint32_t tile_rows,
                    const MissingExpert& places, const ExpertProducts::Weights& expert, cudaStream_t stream);

 private:
  struct Place {
    Event arrived;  // its expert is in the slot
    Event used;     // and has been computed with
  };

  PassingExperts(const SlotLayout& layout, const PassingMemory& memory) : layout_(layout), memory_(memory) {}

  SlotLayout layout_;
  PassingMemory memory_;
  Stream stream_;
  std::array<Place, kPassing> places_;
  std::size_t turn_ = 0;
};

}  // namespace sirocco::cuda

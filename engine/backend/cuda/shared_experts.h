// Experts on an integrated device, which has the host's memory: the slots that experts are read into are the device's
// as well, so that a miss is a read from disk and then a kernel, and nothing is copied. An expert that has arrived is
// put into tiles by the device, in its slot, before it is first computed with. What the device cannot reach, a mapping,
// it puts into tiles beside it, each time. Owned by the CUDA backend, called from the engine thread.
#pragma once

#include <atomic>
#include <map>
#include <memory>

#include "engine/backend/cuda/cuda_forward.h"
#include "engine/backend/cuda/device_experts.h"
#include "engine/backend/cuda/host_mailbox.h"

namespace sirocco::cuda {

struct SharedExpertMemory {
  std::byte* tiles = nullptr;  // [slot_bytes] on the device: an expert on its way from one layout to the other
  // Page-locked:
  DeviceExpert* table = nullptr;         // [experts] of the present layer
  ExpertTile* lists = nullptr;           // [assignments]
  std::uint32_t* list_counts = nullptr;  // [experts] of the present layer's groups

  void take_pinned_part(const ModelSpec& spec, const BackendOptions& options, Bump& pinned, Mailbox& mailbox);
};

// How the device reads and writes slots of the host's.
enum class SlotReach : std::uint8_t { none, pageable, registered };

class SharedExperts final : public SlotUser {
 public:
  // `experts` outlives it. Error: of CUDA, a slot that cannot be registered among them.
  static Result<std::unique_ptr<SharedExperts>> create(std::shared_ptr<const Model> model, ExpertSource& experts,
                                                       const SharedExpertMemory& memory, const Mailbox& mailbox,
                                                       SlotReach reach);
  // No step is under way.
  ~SharedExperts() override;
  SharedExperts(const SharedExperts&) = delete;
  SharedExperts& operator=(const SharedExperts&) = delete;

  void set_pulse(std::atomic<std::uint64_t>* pulse) { pulse_ = pulse; }

  struct Layer {
    const CudaForward& forward;
    const StepShape& shape;
    cudaStream_t stream = nullptr;
  };
  // Waits for the layer's question, and enqueues the products of its experts as they arrive: what completes
  // forward.expert_out().
  //   sequences  [rows] of the step: which one a row belongs to
  //   failures   of sequences that an expert of could not be had
  Result<void> compute(const Layer& layer, std::span<const std::uint32_t> sequences,
                       std::vector<SequenceFailure>& failures);
  // The step has been waited for.
  void end_step();

 private:
  SharedExperts(std::shared_ptr<const Model> model, ExpertSource& experts, const SharedExpertMemory& memory,
                const Mailbox& mailbox, SlotReach reach);
  void comes(std::span<std::byte> slot) override;
  void goes(std::span<std::byte> slot) override;

  std::byte* device_slot(const std::byte* in_slot, std::size_t& offset) const;
  void take_news(std::span<const std::uint32_t> sequences, std::vector<SequenceFailure>& failures);
  Result<void> enqueue(const Layer& layer);
  Result<void> convert(ExpertId expert, std::byte* slot, std::size_t offset, cudaStream_t stream);
  Result<void> enqueue_beside(const Layer& layer, ExpertId expert);
  Result<void> enqueue_group(const Layer& layer, std::span<const std::uint32_t> experts);
  Result<void> clear_failed(const Layer& layer);

  std::shared_ptr<const Model> model_;
  ExpertSource& experts_;
  SlotLayout layout_;
  SharedExpertMemory memory_;
  HostMailbox mailbox_;
  SlotReach reach_;
  Result<void> in_reach_;  // why a slot is not that should be
  std::atomic<std::uint64_t>* pulse_ = nullptr;
  std::map<const std::byte*, std::byte*> slots_;  // that are in reach: where they are for the device
  std::size_t slot_bytes_ = 0;                    // of each
  PinnedMemory landing_;                          // [file_bytes], made when it is first needed
  Event landed_;                                  // what was in it is in tiles
  std::vector<Lease> leases_;                     // [experts] of the present layer
  std::vector<ExpertNews> news_;
  std::vector<std::uint32_t> ready_;  // that have arrived with them
  std::vector<std::uint32_t> failed_;
  std::vector<std::uint32_t> group_;
  std::size_t left_ = 0;      // of what was asked for
  std::uint32_t groups_ = 0;  // of the present layer
  std::uint32_t listed_ = 0;  // tiles
};

}  // namespace sirocco::cuda

// Which experts are in device memory: slots of one size, a table that tells the kernels which expert is where, and what
// comes and leaves. What answers missed is offered while the host has it; between steps the policy says whether it is
// worth more than what is there. Its bytes go over a stream of their own, and the kernels see it from the step on that
// begins after they have arrived. Nothing of this changes an answer.
//
// The slots' memory is allocated in pieces, so that some of it can be given back while others need the device, and
// taken again, always between steps.
//
// Owned by the CUDA backend, called from the engine thread, but for what ExpertSlots says.
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "engine/backend/backend.h"
#include "engine/backend/cuda/cuda_api.h"
#include "engine/base/thread_pool.h"
#include "engine/experts/eviction_policy.h"
#include "kernels/cuda/kernels.h"

namespace sirocco::cuda {

// How an expert lies in a slot: gate, up, down in the kernels' layout; and as the file has it, on its way there.
class SlotLayout {
 public:
  explicit SlotLayout(const Model& model);

  std::size_t slot_bytes() const { return slot_bytes_; }  // that the largest expert takes
  std::size_t file_bytes() const { return file_bytes_; }
  DeviceExpert in_slot(std::uint32_t layer, const std::byte* slot) const;
  // Copies an expert's bytes to `to` [file_bytes()]; returns where they are once all of that is at `copied`.
  ExpertWeights copy_out(std::uint32_t layer, const ExpertWeights& expert, std::byte* to,
                         const std::byte* copied) const;

 private:
  struct Layer {
    std::array<std::size_t, 3> in_slot = {};
    std::array<std::size_t, 3> in_file_bytes = {};
  };
  std::vector<Layer> layers_;
  std::size_t slot_bytes_ = 0;
  std::size_t file_bytes_ = 0;
};

// From the file's layout, on the device, to the kernels'.
Result<void> repack_expert(const ExpertWeights& from, const DeviceExpert& to, cudaStream_t stream);

inline constexpr std::size_t kLeastDeviceSlots = 2;
inline constexpr std::size_t kArriving = 2;  // experts on their way at once

// Slots whose memory is allocated together, where there are so many: some hundred MiB, an eighth of all at most.
std::size_t slots_in_piece(std::size_t slots, std::size_t slot_bytes);

// The memory of DeviceExperts. `slots` may be null: a layout.
struct DeviceExpertMemory {
  std::size_t slots = 0;                           // at most; their memory is DeviceExperts' own
  std::array<std::byte*, kArriving> arrived = {};  // [file_bytes] each
  DeviceExpert* table = nullptr;                   // [layers, experts]; the weights' layout has it
  // Page-locked:
  DeviceExpert* host_table = nullptr;              // the same
  std::array<std::byte*, kArriving> leaving = {};  // [file_bytes]
  std::uint32_t* rows_of_expert = nullptr;         // [layers, experts] of the step: Mailbox's

  // Returns what the slots will take beside, bytes.
  std::size_t take_device_part(const SlotLayout& layout, std::size_t slots, Bump& device);
  void take_pinned_part(const ModelSpec& spec, const SlotLayout& layout, Bump& pinned);
};

class DeviceExperts final : public ExpertSlots {
 public:
  // Error: OUT_OF_MEMORY, of the device.
  static Result<std::unique_ptr<DeviceExperts>> create(std::shared_ptr<const Model> model, const SlotLayout& layout,
                                                       const DeviceExpertMemory& memory);
  ~DeviceExperts() override;
  DeviceExperts(const DeviceExperts&) = delete;
  DeviceExperts& operator=(const DeviceExperts&) = delete;

  // At the start: these, then the first experts of every layer.
  Result<void> fill(std::span<const ExpertId> hot, ThreadPool& pool);
  // What has arrived can be seen by what is enqueued on the stream from here on. The step before has been waited for.
  Result<void> begin_step(cudaStream_t stream);
  // Enqueues how many rows each expert met; end_step() reads it.
  Result<void> fetch_uses(const std::uint32_t* rows_of_expert, cudaStream_t stream) const;
  // An expert that a step of few rows misses, in memory while this is called: its bytes are kept if it may come.
  void offer(ExpertId expert, const ExpertWeights& weights);
  // The step has been waited for. rows: that it had; layers: whose experts it computed with, the first ones.
  Result<void> end_step(std::uint32_t rows, std::uint32_t layers);

  void set_slots(std::size_t slots) override { wished_ = slots; }
  std::size_t wished_slots() const override { return wished_; }
  std::size_t slots() const override { return usable_; }
  std::size_t experts() const override { return uses_.size(); }
  std::size_t least_slots() const override { return std::min(piece_, memory_.slots); }
  std::size_t most_slots() const override { return memory_.slots; }
  std::size_t slots_at_once() const override { return piece_; }
  std::uint64_t slot_bytes() const override { return layout_.slot_bytes(); }
  std::uint64_t free_memory() const override;
  bool of_host() const override { return false; }
  ExpertCounters counters() const override { return {.hits = hits_, .misses = misses_}; }
  // From the model's file, which should be in memory: the engine thread copies.
  void preload(std::span<const ExpertId> experts) override;
  bool pump() override;
  std::vector<ExpertId> hot_set() const override;

 private:
  // On its way to the device: from an offer, until it is in its slot.
  struct Arrival {
    enum class State : std::uint8_t { none, offered, under_way } state = State::none;
    ExpertId expert;
    ExpertWeights weights;  // their data is on the device
    std::size_t slot = 0;
    Event done;
  };

  DeviceExperts(std::shared_ptr<const Model> model, const SlotLayout& layout, const DeviceExpertMemory& memory);
  std::size_t number(ExpertId expert) const { return std::size_t{expert.layer} * experts_ + expert.index; }
  std::byte* slot_at(std::size_t slot) const {
    return pieces_[slot / piece_].get() + slot % piece_ * layout_.slot_bytes();
  }
  Result<void> add_piece();
  void drop_piece();
  void follow_wish();
  Result<void> take_arrived();
  void start_preloads();
  std::optional<std::size_t> find_empty() const;
  void place(ExpertId expert, std::size_t slot);
  void count(std::uint32_t rows, std::uint32_t layers);
  std::optional<std::size_t> find_slot(ExpertId newcomer);
  Result<void> send(std::size_t arrival);

  std::shared_ptr<const Model> model_;
  SlotLayout layout_;
  DeviceExpertMemory memory_;
  std::uint32_t experts_;  // of a layer
  std::unique_ptr<EvictionPolicy> policy_;
  Stream stream_;
  std::array<Arrival, kArriving> arrivals_;
  std::size_t piece_;                             // slots of one
  std::vector<DeviceMemory> pieces_;              // [piece_, slot_bytes] each, the last one of all maybe less
  std::vector<std::optional<ExpertId>> in_slot_;  // [slots]; nothing: empty, or without memory
  std::atomic<std::size_t> usable_ = 0;           // slots that have memory, the first ones
  std::atomic<std::size_t> wished_;               // that should have
  mutable std::atomic<std::uint64_t> free_ = 0;   // bytes of the device, when that was last known
  std::atomic<std::uint64_t> hits_ = 0;
  std::atomic<std::uint64_t> misses_ = 0;
  std::vector<ExpertId> preload_;        // not begun; the next one last
  std::vector<std::uint32_t> in_layer_;  // slots that each layer has
  std::vector<ExpertUse> uses_;          // [layers, experts]
  std::vector<ExpertUse> candidates_;
  std::vector<std::size_t> candidate_slots_;
  std::uint64_t token_ = 0;
  std::uint32_t next_layer_ = 0;  // offers are taken from here on, so that each layer has its turn
  bool changed_ = false;          // the host's table
};

}  // namespace sirocco::cuda

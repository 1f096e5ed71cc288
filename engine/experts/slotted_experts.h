// The experts of a model that is larger than its memory: some are in slots, the others are read from disk when a layer
// wants them. All misses of a layer are asked for at once; what is resident is computed with meanwhile, and each
// projection as soon as it has arrived. Which expert leaves is EvictionPolicy's choice; what an answer is never depends
// on it.
//
// Owned by the Engine, called from the engine thread; set_slots() and counters() from any.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "engine/backend/expert_slots.h"
#include "engine/base/timeline.h"
#include "engine/experts/eviction_policy.h"
#include "engine/experts/expert_store.h"
#include "engine/experts/slot_memory.h"
#include "engine/experts/transfer_queue.h"
#include "engine/model/expert_source.h"

namespace sirocco {

class SlottedExperts final : public ExpertSource, public ExpertSlots {
 public:
  static constexpr std::size_t kLeastSlots = 2;  // one is computed with while the next is read
  static constexpr int kTries = 3;               // of a read

  // Error: memory that cannot be had, an unknown policy.
  // slots: at least kLeastSlots are made, at most one for each expert.
  static Result<std::unique_ptr<SlottedExperts>> create(std::unique_ptr<ExpertStore> store,
                                                        std::unique_ptr<TransferQueue> queue, std::size_t slots,
                                                        std::string_view policy);
  ~SlottedExperts() override;

  bool has_slots() const override { return true; }
  void set_slot_user(SlotUser* user) override;
  bool converted(ExpertId expert) const override;
  void set_converted(ExpertId expert) override;
  void request(std::uint32_t layer, std::span<const WantedExpert> wanted, std::uint32_t rows) override;
  void wait(std::vector<ExpertNews>& news) override;
  void tell_resident(std::uint32_t layer, std::span<std::uint8_t> resident) override;
  void count(std::uint32_t layer, const LossyCounts& counts) override;
  bool foresees(bool prompt) const override { return prompt || foresight_; }
  void foresee(std::uint32_t layer, std::span<const std::uint32_t> experts) override;
  Lease lease(ExpertId expert) override;
  Error failure(ExpertId expert) const override;

  // So many slots are wanted from here on; at least kLeastSlots, at most one for each expert. Memory is given back, or
  // taken again, before the next layer or by pump(), whichever comes first. From any thread.
  void set_slots(std::size_t slots) override;
  std::size_t wished_slots() const override { return wished_; }

  // Reads these into free slots in the background, the first ones first: pump() does, while nothing else is read.
  void preload(std::span<const ExpertId> experts) override;
  // Between steps. True while there is more to do in the background: to be called again within some milliseconds.
  bool pump() override;
  // The experts in memory, the most useful first.
  std::vector<ExpertId> hot_set() const override;

  void set_foresight(bool on) { foresight_ = on; }
  void set_timeline(Timeline* timeline);  // before the first request; it outlives this
  std::size_t slots() const override { return usable_; }
  std::size_t experts() const override { return slot_of_.size(); }
  std::size_t least_slots() const override { return kLeastSlots; }
  std::uint64_t slot_bytes() const override { return store_->slot_bytes(); }
  std::uint64_t free_memory() const override;
  bool locked() const { return memory_.locked(); }  // none of the slots can be swapped out
  std::string reads() const;                        // how: "io_uring, 16 x 1024 KiB"
  // How long the engine thread has been waiting for the disk without any news; 0: it does not wait. From any thread.
  std::chrono::nanoseconds waiting_for_disk() const;
  std::uint32_t layers() const { return store_->layers(); }
  ExpertCounters counters(std::uint32_t layer) const;
  ExpertCounters counters() const override;
  std::uint32_t slots_of(std::uint32_t layer) const { return counters_[layer].slots; }
  // For which reads were under way, as the engine thread saw it.
  std::uint64_t reading_ns() const { return reading_ns_; }

 private:
  enum class SlotState : std::uint8_t { absent, empty, loading, ready, failed };  // absent: without memory
  struct Slot {
    ExpertId expert;
    SlotState state = SlotState::absent;
    bool preloaded = false;    // being read for nobody
    bool guessed = false;      // brought in for a layer that has not come yet
    bool passing = false;      // brought in by a prompt, not yet used by an answer
    bool converted = false;    // by the slots' user
    std::uint8_t missing = 0;  // extents that have not arrived, a bit each
    std::uint32_t pins = 0;
    std::array<std::uint8_t, kProjections> tries = {};  // of each extent
    int error = 0;
  };
  struct Wanted {
    std::uint32_t index = 0;
    bool hit = false;
    bool placed = false;  // it was in a slot when it was asked for, or has been given one
    bool leased = false;
    bool done = false;
  };

  SlottedExperts(std::unique_ptr<ExpertStore> store, std::unique_ptr<TransferQueue> queue);
  Result<void> allocate(std::size_t slots);
  std::size_t number(ExpertId expert) const { return std::size_t{expert.layer} * store_->experts() + expert.index; }
  std::span<std::byte> memory_of(std::size_t slot) const { return {memory_.at(slot), store_->slot_bytes()}; }
  bool has(const Slot& slot, std::initializer_list<Projection> projections) const;
  void follow_wish();
  void forget_guesses();
  void start_misses();
  void start_guesses();
  void load(ExpertId expert, std::size_t slot, bool guessed);
  bool find_slot(bool for_guess, std::size_t& found);
  void empty(std::size_t slot);
  bool give_back_one();
  void empty_failed();
  void submit(std::span<const Transfer> transfers);
  void take_arrivals(bool wait);
  void note_arrivals();
  bool tell_all(bool hits, std::size_t most, std::vector<ExpertNews>& news);
  bool tell(Wanted& wanted, std::vector<ExpertNews>& news);
  void release(ExpertId expert) override;

  std::unique_ptr<ExpertStore> store_;
  std::unique_ptr<TransferQueue> queue_;
  std::unique_ptr<EvictionPolicy> policy_;
  SlotMemory memory_;
  SlotUser* user_ = nullptr;

  std::vector<Slot> slots_;  // one for each expert; those that have memory are used
  std::atomic<std::size_t> usable_ = 0;
  std::atomic<std::size_t> wished_ = 0;
  std::vector<std::size_t> free_;
  std::vector<std::int32_t> slot_of_;    // [layers * experts], -1: in none
  std::vector<ExpertUse> uses_;          // likewise, of every expert
  std::vector<std::uint32_t> in_layer_;  // slots of each layer; the engine thread's copy of Counters::slots
  std::size_t passing_ = 0;              // slots that are

  bool foresight_ = false;  // for answers, too
  bool any_guessed_ = false;
  std::uint64_t token_ = 0;
  std::uint32_t layer_ = UINT32_MAX;  // of the present request
  bool prompt_ = false;
  std::vector<Wanted> wanted_;
  std::size_t next_miss_ = 0;         // of wanted_, those before it have a slot
  std::size_t wanted_under_way_ = 0;  // transfers of the present layer's misses
  std::uint32_t guessed_layer_ = 0;
  std::vector<std::uint32_t> foreseen_;  // of that layer, ascending: they do not leave now
  std::vector<std::uint32_t> guesses_;   // of that layer, not begun; the next one last
  std::vector<ExpertId> preload_;        // not begun; the next one last
  std::size_t preloading_ = 0;           // transfers
  std::vector<ExpertUse> candidates_;
  std::vector<std::size_t> candidate_slots_;
  std::vector<Transfer> transfers_;
  std::vector<Arrival> arrivals_;
  std::atomic<std::int64_t> waiting_since_ns_ = 0;  // 0: not

  Timeline* timeline_ = nullptr;
  std::vector<std::uint64_t> begun_;  // by a transfer's tag, for the timeline

  struct Counters {
    std::atomic<std::uint64_t> hits, misses, foreseen, evictions, bytes_read, failures, wait_ns, skipped, substituted;
    std::atomic<std::uint32_t> slots;
  };
  std::vector<Counters> counters_;  // of each layer
  std::size_t under_way_ = 0;       // transfers
  std::int64_t reading_since_ns_ = 0;
  std::atomic<std::uint64_t> reading_ns_ = 0;
  std::uint64_t failures_ = 0;
  std::uint64_t emptied_failures_ = 0;
};

}  // namespace sirocco

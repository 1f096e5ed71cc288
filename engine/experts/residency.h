// Where a model's weights will be: all mapped, if they fit the budget; else dense weights in memory of our own and
// experts in as many slots as the rest buys.
#pragma once

#include <cstddef>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "engine/backend/backend.h"
#include "engine/base/load_progress.h"
#include "engine/base/memory_plan.h"
#include "engine/experts/slotted_experts.h"
#include "engine/model/model.h"

namespace sirocco {

struct ResidencyPlan {
  std::size_t slots = 0;  // 0: nothing is copied, leases point into the mapping
  std::size_t experts = 0;
  std::size_t most = 0;  // slots that may be had: `experts`, or fewer
  std::uint64_t slot_bytes = 0;
  bool shared = false;            // a device computes in the slots
  std::uint64_t dense_bytes = 0;  // that are read from the file
};

// Adds the weights' lines to a plan that has all others. Error: OUT_OF_MEMORY with the smallest workable budget.
Result<ResidencyPlan> plan_residency(const std::shared_ptr<const Model>& model, const HostWeights& host,
                                     MemoryPlan& plan);

// The same for another budget, while slots are in use: the plan and the number of slots it buys. Error: as above.
Result<void> replan_slots(MemoryPlan& plan, ResidencyPlan& residency, std::uint64_t budget);

struct Residency {
  std::shared_ptr<const Model> model;  // to compute with
  std::unique_ptr<ExpertSource> experts;
  SlottedExperts* slotted = nullptr;  // `experts`, if it has slots
  std::vector<std::string> warnings;  // what could not be done at the start, and does no harm
  std::vector<std::string> degraded;  // what does not work as well as it should here, and why
};

struct ResidencyOptions {
  std::size_t slots = 0;
  std::uint64_t slot_bytes = 0;  // at least
  bool dense = true;             // where there are slots: false where the device has the dense weights
  std::string_view policy = "lfru";
  bool foresight = false;  // read what the next layer probably wants while the disk is idle
  // Where the depth and size of reads that suit the disk are kept; empty: nowhere.
  std::filesystem::path read_shape = {};
  Timeline* timeline = nullptr;          // of the reads, for measurements
  LoadProgress* progress = nullptr;      // of the dense weights; null: nobody looks
  std::unique_ptr<TransferQueue> queue;  // null: io_uring, or threads where the kernel has none for us
};

// Reads the dense weights; experts follow when they are wanted.
Result<Residency> make_residency(std::shared_ptr<const Model> model, ResidencyOptions options);

}  // namespace sirocco

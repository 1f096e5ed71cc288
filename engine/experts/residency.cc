#include "engine/experts/residency.h"

#include "engine/base/bytes.h"
#include "engine/experts/mapped_experts.h"
#include "engine/experts/resident_weights.h"

namespace sirocco {
namespace {

void add_mapped_lines(const Model::Sizes& sizes, std::string_view note, MemoryPlan& plan) {
  plan.lines.push_back(
      {.name = "dense weights", .bytes = sizes.dense_bytes, .note = std::string(note), .charged = false});
  if (sizes.expert_bytes > 0)
    plan.lines.push_back({.name = "experts", .bytes = sizes.expert_bytes, .note = std::string(note), .charged = false});
}

}  // namespace

Result<ResidencyPlan> plan_residency(const std::shared_ptr<const Model>& model, MemoryPlan& plan) {
  const Model::Sizes& sizes = model->sizes();
  const std::uint64_t others = plan.charged();
  if (others + sizes.dense_bytes + sizes.expert_bytes <= plan.budget) {
    add_mapped_lines(sizes, "mapped from the file", plan);
    return ResidencyPlan{};
  }
  if (!model->spec().moe) {
    add_mapped_lines(sizes, "mapped from the file; larger than the budget, paged in from disk", plan);
    return ResidencyPlan{};
  }
  SIROCCO_TRY(const auto files, ModelFiles::open(model->shared_file()));
  SIROCCO_TRY(const auto store, ExpertStore::create(model, files));
  const std::uint64_t dense = resident_weights_bytes(*model, *files);
  const std::uint64_t least = others + dense + SlottedExperts::kLeastSlots * store->slot_bytes();
  if (plan.budget < least)
    return fail(
        ErrorCode::out_of_memory,
        "the memory budget is {}; this model needs at least {} ({} for dense weights, {} for two experts, {} for "
        "everything else): raise memory.budget, or lower memory.kv_tokens, engine.max_rows_per_step or "
        "engine.max_running",
        format_bytes(plan.budget), format_bytes(least), format_bytes(dense),
        format_bytes(SlottedExperts::kLeastSlots * store->slot_bytes()), format_bytes(others));
  const std::size_t all = std::size_t{store->layers()} * store->experts();
  const std::size_t slots = std::min<std::size_t>(all, (plan.budget - others - dense) / store->slot_bytes());
  plan.lines.push_back({.name = "dense weights", .bytes = dense, .note = "read from the file"});
  plan.lines.push_back({.name = "expert slots",
                        .bytes = slots * store->slot_bytes(),
                        .note = fmt::format("{} of {} experts ({} %), {} each", slots, all, 100 * slots / all,
                                            format_bytes(store->slot_bytes()))});
  plan.lines.push_back({.name = "experts",
                        .bytes = sizes.expert_bytes,
                        .note = store->files().direct() ? "read from disk when wanted"
                                                        : "read from disk when wanted, through the page cache: the "
                                                          "file system has no O_DIRECT",
                        .charged = false});
  return ResidencyPlan{.slots = slots};
}

std::size_t slots_for(std::uint64_t free, std::uint64_t reserve, std::uint64_t slot_bytes, std::size_t now,
                      std::size_t planned) {
  if (free < reserve / 2) {
    const std::uint64_t missing = (reserve - free + slot_bytes - 1) / slot_bytes;
    const std::size_t spare = now - std::min(now, SlottedExperts::kLeastSlots);
    return now - std::min<std::uint64_t>(missing, spare);
  }
  if (free <= reserve) return now;
  return std::min<std::uint64_t>(planned, now + (free - reserve) / slot_bytes);
}

Result<Residency> make_residency(std::shared_ptr<const Model> model, ResidencyOptions options) {
  Residency residency;
  if (options.slots == 0) {
    residency.experts = std::make_unique<MappedExperts>(model);
    residency.model = std::move(model);
    return residency;
  }
  SIROCCO_TRY(const auto files, ModelFiles::open(model->shared_file()));
  if (!options.queue) {
    SIROCCO_TRY(options.queue, make_transfer_queue());
  }
  SIROCCO_TRY(ResidentWeights dense, make_weights_resident(*model, *files, *options.queue));
  SIROCCO_TRY(auto store, ExpertStore::create(model, files));
  SIROCCO_TRY(auto experts,
              SlottedExperts::create(std::move(store), std::move(options.queue), options.slots, options.policy));
  experts->set_foresight(options.foresight);
  experts->set_timeline(options.timeline);
  residency.slotted = experts.get();
  residency.experts = std::move(experts);
  residency.model = std::move(dense.model);
  if (!files->direct())
    residency.degraded.emplace_back("experts are read through the page cache: the model's file system has no O_DIRECT");
  if (residency.slotted->queue_kind() == "threads")
    residency.degraded.emplace_back("experts are read by threads: the kernel refuses io_uring");
  if (!dense.locked)
    residency.degraded.emplace_back(
        "the dense weights may be swapped out: locking them in memory is not permitted (LimitMEMLOCK, ulimit -l)");
  return residency;
}

}  // namespace sirocco

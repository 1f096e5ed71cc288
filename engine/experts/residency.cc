#include "engine/experts/residency.h"

#include <algorithm>

#include "engine/base/bytes.h"
#include "engine/experts/mapped_experts.h"
#include "engine/experts/read_shape.h"
#include "engine/experts/resident_weights.h"

namespace sirocco {
namespace {

constexpr std::string_view kSlotLine = "expert slots";  // of the plan

void add_mapped_lines(const Model::Sizes& sizes, const HostWeights& host, std::string_view note, MemoryPlan& plan) {
  if (host.dense)
    plan.lines.push_back(
        {.name = "dense weights", .bytes = sizes.dense_bytes, .note = std::string(note), .charged = false});
  if (sizes.expert_bytes > 0)
    plan.lines.push_back({.name = "experts", .bytes = sizes.expert_bytes, .note = std::string(note), .charged = false});
}

std::string disk_of(const ModelFiles& files, const TransferQueue& queue) {
  return disk_identity(files.first_descriptor(), queue.kind(), files.direct());
}

// With the shape that is remembered for the disk, else in the turns of a trial, which is remembered then.
Result<ResidentWeights> read_dense_weights(const Model& model, const ModelFiles& files, const ResidencyOptions& options,
                                           std::vector<std::string>& warnings) {
  TransferQueue& queue = *options.queue;
  const std::string disk = disk_of(files, queue);
  if (const auto known = load_read_shape(options.read_shape, disk)) {
    queue.set_shape(*known);
    return make_weights_resident(model, files, queue, nullptr, options.progress);
  }
  ShapeTrial trial(resident_weights_bytes(model, files));
  if (!trial.possible()) return make_weights_resident(model, files, queue, nullptr, options.progress);
  SIROCCO_TRY(ResidentWeights dense, make_weights_resident(model, files, queue, &trial, options.progress));
  if (!options.read_shape.empty()) {
    if (const auto saved = save_read_shape(options.read_shape, disk, queue.shape()); !saved)
      warnings.push_back(saved.error().message());
  }
  return dense;
}

}  // namespace

Result<ResidencyPlan> plan_residency(const std::shared_ptr<const Model>& model, const HostWeights& host,
                                     MemoryPlan& plan) {
  const Model::Sizes& sizes = model->sizes();
  const bool shared = host.slot_bytes != 0;
  const std::uint64_t needed = plan.charged() + (host.dense ? sizes.dense_bytes : 0) + sizes.expert_bytes;
  if (needed <= plan.budget && !shared) {
    add_mapped_lines(sizes, host, "mapped from the file", plan);
    return ResidencyPlan{};
  }
  if (!model->spec().moe) {
    add_mapped_lines(sizes, host, "mapped from the file; larger than the budget, paged in from disk", plan);
    return ResidencyPlan{};
  }
  SIROCCO_TRY(const auto files, ModelFiles::open(model->shared_file()));
  SIROCCO_TRY(const auto store, ExpertStore::create(model, files, host.slot_bytes));
  ResidencyPlan residency = {.experts = std::size_t{store->layers()} * store->experts(),
                             .slot_bytes = store->slot_bytes(),
                             .shared = shared,
                             .dense_bytes = host.dense ? resident_weights_bytes(*model, *files) : 0};
  residency.most = shared ? std::min(residency.experts, host.slot_memory / residency.slot_bytes) : residency.experts;
  if (host.dense)
    plan.lines.push_back({.name = "dense weights", .bytes = residency.dense_bytes, .note = "read from the file"});
  plan.lines.push_back({.name = std::string(kSlotLine), .note = {}});
  SIROCCO_CHECK(replan_slots(plan, residency, plan.budget));
  plan.lines.push_back({.name = "experts",
                        .bytes = sizes.expert_bytes,
                        .note = store->files().direct() ? "read from disk when wanted"
                                                        : "read from disk when wanted, through the page cache: the "
                                                          "file system has no O_DIRECT",
                        .charged = false});
  return residency;
}

Result<void> replan_slots(MemoryPlan& plan, ResidencyPlan& residency, std::uint64_t budget) {
  const auto line =
      std::find_if(plan.lines.begin(), plan.lines.end(), [](const MemoryPlan::Line& l) { return l.name == kSlotLine; });
  const std::uint64_t fixed = plan.charged() - line->bytes;
  const std::uint64_t two = SlottedExperts::kLeastSlots * residency.slot_bytes;
  if (residency.most < SlottedExperts::kLeastSlots)
    return fail(ErrorCode::out_of_memory,
                "device.memory leaves room for {} experts of {}, two are needed: raise it by {}, or lower "
                "memory.kv_tokens, engine.max_rows_per_step or engine.max_running",
                residency.most, format_bytes(residency.slot_bytes), format_bytes(two));
  if (budget < fixed + two)
    return fail(
        ErrorCode::out_of_memory,
        "the memory budget is {}; this model needs at least {} ({} for dense weights, {} for two experts, {} for "
        "everything else): raise memory.budget, or lower memory.kv_tokens, engine.max_rows_per_step or "
        "engine.max_running",
        format_bytes(budget), format_bytes(fixed + two), format_bytes(residency.dense_bytes), format_bytes(two),
        format_bytes(fixed - residency.dense_bytes));
  residency.slots = std::min<std::size_t>(residency.most, (budget - fixed) / residency.slot_bytes);
  plan.budget = budget;
  line->bytes = residency.slots * residency.slot_bytes;
  line->note = fmt::format("{} of {} experts ({} %), {} each{}", residency.slots, residency.experts,
                           100 * residency.slots / residency.experts, format_bytes(residency.slot_bytes),
                           residency.shared ? ", which the device computes in" : "");
  return {};
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
  ResidentWeights dense = {.model = model, .bytes = 0, .locked = true};
  if (options.dense) {
    SIROCCO_TRY(dense, read_dense_weights(*model, *files, options, residency.warnings));
  } else if (const auto known = load_read_shape(options.read_shape, disk_of(*files, *options.queue))) {
    options.queue->set_shape(*known);
  }
  SIROCCO_TRY(auto store, ExpertStore::create(model, files, options.slot_bytes));
  const bool threads = options.queue->kind() == "threads";
  SIROCCO_TRY(auto experts,
              SlottedExperts::create(std::move(store), std::move(options.queue), options.slots, options.policy));
  experts->set_foresight(options.foresight);
  experts->set_timeline(options.timeline);
  residency.slotted = experts.get();
  residency.experts = std::move(experts);
  residency.model = std::move(dense.model);
  if (!files->direct())
    residency.degraded.emplace_back("experts are read through the page cache: the model's file system has no O_DIRECT");
  if (threads) residency.degraded.emplace_back("experts are read by threads: the kernel refuses io_uring");
  if (!dense.locked || !residency.slotted->locked())
    residency.degraded.push_back(
        fmt::format("{} may be swapped out: locking {} in memory is not permitted (LimitMEMLOCK, ulimit -l)",
                    dense.locked ? "experts in memory" : "the dense weights", dense.locked ? "all of them" : "them"));
  return residency;
}

}  // namespace sirocco

#include "engine/backend/cuda/arena.h"

#include <algorithm>

#include "engine/backend/cuda/missing_experts.h"

namespace sirocco::cuda {

Arena Arena::lay_out(const Model& model, const BackendOptions& options, const ExpertPlaces& places, Bump memory) {
  Arena arena;
  arena.weights = lay_out_weights(model, !places.all(), memory);
  arena.weight_bytes = memory.used();
  arena.forward = ForwardMemory::lay_out(model.spec(), options, !places.all(), !gates_at_once(model), memory);
  arena.forward.shared = places.shared;
  arena.forward_bytes = memory.used() - arena.weight_bytes;
  arena.kv = {
      .base = nullptr, .blocks = options.kv_blocks, .block_tokens = options.kv_block_tokens, .type = options.kv_type};
  arena.kv.base = memory.take<std::byte>(arena.kv.bytes(model.spec()));
  arena.kv_bytes = memory.used() - arena.weight_bytes - arena.forward_bytes;
  if (places.all()) return arena;
  const SlotLayout layout(model);
  if (places.shared) {
    arena.shared.tiles = memory.take<std::byte>(layout.slot_bytes());
  } else {
    arena.passing.take_device_part(layout, memory);
    arena.slot_bytes = arena.experts.take_device_part(layout, places.device_slots, memory);
    arena.experts.table = arena.weights.expert_table;
  }
  arena.expert_bytes = memory.used() - arena.weight_bytes - arena.forward_bytes - arena.kv_bytes + arena.slot_bytes;
  return arena;
}

StepMemory StepMemory::lay_out(const ModelSpec& spec, const BackendOptions& options, Bump& memory) {
  StepMemory step;
  step.inputs = StepInputs::lay_out(options.limits, options.kv_block_tokens, memory);
  step.logits = memory.take<float>(std::size_t{options.limits.logit_rows} * spec.vocabulary);
  step.chosen = memory.take<std::int32_t>(options.limits.logit_rows);
  return step;
}

void StepMemory::lay_out_experts(const Model& model, const BackendOptions& options, const ExpertPlaces& places,
                                 Arena& arena, Bump& memory) {
  if (places.shared) return arena.shared.take_pinned_part(model.spec(), options, memory, arena.forward.mailbox);
  take_pinned_part(model.spec(), options, memory, arena.forward.mailbox);
  const SlotLayout layout(model);
  arena.experts.take_pinned_part(model.spec(), layout, memory);
  arena.passing.take_pinned_part(layout, options.limits.rows, memory);
}

std::size_t StepMemory::bytes(const Model& model, const BackendOptions& options, const ExpertPlaces& places) {
  Bump count;
  lay_out(model.spec(), options, count);
  Arena nowhere;
  if (!places.all()) lay_out_experts(model, options, places, nowhere, count);
  return count.used();
}

Result<std::size_t> slots_within(const Model& model, const BackendOptions& options, std::uint64_t budget,
                                 std::uint64_t& needed) {
  needed = Arena::lay_out(model, options, {}, Bump()).bytes();
  if (needed <= budget) return 0;
  const auto& layers = model.weights().layers;
  const auto with_experts = static_cast<std::size_t>(
      std::count_if(layers.begin(), layers.end(), [](const LayerWeights& layer) { return !layer.experts.empty(); }));
  const std::size_t experts = model.spec().moe ? with_experts * model.spec().moe->experts : 0;
  if (experts > kLeastDeviceSlots)
    needed = std::min<std::uint64_t>(
        needed, Arena::lay_out(model, options, {.device_slots = kLeastDeviceSlots}, Bump()).bytes());
  if (needed > budget)
    return fail(ErrorCode::out_of_memory, "{} of device memory, {} are needed", format_bytes(budget),
                format_bytes(needed));
  const std::uint64_t more = (budget - needed) / SlotLayout(model).slot_bytes();
  return std::min<std::size_t>(kLeastDeviceSlots + more, experts - 1);
}

}  // namespace sirocco::cuda

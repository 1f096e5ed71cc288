#include "engine/backend/cuda/arena.h"

#include <algorithm>

#include "engine/backend/cuda/missing_experts.h"

namespace sirocco::cuda {

Arena Arena::lay_out(const Model& model, const BackendOptions& options, std::size_t slots, Bump memory) {
  Arena arena;
  arena.weights = lay_out_weights(model, slots != 0, memory);
  arena.weight_bytes = memory.used();
  arena.forward = ForwardMemory::lay_out(model.spec(), options, slots != 0, !gates_at_once(model), memory);
  arena.forward_bytes = memory.used() - arena.weight_bytes;
  arena.kv = {
      .base = nullptr, .blocks = options.kv_blocks, .block_tokens = options.kv_block_tokens, .type = options.kv_type};
  arena.kv.base = memory.take<std::byte>(arena.kv.bytes(model.spec()));
  arena.kv_bytes = memory.used() - arena.weight_bytes - arena.forward_bytes;
  if (slots == 0) return arena;
  const SlotLayout layout(model);
  arena.passing.take_device_part(layout, memory);
  arena.experts.take_device_part(layout, slots, memory);
  arena.experts.table = arena.weights.expert_table;
  arena.expert_bytes = memory.used() - arena.weight_bytes - arena.forward_bytes - arena.kv_bytes;
  return arena;
}

StepMemory StepMemory::lay_out(const ModelSpec& spec, const BackendOptions& options, Bump& memory) {
  StepMemory step;
  step.inputs = StepInputs::lay_out(options.limits, options.kv_block_tokens, memory);
  step.logits = memory.take<float>(std::size_t{options.limits.logit_rows} * spec.vocabulary);
  step.chosen = memory.take<std::int32_t>(options.limits.logit_rows);
  return step;
}

void StepMemory::lay_out_experts(const Model& model, const BackendOptions& options, Arena& arena, Bump& memory) {
  take_pinned_part(model.spec(), options, memory, arena.forward.mailbox);
  const SlotLayout layout(model);
  arena.experts.take_pinned_part(model.spec(), layout, memory);
  arena.passing.take_pinned_part(layout, options.limits.rows, memory);
}

std::size_t StepMemory::bytes(const Model& model, const BackendOptions& options, bool slots) {
  Bump count;
  lay_out(model.spec(), options, count);
  Arena nowhere;
  if (slots) lay_out_experts(model, options, nowhere, count);
  return count.used();
}

Result<std::size_t> slots_within(const Model& model, const BackendOptions& options, std::uint64_t budget,
                                 std::uint64_t& needed) {
  needed = Arena::lay_out(model, options, 0, Bump()).bytes();
  if (needed <= budget) return 0;
  const auto& layers = model.weights().layers;
  const auto with_experts = static_cast<std::size_t>(
      std::count_if(layers.begin(), layers.end(), [](const LayerWeights& layer) { return !layer.experts.empty(); }));
  const std::size_t experts = model.spec().moe ? with_experts * model.spec().moe->experts : 0;
  if (experts > kLeastDeviceSlots)
    needed = std::min<std::uint64_t>(needed, Arena::lay_out(model, options, kLeastDeviceSlots, Bump()).bytes());
  if (needed > budget)
    return fail(ErrorCode::out_of_memory, "{} of device memory, {} are needed", format_bytes(budget),
                format_bytes(needed));
  const std::uint64_t more = (budget - needed) / SlotLayout(model).slot_bytes();
  return std::min<std::size_t>(kLeastDeviceSlots + more, experts - 1);
}

}  // namespace sirocco::cuda

// The memory plan: what the budget buys, before anything is allocated.
#include <algorithm>

#include "engine/base/cgroup.h"
#include "engine/engine.h"

namespace sirocco {
namespace {

constexpr std::uint32_t kBlockTokens = 32;
// A step of many rows reads nearly all experts that are not in memory, however many its rows are; unless their scratch
// costs more than a tenth of the slots.
constexpr std::uint32_t kRowsFromDisk = 256;
constexpr std::uint64_t kProgramGrowth = 32 * MiB;  // what it will take beyond what it takes at load
constexpr std::uint32_t kContexts = 4;              // full contexts that the KV cache holds when nothing else is said

std::uint64_t budget_of(const EngineOptions& options) {
  if (options.memory_budget != 0) return options.memory_budget;
  const std::uint64_t free = memory_status().free();
  return free - std::min(free, options.memory_headroom);
}

// As it was when the first model was planned: a model that is to follow another is planned while that is in memory.
std::uint64_t program_bytes() {
  static const std::uint64_t bytes = resident_bytes() + kProgramGrowth;
  return bytes;
}

std::uint32_t blocks_for(std::uint64_t tokens) {
  return static_cast<std::uint32_t>(std::min<std::uint64_t>((tokens + kBlockTokens - 1) / kBlockTokens, 1U << 26));
}

// Without what the plan finds out.
BackendOptions backend_options(const EngineOptions& options) {
  BackendOptions backend;
  backend.backend = options.backend;
  backend.isa = options.isa;
  backend.threads = options.threads;
  backend.pin_threads = options.pin_threads;
  backend.kv_type = options.kv_type;
  backend.lossy = options.lossy;
  backend.progress = options.progress;
  backend.device_memory = options.device_memory;
  backend.kv_block_tokens = kBlockTokens;
  return backend;
}

// rows: of a step.
Result<EnginePlan> plan_with_rows(const BackendKind& kind, const std::shared_ptr<const Model>& model,
                                  const EngineOptions& options, std::uint32_t rows) {
  const ModelSpec& spec = model->spec();
  EnginePlan plan;
  plan.memory.budget = budget_of(options);
  plan.backend = backend_options(options);
  BackendOptions& backend = plan.backend;
  backend.backend = kind.name();
  const std::uint32_t context = options.context != 0 ? options.context : spec.context;
  backend.limits = {.rows = std::max(rows, options.max_running), .logit_rows = options.max_running, .context = context};
  if (options.kv_tokens != 0) {
    backend.kv_blocks = blocks_for(options.kv_tokens);
  } else {
    SIROCCO_TRY(const std::uint64_t room, kind.kv_budget(*model, backend, plan.memory.budget));
    const std::uint64_t affordable = room / kind.kv_block_bytes(spec, backend) * kBlockTokens;
    const std::uint64_t wanted = std::uint64_t{context} * std::min(kContexts, options.max_running);
    backend.kv_blocks = std::max(blocks_for(std::min(wanted, affordable)), 1U);
  }
  // One sequence cannot be longer than the cache, unless that holds all that it sees.
  const KvWindow window = {.tokens = spec.window, .rows = backend.limits.rows};
  if (most_kv_blocks(context, window, kBlockTokens) > backend.kv_blocks)
    backend.limits.context = std::min(context, backend.kv_blocks * kBlockTokens);
  plan.memory.lines.push_back({.name = "program", .bytes = program_bytes(), .note = "code, tokenizer, connections"});
  plan.memory.lines.push_back({.name = "logits",
                               .bytes = std::uint64_t{options.max_running} * spec.vocabulary * sizeof(float),
                               .note = fmt::format("{} sequences", options.max_running)});
  SIROCCO_TRY(const HostWeights host, kind.plan(*model, backend, plan.memory));
  plan.device_slots = host.device_slots;
  if (plan.memory.charged() > plan.memory.budget)
    return fail(ErrorCode::out_of_memory,
                "the memory budget is {}, the program, its KV cache and its scratch need {}: raise memory.budget to "
                "that, or lower "
                "memory.kv_tokens, engine.max_rows_per_step or engine.max_running",
                format_bytes(plan.memory.budget), format_bytes(plan.memory.charged()));
  if (!host.dense && !host.experts) return plan;
  SIROCCO_TRY(plan.residency, plan_residency(model, host, plan.memory));
  return plan;
}

Result<EnginePlan> plan_for(const BackendKind& kind, const std::shared_ptr<const Model>& model,
                            const EngineOptions& options) {
  if (options.max_rows_per_step != 0) return plan_with_rows(kind, model, options, options.max_rows_per_step);
  SIROCCO_TRY(EnginePlan plan, plan_with_rows(kind, model, options, kind.rows_per_step()));
  if (plan.residency.slots == 0) return plan;
  auto larger = plan_with_rows(kind, model, options, kRowsFromDisk);
  const bool worth_it = larger && larger->residency.slots >= plan.residency.slots - plan.residency.slots / 10;
  return worth_it ? larger : plan;
}

}  // namespace

Result<EnginePlan> plan_engine(const std::shared_ptr<const Model>& model, const EngineOptions& options) {
  if (options.context > model->spec().context)
    return fail(ErrorCode::invalid_argument, "a context of {} tokens was asked for, the model was made for {}",
                options.context, model->spec().context);
  std::vector<std::string> passed_over;
  SIROCCO_TRY(const BackendKind* kind, choose_backend(*model, backend_options(options), &passed_over));
  auto plan = plan_for(*kind, model, options);
  if (!plan && kind->holds_weights() && options.backend == "auto") {
    // The host's memory can be larger, and has a disk behind it.
    passed_over.push_back(plan.error().at(kNotUsed).message());
    plan = plan_for(host_backend(), model, options);
  }
  if (plan) plan->warnings = std::move(passed_over);
  return plan;
}

}  // namespace sirocco

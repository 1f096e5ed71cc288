// From a model's file to an Engine: first what can be known without taking memory, then the rest.
#include <algorithm>
#include <limits>

#include "engine/base/cgroup.h"
#include "engine/engine.h"
#include "engine/experts/hot_set.h"
#include "engine/experts/slot_governor.h"

namespace sirocco {
namespace {

// Beside what is in memory now.
bool fits_beside(const EnginePlan& plan, const EngineOptions& options) {
  std::uint64_t bytes = 0;
  for (const MemoryPlan::Line& line : plan.memory.lines)
    if (line.charged || plan.residency.slots == 0) bytes += line.bytes;
  const std::uint64_t free = memory_status().free();
  return bytes <= free - std::min(free, options.memory_headroom);
}

// What a block of the KV cache looks like. All instruction sets of a backend agree on it.
std::string kv_layout(const Backend& backend, const BackendOptions& options) {
  return fmt::format("{} {} {}", backend.name(), tensor_type_info(options.kv_type)->name, options.kv_block_tokens);
}

// Why the host computes more slowly than this machine could, if it does. Who names the ref backend wants it.
std::optional<std::string> slower_kernels(const Backend& backend, const EngineOptions& options) {
  const std::vector<std::string_view> best = isa_names();
  if (backend.name() == "ref" && options.backend != "ref")
    return "the processor has none of the instructions that the cpu backend is made for: the slow reference computes";
  if (backend.name() == "cpu" && backend.isa() != best.front())
    return fmt::format("the processor has {}, {} is used (engine.isa)", best.front(), backend.isa());
  return std::nullopt;
}

Result<std::unique_ptr<SessionStore>> open_session_store(const Model& model, const Backend& backend,
                                                         const EngineOptions& options, const BackendOptions& planned) {
  if (options.sessions.folder.empty()) return nullptr;
  SIROCCO_TRY(SessionStore store, SessionStore::open({.folder = options.sessions.folder,
                                                      .bytes_per_uid = options.sessions.disk_bytes_per_uid,
                                                      .model = model_fingerprint(model),
                                                      .kv_layout = kv_layout(backend, planned),
                                                      .block_tokens = planned.kv_block_tokens,
                                                      .block_bytes = backend.block_bytes()}));
  return std::make_unique<SessionStore>(std::move(store));
}

}  // namespace

Result<PreparedModel> prepare_model(const EngineOptions& options, std::uint64_t freed) {
  PreparedModel prepared;
  prepared.options = options;
  SIROCCO_TRY(prepared.model, Model::open(options.model));
  const Model& model = *prepared.model;
  const std::string where = options.model.filename().string();
  auto tokenizer = Tokenizer::from_metadata(model.file().metadata());
  if (!tokenizer) return fail(tokenizer.error().at(where));
  prepared.tokenizer = *std::move(tokenizer);
  if (prepared.tokenizer->vocabulary_size() != model.spec().vocabulary)
    return fail(ErrorCode::corrupt, "{}: the tokenizer has {} tokens, token_embd.weight {} rows", where,
                prepared.tokenizer->vocabulary_size(), model.spec().vocabulary);
  auto chat = ChatFormat::from_metadata(model.file().metadata(), prepared.tokenizer);
  if (chat) {
    prepared.chat = *std::move(chat);
  } else {
    prepared.chat_error = chat.error().at(where);
  }
  EngineOptions later = options;
  if (later.memory_budget == 0 && freed != 0) {
    const std::uint64_t free = memory_status().free() + freed;
    later.memory_budget = free - std::min(free, options.memory_headroom);
  }
  SIROCCO_TRY(const EnginePlan plan, plan_engine(prepared.model, later));
  // Slots are as many as memory has room for when they are made, unless a budget was given.
  prepared.fits_beside = (plan.residency.slots == 0 || options.memory_budget != 0) && fits_beside(plan, options);
  if (prepared.fits_beside) prepared.options = later;
  return prepared;
}

Result<std::unique_ptr<Engine>> Engine::open(const PreparedModel& prepared, EventSink sink, FailureSink on_failure) {
  const EngineOptions& options = prepared.options;
  EngineParts parts;
  parts.model = prepared.model;
  parts.tokenizer = prepared.tokenizer;
  parts.chat = prepared.chat;
  parts.chat_error = prepared.chat_error;
  SIROCCO_TRY(EnginePlan plan, plan_engine(parts.model, options));
  parts.plan = std::move(plan.memory);
  SIROCCO_TRY(Residency residency, make_residency(parts.model, {.slots = plan.residency.slots,
                                                                .slot_bytes = plan.residency.slot_bytes,
                                                                .dense = plan.residency.dense_bytes != 0,
                                                                .policy = options.eviction,
                                                                .foresight = options.foresight,
                                                                .read_shape = options.read_shape,
                                                                .progress = options.progress.get(),
                                                                .queue = nullptr}));
  parts.model = std::move(residency.model);
  parts.experts = std::move(residency.experts);
  parts.slotted = residency.slotted;
  parts.warnings = std::move(residency.warnings);
  parts.degraded = std::move(residency.degraded);
  for (const std::string& passed_over : plan.warnings)
    parts.degraded.push_back(passed_over + "; backend: cpu says that this is meant to be");
  if (parts.slotted != nullptr)
    for (std::string& reason : lossy_reasons(options.lossy)) parts.degraded.push_back(std::move(reason));
  // A budget that was given is kept unless memory really runs out.
  parts.memory_reserve =
      options.memory_budget == 0 ? options.memory_headroom : std::min(options.memory_headroom, kLeastReserve);
  parts.residency = plan.residency;
  if (parts.slotted != nullptr && !options.hot_set.empty()) {
    if (const auto hot = load_hot_set(options.hot_set, *parts.model)) {
      parts.slotted->preload(*hot);
    } else {
      parts.warnings.push_back(hot.error().message());
    }
  }
  SIROCCO_TRY(parts.backend, make_backend(parts.model, *parts.experts, plan.backend));
  if (auto reason = slower_kernels(*parts.backend, options)) parts.degraded.push_back(*std::move(reason));
  parts.context = plan.backend.limits.context;
  parts.kv_blocks = plan.backend.kv_blocks;
  parts.kv_block_tokens = plan.backend.kv_block_tokens;
  parts.window = parts.model->spec().window;
  parts.cache_share = options.cache_share;
  parts.sessions = options.sessions;
  SIROCCO_TRY(parts.session_store, open_session_store(*parts.model, *parts.backend, options, plan.backend));
  if (!options.kv_swap.empty()) {
    SIROCCO_TRY(parts.swap_file,
                SwapFile::create(options.kv_swap, options.kv_swap_bytes, parts.backend->block_bytes()));
  }
  parts.max_rows_per_step = plan.backend.limits.rows;
  parts.max_running = options.max_running;
  parts.max_queued = options.max_queued;
  parts.max_queued_per_uid = options.max_queued_per_uid;
  parts.idle_after = options.idle_after;
  parts.step_watch = options.step_watch;
  if (options.max_step_seconds != 0) {
    parts.max_step_seconds = options.max_step_seconds;
  } else if (parts.slotted != nullptr) {
    parts.max_step_seconds = std::numeric_limits<double>::infinity();
  }
  return start(std::move(parts), std::move(sink), std::move(on_failure));
}

}  // namespace sirocco

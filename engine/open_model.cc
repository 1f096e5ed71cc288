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

constexpr int kMostPlans = 4;  // for a device that gives less than it says is free, each for an eighth less

// What a plan takes of a device's memory.
std::uint64_t device_bytes(const EnginePlan& plan) {
  std::uint64_t bytes = plan.residency.shared ? plan.residency.slots * plan.residency.slot_bytes : 0;
  for (const MemoryPlan::Line& line : plan.memory.lines)
    if (line.name.starts_with("device ")) bytes += line.bytes;
  return bytes;
}

// Beside the list of the experts that were in the host's memory.
std::filesystem::path device_hot_set(const std::filesystem::path& file) {
  return file.string() + ".device";
}

// Empty: there is none, or it is of no use, which is a warning.
std::vector<ExpertId> hot_experts(const std::filesystem::path& file, EngineParts& parts) {
  auto hot = load_hot_set(file, *parts.model);
  if (hot) return *std::move(hot);
  parts.warnings.push_back(hot.error().message());
  return {};
}

// The plan's experts and backend.
Result<void> open_backend(const PreparedModel& prepared, const EngineOptions& options, EnginePlan& plan,
                          EngineParts& parts) {
  parts.model = prepared.model;
  parts.plan = plan.memory;
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
  parts.degraded = options.degraded;
  parts.degraded.insert(parts.degraded.end(), residency.degraded.begin(), residency.degraded.end());
  for (const std::string& passed_over : plan.warnings)
    parts.degraded.push_back(passed_over + "; backend: cpu says that this is meant to be");
  if (parts.slotted != nullptr)
    for (std::string& reason : lossy_reasons(options.lossy)) parts.degraded.push_back(std::move(reason));
  // A budget that was given is kept unless memory really runs out.
  parts.memory_reserve =
      options.memory_budget == 0 ? options.memory_headroom : std::min(options.memory_headroom, kLeastReserve);
  parts.residency = plan.residency;
  if (parts.model->spec().moe && !options.hot_set.empty()) {
    if (parts.slotted != nullptr) parts.slotted->preload(hot_experts(options.hot_set, parts));
    if (plan.device_slots != 0) plan.backend.hot_set = hot_experts(device_hot_set(options.hot_set), parts);
  }
  SIROCCO_TRY(parts.backend, make_backend(parts.model, *parts.experts, plan.backend));
  return {};
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
  EngineOptions options = prepared.options;
  EngineParts parts;
  EnginePlan plan;
  std::vector<std::string> shrunk;
  for (int tries = 1;; ++tries) {
    SIROCCO_TRY(plan, plan_engine(prepared.model, options));
    parts = {};
    const auto opened = open_backend(prepared, options, plan, parts);
    if (opened) break;
    const std::uint64_t planned = device_bytes(plan);
    if (opened.error().code() != ErrorCode::out_of_memory || planned == 0 || tries == kMostPlans)
      return fail(opened.error());
    // Others have taken what was free, or it is in pieces that are too small.
    options.device_memory = planned - planned / 8;
    shrunk = {fmt::format("the GPU did not give the {} that were planned: {}", format_bytes(planned),
                          opened.error().message())};
  }
  parts.warnings.insert(parts.warnings.end(), shrunk.begin(), shrunk.end());
  parts.tokenizer = prepared.tokenizer;
  parts.chat = prepared.chat;
  parts.chat_error = prepared.chat_error;
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

Result<void> Engine::save_hot_set(const std::filesystem::path& file) const {
  const EngineParts& parts = this->parts();
  if (parts.slotted != nullptr) SIROCCO_CHECK(sirocco::save_hot_set(file, *parts.model, parts.slotted->hot_set()));
  const ExpertSlots* const device = parts.backend->device_slots();
  if (device == nullptr) return {};
  return sirocco::save_hot_set(device_hot_set(file), *parts.model, device->hot_set());
}

}  // namespace sirocco

#include "engine/backend/cuda/cuda_backend.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cassert>
#include <chrono>
#include <cstring>

#include "engine/backend/cuda/arena.h"
#include "engine/backend/cuda/expert_split.h"
#include "engine/backend/cuda/graph_cache.h"
#include "engine/backend/cuda/kv_blocks.h"
#include "engine/backend/cuda/missing_experts.h"
#include "engine/backend/cuda/nvml.h"
#include "engine/backend/cuda/shared_upload.h"
#include "engine/backend/cuda/upload.h"

namespace sirocco {
namespace {

using namespace cuda;

constexpr std::uint32_t kRowsPerStep = 512;          // enough for the tensor cores; a step of them takes some ten ms
constexpr std::uint32_t kGraphRows = 16;             // of a step that is worth a graph: others are few, and long
constexpr std::uint32_t kFewPromptRows = 128;        // of a prompt's step, below and above which shares are learnt
constexpr std::uint64_t kHeadroom = 256 * MiB;       // of the device, for the context, graphs and other users
constexpr std::uint64_t kKvShare = 4;                // where the KV cache gets one of so many parts
constexpr std::size_t kCopyBytes = 256 * MiB;        // of a measurement: more than any cache
constexpr std::uint64_t kRuntimeMemory = 192 * MiB;  // of the host, that the CUDA runtime and driver take

// nvml: or why there is none.
DeviceState state_of(const DeviceInfo& device, const Result<std::unique_ptr<Nvml>>& nvml) {
  DeviceState state = {.name = device.name,
                       .driver = "for " + device.cuda,
                       .architecture = device.isa,
                       .integrated = device.integrated,
                       .memory = device.total,
                       .used = device.total - std::min(device.free, device.total)};
  if (nvml) {
    (*nvml)->fill(state);
  } else {
    state.unknown = fmt::format("clock, temperature, throttling: {}", nvml.error().message());
  }
  return state;
}

SlotReach reach_of(const DeviceInfo& device) {
  if (device.reads_pageable) return SlotReach::pageable;
  return device.registers ? SlotReach::registered : SlotReach::none;
}

class CudaBackend final : public Backend {
 public:
  CudaBackend(std::shared_ptr<const Model> model, const BackendOptions& options, DeviceInfo device)
      : model_(std::move(model)),
        options_(options),
        device_(std::move(device)),
        nvml_(Nvml::load(device_.pci_bus_id)) {}
  ~CudaBackend() override {
    if (missing_) missing_->give_up();
    if (stream_) cudaStreamSynchronize(stream_.get());  // it uses what goes now
  }

  // `experts`: those that are not on the device, or all that are shared with it.
  Result<void> open(const ExpertPlaces& places, ExpertSource& experts);
  // Has failed: the next one is not to find what it has left in the device.
  void distrust() { user_.want_reset(); }

  std::string_view name() const override { return "cuda"; }
  std::string_view isa() const override { return device_.isa; }
  std::size_t threads() const override { return missing_ ? missing_->threads() : 1; }
  std::string_view device() const override { return device_.name; }
  std::optional<DeviceState> device_state() const override;
  ExpertSlots* device_slots() override { return device_experts_.get(); }
  Result<void> step(const Step& step, std::span<float> logits, StepReport& report) override;

  std::size_t block_bytes() const override { return KvBlocks::bytes(arena_.kv, model_->spec()); }
  Result<void> copy_block(BlockId from, BlockId to) override { return blocks_->copy(from, to); }
  Result<void> export_block(BlockId block, std::span<std::byte> bytes) const override {
    return blocks_->read(block, bytes);
  }
  Result<void> import_block(BlockId block, std::span<const std::byte> bytes) override {
    return blocks_->write(block, bytes);
  }

 private:
  Result<void> upload_weights(ThreadPool& pool);
  Result<void> open_experts(ExpertSource& experts, ThreadPool& pool);
  Result<void> open_shared_experts(ExpertSource& experts);
  Result<void> clear_mailbox();
  Result<void> compute(const Step& step, std::span<float> logits, StepReport& report);
  Result<void> copy_logits(std::size_t first, std::size_t rows);
  Result<void> fetch_logits(const StepShape& shape);
  Result<void> take_tokens(const Step& step, const StepShape& shape, std::span<float> logits, StepReport& report);
  Result<void> launch(const StepShape& shape, StepReport& report);
  Result<void> launch_graph(StepShape shape, StepReport& report);
  MissingExperts::ByLayer by_layers(const StepShape& shape, double share) const;
  Result<void> launch_prompt(const StepShape& shape, StepReport& report);
  Result<void> answer_until_done(const StepShape& shape, StepReport& report);
  std::span<const std::uint32_t> sequences(const StepShape& shape) const {
    return {host_.inputs.sequences, shape.rows};
  }

  DeviceUser user_;  // first: it goes when all that is below has gone
  std::shared_ptr<const Model> model_;
  BackendOptions options_;
  DeviceInfo device_;
  Result<std::unique_ptr<Nvml>> nvml_;  // or why there is none
  DeviceMemory device_memory_;
  PinnedMemory host_memory_;
  Arena arena_;
  StepMemory host_;
  Stream stream_;
  std::unique_ptr<DeviceExperts> device_experts_;  // where not all are in device memory
  std::unique_ptr<MissingExperts> missing_;        // likewise
  std::unique_ptr<PassingExperts> passing_;        // likewise
  std::unique_ptr<SharedExperts> shared_;          // where their slots are the host's as well
  std::array<ExpertSplit, 2> splits_;              // of prompts' steps of few and of many rows
  std::optional<CudaForward> forward_;
  std::optional<KvBlocks> blocks_;
  GraphCache graphs_;
  std::optional<Error> broken_;  // what made the device useless
};

// Allocates everything, copies the weights, and takes a step of one token: that loads the kernels, and finds out now
// whether they run on this device.
Result<void> CudaBackend::open(const ExpertPlaces& places, ExpertSource& experts) {
  const ModelSpec& spec = model_->spec();
  const Arena planned = Arena::lay_out(*model_, options_, places, Bump());
  SIROCCO_TRY(device_memory_, allocate_device(planned.bytes() - planned.slot_bytes));
  arena_ = Arena::lay_out(*model_, options_, places, Bump(device_memory_.get()));
  SIROCCO_TRY(host_memory_, allocate_pinned(StepMemory::bytes(*model_, options_, places)));
  Bump host(host_memory_.get());
  host_ = StepMemory::lay_out(spec, options_, host);
  arena_.forward.chosen = host_.chosen;
  if (!places.all()) StepMemory::lay_out_experts(*model_, options_, places, arena_, host);
  if (device_.integrated) {  // kernels read and write them where they are
    arena_.forward.inputs = host_.inputs;
    arena_.forward.logits = host_.logits;
  }
  SIROCCO_TRY(stream_, make_stream());
  {
    SIROCCO_TRY(ThreadPool pool, ThreadPool::create(options_.threads));
    SIROCCO_CHECK(upload_weights(pool));
    if (places.device_slots != 0) SIROCCO_CHECK(open_experts(experts, pool));
  }
  if (places.shared) SIROCCO_CHECK(open_shared_experts(experts));
  forward_.emplace(spec, arena_.weights.weights, arena_.forward, arena_.kv);
  SIROCCO_TRY(blocks_, KvBlocks::create(arena_.kv, spec));
  const TokenId token = 0;
  const BlockId block = 0;
  const StepSequence sequence = {
      .tokens = {&token, 1}, .position = 0, .block_table = {&block, 1}, .choice = TokenChoice()};
  std::vector<float> logits(spec.vocabulary);
  StepReport report;  // an expert that cannot be read now may be readable later
  return compute({.sequences = {&sequence, 1}}, logits, report);
}

Result<void> CudaBackend::upload_weights(ThreadPool& pool) {
  LoadProgress* const progress = options_.progress.get();
  if (device_.integrated) {
    SIROCCO_TRY(const Reach reach, find_reach(model_->file()));
    SIROCCO_CHECK(upload_shared(arena_.weights.uploads, model_->file(), reach, pool, progress));
  } else {
    SIROCCO_CHECK(upload(arena_.weights.uploads, pool, progress));
  }
  arena_.weights.uploads = {};
  return {};
}

Result<void> CudaBackend::clear_mailbox() {
  const Mailbox& mailbox = arena_.forward.mailbox;
  const std::size_t counts = std::size_t{model_->spec().layers} * model_->spec().moe->experts;
  for (std::uint32_t* word : {mailbox.posts, mailbox.missing_now, mailbox.blocks_done})
    SIROCCO_CHECK(checked(cudaMemsetAsync(word, 0, sizeof *word, stream_.get()), "cudaMemsetAsync"));
  return checked(cudaMemsetAsync(mailbox.rows_of_expert, 0, counts * sizeof(std::uint32_t), stream_.get()),
                 "cudaMemsetAsync");
}

Result<void> CudaBackend::open_experts(ExpertSource& experts, ThreadPool& pool) {
  SIROCCO_TRY(device_experts_, DeviceExperts::create(model_, SlotLayout(*model_), arena_.experts));
  SIROCCO_CHECK(device_experts_->fill(options_.hot_set, pool));
  SIROCCO_CHECK(clear_mailbox());
  SIROCCO_TRY(passing_, PassingExperts::create(SlotLayout(*model_), arena_.passing));
  SIROCCO_TRY(missing_, MissingExperts::create(model_, experts, options_, arena_.forward.mailbox));
  return {};
}

Result<void> CudaBackend::open_shared_experts(ExpertSource& experts) {
  SIROCCO_CHECK(clear_mailbox());
  SIROCCO_TRY(shared_,
              SharedExperts::create(model_, experts, arena_.shared, arena_.forward.mailbox, reach_of(device_)));
  return {};
}

Result<void> CudaBackend::step(const Step& step, std::span<float> logits, StepReport& report) {
  const Timeline::Span span(options_.instruments.timeline,
                            {.kind = Timeline::Kind::step, .rows = static_cast<std::uint32_t>(step.rows())});
  report.failures.clear();
  report.tokens.clear();
  report.lossy_experts.assign(options_.lossy.on() ? step.sequences.size() : 0, 0);
  if (broken_) return fail(broken_->at("the GPU failed in an earlier step"));
  const auto computed = compute(step, logits, report);
  if (computed) return {};
  distrust();
  const std::optional<std::uint64_t> xid = nvml_ ? (*nvml_)->take_xid() : std::nullopt;
  broken_ =
      Error(ErrorCode::device_failed, fmt::format("the GPU failed: {}: {}{}", device_.name, computed.error().message(),
                                                  xid ? fmt::format(", Xid {}", *xid) : ""));
  return fail(*broken_);
}

std::optional<DeviceState> CudaBackend::device_state() const {
  DeviceInfo device = device_;
  if (const auto free = free_memory(device.integrated)) device.free = *free;
  DeviceState state = state_of(device, nvml_);
  state.arena = arena_.bytes();
  if (device_experts_) state.arena -= (arena_.experts.slots - device_experts_->slots()) * device_experts_->slot_bytes();
  return state;
}

Result<void> CudaBackend::compute(const Step& step, std::span<float> logits, StepReport& report) {
  assert(step.rows() > 0 && step.rows() <= options_.limits.rows && step.logit_rows() <= options_.limits.logit_rows);
  assert(logits.size() == step.logit_rows() * model_->spec().vocabulary);
  // The step before has been waited for: nothing reads the host's memory now.
  const ModelSpec& spec = model_->spec();
  std::size_t bytes = 0;
  const StepShape shape = write_inputs(step, options_.kv_block_tokens, spec.window, host_.inputs, bytes);
  if (!device_.integrated)
    SIROCCO_CHECK(checked(cudaMemcpyAsync(arena_.forward.inputs.tokens, host_.inputs.tokens, bytes,
                                          cudaMemcpyHostToDevice, stream_.get()),
                          "cudaMemcpyAsync of a step's inputs"));
  if (missing_) missing_->set_pulse(step.pulse);
  if (shared_) shared_->set_pulse(step.pulse);
  Result<void> launched = launch(shape, report);
  if (launched) launched = fetch_logits(shape);
  if (launched && missing_) launched = answer_until_done(shape, report);
  if (!launched && missing_) missing_->give_up();
  // Also after a failure: what was enqueued reads the host's memory.
  const auto done = checked(cudaStreamSynchronize(stream_.get()), "a step");
  if (shared_) shared_->end_step();
  SIROCCO_CHECK(launched);
  SIROCCO_CHECK(done);
  SIROCCO_CHECK(take_tokens(step, shape, logits, report));
  if (!device_experts_) return {};
  // As CudaForward::enqueue has it: where no row wants logits, the last layer's experts are not computed.
  return device_experts_->end_step(shape.rows, spec.layers - (shape.logit_rows == 0 ? 1 : 0));
}

Result<void> CudaBackend::copy_logits(std::size_t first, std::size_t rows) {
  if (device_.integrated) return {};  // they are there
  const std::size_t vocabulary = model_->spec().vocabulary;
  return checked(cudaMemcpyAsync(host_.logits + first * vocabulary, arena_.forward.logits + first * vocabulary,
                                 rows * vocabulary * sizeof(float), cudaMemcpyDeviceToHost, stream_.get()),
                 "cudaMemcpyAsync of logits");
}

// Enqueues the way to the host of the logits that no kernel makes a token of.
Result<void> CudaBackend::fetch_logits(const StepShape& shape) {
  std::uint32_t first = 0;
  while (first < shape.logit_rows) {
    std::uint32_t end = first;
    while (end < shape.logit_rows && host_.inputs.choices[end].wanted == 0) ++end;
    if (end > first) SIROCCO_CHECK(copy_logits(first, end - first));
    first = end + 1;
  }
  return {};
}

// The step has been waited for. Where no token could be chosen, the caller finds out why from the logits.
Result<void> CudaBackend::take_tokens(const Step& step, const StepShape& shape, std::span<float> logits,
                                      StepReport& report) {
  const std::size_t vocabulary = model_->spec().vocabulary;
  if (shape.chooses) report.tokens.assign(step.sequences.size(), kNoToken);
  std::size_t row = 0;
  for (std::size_t i = 0; i < step.sequences.size(); ++i) {
    const StepSequence& sequence = step.sequences[i];
    const std::size_t rows = sequence.logit_rows();
    if (rows == 0) continue;
    const bool chosen = host_.inputs.choices[row].wanted != 0;
    if (chosen) report.tokens[i] = host_.chosen[row];
    const bool void_row = chosen && host_.chosen[row] != kNoToken;
    if (chosen && !void_row) {
      SIROCCO_CHECK(copy_logits(row, 1));
      SIROCCO_CHECK(checked(cudaStreamSynchronize(stream_.get()), "cudaStreamSynchronize"));
    }
    if (!void_row) std::copy_n(host_.logits + row * vocabulary, rows * vocabulary, &logits[row * vocabulary]);
    row += rows;
  }
  return {};
}

Result<void> CudaBackend::launch(const StepShape& shape, StepReport& report) {
  const bool few = shape.rows <= kGraphRows;
  if (shared_)
    return forward_->enqueue(shape, stream_.get(), [&](std::uint32_t) {
      return shared_->compute({.forward = *forward_, .shape = shape, .stream = stream_.get()}, sequences(shape),
                              report.failures);
    });
  if (!device_experts_) return few ? launch_graph(shape, report) : forward_->enqueue(shape, stream_.get());
  SIROCCO_CHECK(device_experts_->begin_step(stream_.get()));
  SIROCCO_CHECK(few ? launch_graph(shape, report) : launch_prompt(shape, report));
  return device_experts_->fetch_uses(arena_.forward.mailbox.rows_of_expert, stream_.get());
}

MissingExperts::ByLayer CudaBackend::by_layers(const StepShape& shape, double share) const {
  return {.forward = *forward_, .passing = *passing_, .shape = shape, .share = share, .stream = stream_.get()};
}

Result<void> CudaBackend::launch_graph(StepShape shape, StepReport& report) {
  const std::uint32_t window = model_->spec().window;
  shape.splits = std::min(std::bit_ceil(shape.splits), splits_of(options_.limits.context, window));
  MissingHook missing;
  if (missing_)
    missing = [&](std::uint32_t) { return missing_->answer(by_layers(shape, 0), sequences(shape), report.failures); };
  return graphs_.launch(*forward_, shape, stream_.get(), missing);
}

// Layer by layer: what one misses must be known before the next can be enqueued.
Result<void> CudaBackend::launch_prompt(const StepShape& shape, StepReport& report) {
  ExpertSplit& split = splits_.at(shape.rows <= kFewPromptRows ? 0 : 1);
  const std::size_t share = split.choose();
  const std::uint64_t asked_before = missing_->asked();
  const auto begin = std::chrono::steady_clock::now();
  const MissingExperts::ByLayer prompt = by_layers(shape, ExpertSplit::kShares.at(share));
  SIROCCO_CHECK(forward_->enqueue(shape, stream_.get(), [&](std::uint32_t) {
    return missing_->answer(prompt, sequences(shape), report.failures);
  }));
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - begin;
  if (const std::uint64_t asked = missing_->asked() - asked_before; asked != 0)
    split.learn(share, asked, seconds.count());
  return {};
}

// The host's part of a step: the experts that layers ask for. Also looks whether the step has ended, or failed.
Result<void> CudaBackend::answer_until_done(const StepShape& shape, StepReport& report) {
  for (;;) {
    if (missing_->answer(sequences(shape), report.failures, *device_experts_)) continue;
    const cudaError_t status = cudaStreamQuery(stream_.get());
    if (status != cudaErrorNotReady) return checked(status, "a step");
  }
}

class CudaKind final : public BackendKind {
 public:
  std::string_view name() const override { return "cuda"; }
  Result<void> available(const BackendOptions& options) const override {
    if (options.isa != "auto")
      return fail(ErrorCode::invalid_argument, "isa \"{}\": the cuda backend has none to choose", options.isa);
    SIROCCO_CHECK(find_device());
    return {};
  }
  Result<void> check(const Model& model, const BackendOptions& options) const override;
  std::optional<DeviceState> device_state() const override {
    const auto device = find_device();
    return device ? std::optional(state_of(*device, Nvml::load(device->pci_bus_id))) : std::nullopt;
  }
  std::uint32_t rows_per_step() const override { return kRowsPerStep; }
  bool holds_weights() const override { return true; }
  Result<std::optional<double>> memory_bandwidth() const override;
  std::size_t kv_block_bytes(const ModelSpec& spec, const BackendOptions& options) const override {
    const CudaKv block = {
        .base = nullptr, .blocks = 1, .block_tokens = options.kv_block_tokens, .type = options.kv_type};
    return block.bytes(spec);
  }
  Result<std::uint64_t> kv_budget(const Model& model, const BackendOptions& options,
                                  std::uint64_t host_budget) const override;
  Result<HostWeights> plan(const Model& model, const BackendOptions& options, MemoryPlan& plan) const override;
  Result<std::unique_ptr<Backend>> make(std::shared_ptr<const Model> model, ExpertSource& experts,
                                        const BackendOptions& options) const override;
};

// Bytes of the device that may be asked for.
std::uint64_t budget_of(const DeviceInfo& device, const BackendOptions& options) {
  const std::uint64_t free = device.free - std::min(device.free, kHeadroom);
  return options.device_memory == 0 ? free : std::min(free, options.device_memory);
}

// Page-locked memory of the host.
std::uint64_t staging_bytes(const Model& model, const DeviceInfo& device, const BackendOptions& options,
                            const Arena& arena, const ExpertPlaces& places) {
  return (device.integrated ? kReachMemory : kUploadMemory) + StepMemory::bytes(model, options, places) +
         KvBlocks::bytes(arena.kv, model.spec());
}

// Within `left` bytes of the memory that an integrated device shares with the host. Experts that do not fit are in the
// host's slots, for which there will be what remains.
Result<ExpertPlaces> find_shared_places(const Model& model, const DeviceInfo& device, const BackendOptions& options,
                                        std::uint64_t left) {
  std::uint64_t needed = UINT64_MAX;
  std::uint64_t room = 0;
  for (const ExpertPlaces& places : {ExpertPlaces(), ExpertPlaces{.shared = true}}) {
    if (places.shared && !model.spec().moe) break;
    const Arena arena = Arena::lay_out(model, options, places, Bump());
    const std::uint64_t slots = places.shared ? kLeastDeviceSlots * SlotLayout(model).slot_bytes() : 0;
    room = std::min(budget_of(device, options),
                    left - std::min(left, staging_bytes(model, device, options, arena, places)));
    if (arena.bytes() + slots <= room) return places;
    needed = std::min(needed, arena.bytes() + slots);
  }
  return fail(ErrorCode::out_of_memory,
              "{}: {} of the memory that it shares with the host may be used, the model with this KV cache needs {}: "
              "raise memory.budget (and device.memory), lower memory.kv_tokens, engine.max_rows_per_step or "
              "engine.max_running, or use engine.backend: cpu",
              device.name, format_bytes(room), format_bytes(needed));
}

Result<ExpertPlaces> find_places(const Model& model, const DeviceInfo& device, const BackendOptions& options) {
  const std::uint64_t budget = budget_of(device, options);
  if (device.integrated) return find_shared_places(model, device, options, UINT64_MAX);
  std::uint64_t needed = 0;
  if (const auto slots = slots_within(model, options, budget, needed)) return ExpertPlaces{.device_slots = *slots};
  return fail(
      ErrorCode::out_of_memory,
      "{}: {} of its {} may be used, {} are free; the model with this KV cache needs {}: raise device.memory to "
      "that, lower memory.kv_tokens, engine.max_rows_per_step or engine.max_running, or use engine.backend: cpu",
      device.name, format_bytes(budget), format_bytes(device.total), format_bytes(device.free), format_bytes(needed));
}

Result<void> CudaKind::check(const Model& model, const BackendOptions& options) const {
  SIROCCO_CHECK(check_model(model));
  if (options.kv_type != TensorType::f16 && options.kv_type != TensorType::q8_0)
    return fail(ErrorCode::unsupported,
                "a KV cache in {}: the cuda backend computes f16 and q8_0; change memory.kv_type (--kv), or use "
                "engine.backend: cpu",
                tensor_type_info(options.kv_type)->name);
  if (options.kv_type == TensorType::q8_0 && model.spec().head_dim % 32 != 0)
    return fail(ErrorCode::unsupported,
                "a KV cache in Q8_0 wants heads of a multiple of 32 dimensions, this model's have {}; use "
                "memory.kv_type: f16",
                model.spec().head_dim);
  if (options.instruments.replay != nullptr)
    return fail(ErrorCode::unsupported, "a trace of routing: the cuda backend has no replay; use --backend cpu");
  return {};
}

// All that weights and scratch leave: nothing else wants it, but where it is the host's memory. Where not all experts
// find room, a share: the rest is theirs.
Result<std::uint64_t> CudaKind::kv_budget(const Model& model, const BackendOptions& options,
                                          std::uint64_t host_budget) const {
  SIROCCO_TRY(const DeviceInfo device, find_device());
  const std::uint64_t budget = budget_of(device, options);
  const auto room_beside = [&](const ExpertPlaces& places) {
    const Arena arena = Arena::lay_out(model, options, places, Bump());
    return budget - std::min(budget, arena.bytes() - arena.kv_bytes);
  };
  std::uint64_t room = room_beside({});
  if (room == 0 && model.spec().moe)
    room = room_beside(device.integrated ? ExpertPlaces{.shared = true}
                                         : ExpertPlaces{.device_slots = kLeastDeviceSlots}) /
           kKvShare;
  return device.integrated ? std::min(room, host_budget / kKvShare) : room;
}

Result<HostWeights> CudaKind::plan(const Model& model, const BackendOptions& options, MemoryPlan& plan) const {
  SIROCCO_TRY(const DeviceInfo device, find_device());
  plan.lines.push_back({.name = "CUDA", .bytes = kRuntimeMemory, .note = "runtime and driver"});
  // An integrated device's memory is what the budget is about; another's is its own.
  const bool integrated = device.integrated;
  const std::uint64_t left = plan.budget - std::min(plan.budget, plan.charged());
  SIROCCO_TRY(const ExpertPlaces places,
              integrated ? find_shared_places(model, device, options, left) : find_places(model, device, options));
  const Arena arena = Arena::lay_out(model, options, places, Bump());
  const auto add = [&](std::string name, std::uint64_t bytes, std::string note) {
    plan.lines.push_back({.name = std::move(name), .bytes = bytes, .note = std::move(note), .charged = integrated});
  };
  add("device weights", arena.weight_bytes,
      fmt::format("{}in {} {}", places.all() ? "" : "all but the experts, ",
                  integrated ? "the memory that the host shares with" : "the memory of", device.name));
  if (places.device_slots != 0) {
    const std::size_t experts = std::size_t{model.spec().layers} * model.spec().moe->experts;
    add("device experts", arena.expert_bytes,
        fmt::format("{} of {} ({} %), {} each; the others are computed on the host", places.device_slots, experts,
                    100 * places.device_slots / experts, format_bytes(SlotLayout(model).slot_bytes())));
  }
  if (places.shared)
    add("device experts", arena.expert_bytes,
        reach_of(device) == SlotReach::none
            ? "one in the kernels' layout: the device does not reach the host's slots, which makes each use a copy"
            : "one on its way into the kernels' layout");
  add("device KV cache", arena.kv_bytes,
      fmt::format("{} tokens in blocks of {}, {}", options.kv_blocks * options.kv_block_tokens, options.kv_block_tokens,
                  tensor_type_info(options.kv_type)->name));
  add("device scratch", arena.forward_bytes, fmt::format("{} rows a step", options.limits.rows));
  plan.lines.push_back({.name = "staging",
                        .bytes = staging_bytes(model, device, options, arena, places),
                        .note = "page-locked: weights on their way, what steps get and give, a block of the KV cache"});
  if (places.all()) return HostWeights{};
  if (places.shared) {
    const std::uint64_t allowed = budget_of(device, options);
    return HostWeights{.experts = true,
                       .slot_bytes = SlotLayout(model).slot_bytes(),
                       .slot_memory = allowed - std::min(allowed, arena.bytes())};
  }
  SIROCCO_TRY(const std::uint64_t scratch, MissingExperts::bytes(model, options));
  plan.lines.push_back(
      {.name = "scratch", .bytes = scratch, .note = fmt::format("{} rows a step, of experts", options.limits.rows)});
  return HostWeights{.experts = true, .device_slots = places.device_slots};
}

Result<std::optional<double>> CudaKind::memory_bandwidth() const {
  constexpr int kPasses = 8;
  constexpr int kRounds = 5;
  SIROCCO_TRY(const DeviceMemory memory, allocate_device(2 * kCopyBytes));
  SIROCCO_TRY(const Stream stream, make_stream());
  double best = 0;
  for (int round = 0; round <= kRounds; ++round) {  // the first wakes the device up
    const auto begin = std::chrono::steady_clock::now();
    for (int pass = 0; pass < kPasses; ++pass)
      SIROCCO_CHECK(checked(
          cudaMemcpyAsync(memory.get() + kCopyBytes, memory.get(), kCopyBytes, cudaMemcpyDeviceToDevice, stream.get()),
          "cudaMemcpyAsync"));
    SIROCCO_CHECK(checked(cudaStreamSynchronize(stream.get()), "cudaStreamSynchronize"));
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - begin;
    if (round > 0) best = std::max(best, 2.0 * kPasses * kCopyBytes / seconds.count());  // read and written
  }
  return best;
}

Result<std::unique_ptr<Backend>> CudaKind::make(std::shared_ptr<const Model> model, ExpertSource& experts,
                                                const BackendOptions& options) const {
  SIROCCO_TRY(DeviceInfo device, find_device());
  // Others may have taken memory since the plan.
  ExpertPlaces places = {.shared = device.integrated && experts.has_slots()};
  if (!places.shared) {
    SIROCCO_TRY(places, find_places(*model, device, options));
  }
  const std::string name = device.name;
  auto backend = std::make_unique<CudaBackend>(std::move(model), options, std::move(device));
  if (const auto opened = backend->open(places, experts); !opened) {
    if (opened.error().code() != ErrorCode::out_of_memory) backend->distrust();
    return fail(opened.error().at(name));
  }
  return backend;
}

}  // namespace

const BackendKind& cuda_backend() {
  static const CudaKind kind;
  return kind;
}

}  // namespace sirocco

#include "engine/backend/cuda/cuda_backend.h"

#include <algorithm>
#include <bit>
#include <cassert>
#include <chrono>
#include <cstring>

#include "engine/backend/cuda/cuda_forward.h"
#include "engine/backend/cuda/graph_cache.h"
#include "engine/backend/cuda/kv_blocks.h"
#include "engine/backend/cuda/upload.h"

namespace sirocco {
namespace {

using namespace cuda;

constexpr std::uint32_t kRowsPerStep = 512;          // enough for the tensor cores; a step of them takes some ten ms
constexpr std::uint32_t kGraphRows = 16;             // of a step that is worth a graph: others are few, and long
constexpr std::uint64_t kHeadroom = 256 * MiB;       // of the device, for the context, graphs and other users
constexpr std::size_t kCopyBytes = 256 * MiB;        // of a measurement: more than any cache
constexpr std::uint64_t kRuntimeMemory = 192 * MiB;  // of the host, that the CUDA runtime and driver take

// What is in the arena, in this order. Without memory: how much there will be of each.
struct Arena {
  WeightsLayout weights;
  ForwardMemory forward;
  CudaKv kv;
  std::size_t weight_bytes = 0;
  std::size_t forward_bytes = 0;
  std::size_t kv_bytes = 0;

  std::size_t bytes() const { return weight_bytes + forward_bytes + kv_bytes; }

  static Arena lay_out(const Model& model, const BackendOptions& options, Bump memory) {
    Arena arena;
    arena.weights = lay_out_weights(model, memory);
    arena.weight_bytes = memory.used();
    arena.forward = ForwardMemory::lay_out(model.spec(), options, memory);
    arena.forward_bytes = memory.used() - arena.weight_bytes;
    arena.kv = {
        .base = nullptr, .blocks = options.kv_blocks, .block_tokens = options.kv_block_tokens, .type = options.kv_type};
    arena.kv.base = memory.take<std::byte>(arena.kv.bytes(model.spec()));
    arena.kv_bytes = memory.used() - arena.weight_bytes - arena.forward_bytes;
    return arena;
  }
};

// Page-locked memory of the steps: their inputs, and their logits.
struct StepMemory {
  StepInputs inputs;
  float* logits = nullptr;  // [logit_rows, vocabulary]

  static StepMemory lay_out(const ModelSpec& spec, const BackendOptions& options, Bump& memory) {
    StepMemory step;
    step.inputs = StepInputs::lay_out(options.limits, options.kv_block_tokens, memory);
    step.logits = memory.take<float>(std::size_t{options.limits.logit_rows} * spec.vocabulary);
    return step;
  }
  static std::size_t bytes(const ModelSpec& spec, const BackendOptions& options) {
    Bump count;
    lay_out(spec, options, count);
    return count.used();
  }
};

class CudaBackend final : public Backend {
 public:
  CudaBackend(std::shared_ptr<const Model> model, const BackendOptions& options, DeviceInfo device)
      : model_(std::move(model)), options_(options), device_(std::move(device)) {}
  ~CudaBackend() override {
    if (stream_) cudaStreamSynchronize(stream_.get());  // it uses what goes now
  }

  Result<void> open();

  std::string_view name() const override { return "cuda"; }
  std::string_view isa() const override { return device_.isa; }
  std::size_t threads() const override { return 1; }
  std::string_view device() const override { return device_.name; }
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
  Result<void> compute(const Step& step, std::span<float> logits);

  std::shared_ptr<const Model> model_;
  BackendOptions options_;
  DeviceInfo device_;
  DeviceMemory device_memory_;
  PinnedMemory host_memory_;
  Arena arena_;
  StepMemory host_;
  Stream stream_;
  std::optional<CudaForward> forward_;
  std::optional<KvBlocks> blocks_;
  GraphCache graphs_;
  std::optional<Error> broken_;  // what made the device useless
};

// Allocates everything, copies the weights, and takes a step of one token: that loads the kernels, and finds out now
// whether they run on this device.
Result<void> CudaBackend::open() {
  const ModelSpec& spec = model_->spec();
  const std::size_t bytes = Arena::lay_out(*model_, options_, Bump()).bytes();
  SIROCCO_TRY(device_memory_, allocate_device(bytes));
  arena_ = Arena::lay_out(*model_, options_, Bump(device_memory_.get()));
  SIROCCO_TRY(host_memory_, allocate_pinned(StepMemory::bytes(spec, options_)));
  Bump host(host_memory_.get());
  host_ = StepMemory::lay_out(spec, options_, host);
  SIROCCO_TRY(stream_, make_stream());
  {
    SIROCCO_TRY(ThreadPool pool, ThreadPool::create(options_.threads));
    SIROCCO_CHECK(upload(arena_.weights.uploads, pool, options_.progress.get()));
    arena_.weights.uploads = {};
  }
  forward_.emplace(spec, arena_.weights.weights, arena_.forward, arena_.kv);
  SIROCCO_TRY(blocks_, KvBlocks::create(arena_.kv, spec));
  const TokenId token = 0;
  const BlockId block = 0;
  const StepSequence sequence = {.tokens = {&token, 1}, .position = 0, .block_table = {&block, 1}};
  std::vector<float> logits(spec.vocabulary);
  return compute({.sequences = {&sequence, 1}}, logits);
}

Result<void> CudaBackend::step(const Step& step, std::span<float> logits, StepReport& report) {
  const Timeline::Span span(options_.instruments.timeline,
                            {.kind = Timeline::Kind::step, .rows = static_cast<std::uint32_t>(step.rows())});
  report.failures.clear();
  report.lossy_experts.assign(options_.lossy.on() ? step.sequences.size() : 0, 0);
  if (broken_) return fail(broken_->at("the GPU failed in an earlier step; restart the daemon"));
  auto computed = compute(step, logits);
  if (!computed) {
    broken_ = computed.error();
    return fail(computed.error().at(device_.name));
  }
  return {};
}

Result<void> CudaBackend::compute(const Step& step, std::span<float> logits) {
  assert(step.rows() > 0 && step.rows() <= options_.limits.rows && step.logit_rows() <= options_.limits.logit_rows);
  assert(logits.size() == step.logit_rows() * model_->spec().vocabulary);
  // The step before has been waited for: nothing reads the host's memory now.
  const std::uint32_t window = model_->spec().window;
  std::size_t bytes = 0;
  StepShape shape = write_inputs(step, options_.kv_block_tokens, window, host_.inputs, bytes);
  SIROCCO_CHECK(checked(
      cudaMemcpyAsync(arena_.forward.inputs.tokens, host_.inputs.tokens, bytes, cudaMemcpyHostToDevice, stream_.get()),
      "cudaMemcpyAsync of a step's inputs"));
  Result<void> launched;
  if (shape.rows <= kGraphRows) {
    shape.splits = std::min(std::bit_ceil(shape.splits), splits_of(options_.limits.context, window));
    launched = graphs_.launch(*forward_, shape, stream_.get());
  } else {
    launched = forward_->enqueue(shape, stream_.get());
  }
  if (launched && !logits.empty())
    launched = checked(cudaMemcpyAsync(host_.logits, arena_.forward.logits, logits.size_bytes(), cudaMemcpyDeviceToHost,
                                       stream_.get()),
                       "cudaMemcpyAsync of logits");
  // Also after a failure: what was enqueued reads the host's memory.
  const auto done = checked(cudaStreamSynchronize(stream_.get()), "a step");
  SIROCCO_CHECK(launched);
  SIROCCO_CHECK(done);
  std::copy_n(host_.logits, logits.size(), logits.data());
  return {};
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
  Result<void> plan(const Model& model, const BackendOptions& options, MemoryPlan& plan) const override;
  Result<std::unique_ptr<Backend>> make(std::shared_ptr<const Model> model, ExpertSource& experts,
                                        const BackendOptions& options) const override;
};

// Bytes of the device that may be asked for.
std::uint64_t budget_of(const DeviceInfo& device, const BackendOptions& options) {
  const std::uint64_t free = device.free - std::min(device.free, kHeadroom);
  return options.device_memory == 0 ? free : std::min(free, options.device_memory);
}

Result<void> check_fits(const DeviceInfo& device, const BackendOptions& options, std::uint64_t needed) {
  const std::uint64_t budget = budget_of(device, options);
  if (needed <= budget) return {};
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

// All that weights and scratch leave: nothing else wants it, but where it is the host's memory.
Result<std::uint64_t> CudaKind::kv_budget(const Model& model, const BackendOptions& options,
                                          std::uint64_t host_budget) const {
  SIROCCO_TRY(const DeviceInfo device, find_device());
  const Arena arena = Arena::lay_out(model, options, Bump());
  const std::uint64_t budget = budget_of(device, options);
  const std::uint64_t others = arena.weight_bytes + arena.forward_bytes;
  const std::uint64_t room = budget - std::min(budget, others);
  return device.integrated ? std::min(room, host_budget / 4) : room;
}

Result<void> CudaKind::plan(const Model& model, const BackendOptions& options, MemoryPlan& plan) const {
  SIROCCO_TRY(const DeviceInfo device, find_device());
  const Arena arena = Arena::lay_out(model, options, Bump());
  SIROCCO_CHECK(check_fits(device, options, arena.bytes()));
  // An integrated device's memory is what the budget is about; another's is its own.
  const auto add = [&](std::string name, std::uint64_t bytes, std::string note) {
    plan.lines.push_back(
        {.name = std::move(name), .bytes = bytes, .note = std::move(note), .charged = device.integrated});
  };
  add("device weights", arena.weight_bytes, fmt::format("in the memory of {}", device.name));
  add("device KV cache", arena.kv_bytes,
      fmt::format("{} tokens in blocks of {}, {}", options.kv_blocks * options.kv_block_tokens, options.kv_block_tokens,
                  tensor_type_info(options.kv_type)->name));
  add("device scratch", arena.forward_bytes, fmt::format("{} rows a step", options.limits.rows));
  plan.lines.push_back({.name = "CUDA", .bytes = kRuntimeMemory, .note = "runtime and driver"});
  plan.lines.push_back(
      {.name = "staging",
       .bytes = kUploadMemory + StepMemory::bytes(model.spec(), options) + KvBlocks::bytes(arena.kv, model.spec()),
       .note = "page-locked: weights on their way, steps' inputs and logits, a block of the KV cache"});
  return {};
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

Result<std::unique_ptr<Backend>> CudaKind::make(std::shared_ptr<const Model> model, ExpertSource&,
                                                const BackendOptions& options) const {
  SIROCCO_TRY(DeviceInfo device, find_device());
  // Others may have taken memory since the plan.
  SIROCCO_CHECK(check_fits(device, options, Arena::lay_out(*model, options, Bump()).bytes()));
  const std::string name = device.name;
  auto backend = std::make_unique<CudaBackend>(std::move(model), options, std::move(device));
  if (const auto opened = backend->open(); !opened) return fail(opened.error().at(name));
  return backend;
}

}  // namespace

const BackendKind& cuda_backend() {
  static const CudaKind kind;
  return kind;
}

}  // namespace sirocco

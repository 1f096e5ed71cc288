// The backend that computes on host memory, on the mapped weights: with kernels/cpu, or with kernels/ref, the yardstick
// that every machine can run.
#include "engine/backend/host_backend.h"

#include <sys/mman.h>

#include <cerrno>
#include <cstring>

namespace sirocco {
namespace {

constexpr std::uint32_t kRows = 64;    // of a step
constexpr std::uint64_t kKvShare = 4;  // the KV cache takes one of so many parts of the budget

class HostBackend final : public Backend {
 public:
  HostBackend(std::shared_ptr<const Model> model, const Kernels& kernels, ExpertSource& experts,
              const BackendOptions& options, const KvMemory& kv, ThreadPool pool)
      : kernels_(kernels),
        kv_(kv),
        kv_bytes_(kv.bytes(kernels, model->spec())),
        block_part_(kv.block_bytes(kernels, model->spec())),
        pool_(std::move(pool)),
        forward_(std::move(model), kernels, options.limits, pool_, experts, options.lossy, options.instruments) {}
  ~HostBackend() override { munmap(kv_.base, kv_bytes_); }
  HostBackend(const HostBackend&) = delete;
  HostBackend& operator=(const HostBackend&) = delete;

  std::string_view name() const override { return kernels_.backend; }
  std::string_view isa() const override { return kernels_.isa; }
  std::size_t threads() const override { return pool_.threads(); }
  Result<void> step(const Step& step, std::span<float> logits, StepReport& report) override {
    forward_.run(step, kv_, logits, report);
    return {};
  }

  std::size_t block_bytes() const override { return kv_bytes_ / kv_.blocks; }
  Result<void> copy_block(BlockId from, BlockId to) override {
    for_each_part([&](std::byte* part, std::size_t) {
      std::memcpy(part + to * block_part_, part + from * block_part_, block_part_);
    });
    return {};
  }
  Result<void> export_block(BlockId block, std::span<std::byte> bytes) const override {
    for_each_part([&](const std::byte* part, std::size_t i) {
      std::memcpy(&bytes[i * block_part_], part + block * block_part_, block_part_);
    });
    return {};
  }
  Result<void> import_block(BlockId block, std::span<const std::byte> bytes) override {
    for_each_part([&](std::byte* part, std::size_t i) {
      std::memcpy(part + block * block_part_, &bytes[i * block_part_], block_part_);
    });
    return {};
  }

 private:
  // The keys, then the values of each layer: where block 0 of them lies.
  template <class Function>
  void for_each_part(Function f) const {
    const std::size_t stride = kv_.blocks * block_part_;
    for (std::size_t i = 0; i < kv_bytes_ / stride; ++i) f(kv_.base + i * stride, i);
  }

  const Kernels& kernels_;
  KvMemory kv_;
  std::size_t kv_bytes_;
  std::size_t block_part_;  // bytes of a block's keys, or values, in one layer
  ThreadPool pool_;
  Forward forward_;
};

KvMemory kv_memory(const BackendOptions& options) {
  return {
      .base = nullptr, .blocks = options.kv_blocks, .block_tokens = options.kv_block_tokens, .type = options.kv_type};
}

class HostKind final : public BackendKind {
 public:
  explicit HostKind(std::string_view name) : name_(name) {}

  std::string_view name() const override { return name_; }
  Result<void> available(const BackendOptions& options) const override {
    SIROCCO_CHECK(kernels(options));
    return {};
  }
  Result<void> check(const Model& model, const BackendOptions& options) const override;
  std::uint32_t rows_per_step() const override { return kRows; }
  bool holds_weights() const override { return false; }
  std::size_t kv_block_bytes(const ModelSpec& spec, const BackendOptions& options) const override {
    KvMemory block = kv_memory(options);
    block.blocks = 1;
    return block.bytes(*kernels(options).value(), spec);
  }
  Result<std::uint64_t> kv_budget(const Model&, const BackendOptions&, std::uint64_t host_budget) const override {
    return host_budget / kKvShare;
  }
  Result<HostWeights> plan(const Model& model, const BackendOptions& options, MemoryPlan& plan) const override;
  Result<std::unique_ptr<Backend>> make(std::shared_ptr<const Model> model, ExpertSource& experts,
                                        const BackendOptions& options) const override;

 private:
  Result<const Kernels*> kernels(BackendOptions options) const {
    options.backend = name_;
    return host_kernels(options);
  }

  std::string_view name_;
};

Result<void> HostKind::check(const Model& model, const BackendOptions& options) const {
  if (options.kv_block_tokens % 32 != 0)
    return fail(ErrorCode::invalid_argument, "KV blocks of {} tokens: a multiple of 32 is wanted",
                options.kv_block_tokens);
  if (options.kv_type == TensorType::q8_0 && model.spec().head_dim % 32 != 0)
    return fail(ErrorCode::unsupported,
                "a KV cache in Q8_0 wants heads of a multiple of 32 dimensions, this model's have {}; "
                "use memory.kv_type: f16",
                model.spec().head_dim);
  return {};
}

Result<HostWeights> HostKind::plan(const Model& model, const BackendOptions& options, MemoryPlan& plan) const {
  SIROCCO_TRY(const Kernels* kernels, this->kernels(options));
  const std::size_t threads = options.threads == 0 ? ThreadPool::default_threads() : options.threads;
  plan.lines.push_back(
      {.name = "KV cache",
       .bytes = kv_memory(options).bytes(*kernels, model.spec()),
       .note = fmt::format("{} tokens in blocks of {}, {}", options.kv_blocks * options.kv_block_tokens,
                           options.kv_block_tokens, tensor_type_info(options.kv_type)->name)});
  plan.lines.push_back({.name = "scratch",
                        .bytes = Forward::scratch_bytes(model, *kernels, options.limits, threads),
                        .note = fmt::format("{} rows a step, {} threads", options.limits.rows, threads)});
  return HostWeights{.dense = true, .experts = true};
}

Result<std::unique_ptr<Backend>> HostKind::make(std::shared_ptr<const Model> model, ExpertSource& experts,
                                                const BackendOptions& options) const {
  SIROCCO_TRY(const Kernels* kernels, this->kernels(options));
  SIROCCO_TRY(ThreadPool pool, ThreadPool::create(options.threads, options.pin_threads));
  KvMemory kv = kv_memory(options);
  const std::size_t bytes = kv.bytes(*kernels, model->spec());
  void* const memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED)
    return fail(ErrorCode::out_of_memory, "KV cache of {} bytes: {}; lower memory.kv_tokens or model.context", bytes,
                errno_message(errno));
  kv.base = static_cast<std::byte*>(memory);
  return std::make_unique<HostBackend>(std::move(model), *kernels, experts, options, kv, std::move(pool));
}

}  // namespace

const BackendKind& cpu_backend() {
  static const HostKind kind("cpu");
  return kind;
}

const BackendKind& ref_backend() {
  static const HostKind kind("ref");
  return kind;
}

}  // namespace sirocco

// The backend that computes with kernels/ref on the mapped weights: the yardstick, and what every machine can run.
#include <sys/mman.h>

#include <cerrno>

#include "engine/backend/backend.h"

namespace sirocco {
namespace {

constexpr std::string_view kName = "ref";

class HostBackend final : public Backend {
 public:
  HostBackend(std::shared_ptr<const Model> model, ExpertSource& experts, const BackendOptions& options,
              const KvMemory& kv, ThreadPool pool)
      : spec_(model->spec()),
        kv_(kv),
        pool_(std::move(pool)),
        forward_(std::move(model), options.limits, pool_, experts) {}
  ~HostBackend() override { munmap(kv_.base, kv_.bytes(spec_)); }
  HostBackend(const HostBackend&) = delete;
  HostBackend& operator=(const HostBackend&) = delete;

  std::string_view name() const override { return kName; }
  std::string_view isa() const override { return "portable"; }
  std::size_t threads() const override { return pool_.threads(); }
  Result<void> step(const Step& step, std::span<float> logits) override { return forward_.run(step, kv_, logits); }

 private:
  const ModelSpec& spec_;
  KvMemory kv_;
  ThreadPool pool_;
  Forward forward_;
};

KvMemory kv_memory(const BackendOptions& options) {
  return {
      .base = nullptr, .blocks = options.kv_blocks, .block_tokens = options.kv_block_tokens, .type = options.kv_type};
}

}  // namespace

std::vector<std::string_view> backend_names() {
  return {kName};
}

void plan_backend(const ModelSpec& spec, const BackendOptions& options, MemoryPlan& plan) {
  const std::size_t threads = options.threads == 0 ? ThreadPool::default_threads() : options.threads;
  plan.lines.push_back(
      {.name = "KV cache",
       .bytes = kv_memory(options).bytes(spec),
       .note = fmt::format("{} tokens in blocks of {}, {}", options.kv_blocks * options.kv_block_tokens,
                           options.kv_block_tokens, tensor_type_info(options.kv_type)->name)});
  plan.lines.push_back({.name = "scratch",
                        .bytes = Forward::scratch_bytes(spec, options.limits, threads),
                        .note = fmt::format("{} rows a step, {} threads", options.limits.rows, threads)});
}

Result<std::unique_ptr<Backend>> make_backend(std::string_view name, std::shared_ptr<const Model> model,
                                              ExpertSource& experts, const BackendOptions& options) {
  if (name != kName && name != "auto")
    return fail(ErrorCode::unsupported, "backend \"{}\" is not in this build; it has: auto, {}", name,
                fmt::join(backend_names(), ", "));
  SIROCCO_TRY(ThreadPool pool, ThreadPool::create(options.threads));
  KvMemory kv = kv_memory(options);
  void* const memory =
      mmap(nullptr, kv.bytes(model->spec()), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED)
    return fail(ErrorCode::out_of_memory, "KV cache of {} bytes: {}; lower memory.kv_tokens or model.context",
                kv.bytes(model->spec()), errno_message(errno));
  kv.base = static_cast<std::byte*>(memory);
  return std::make_unique<HostBackend>(std::move(model), experts, options, kv, std::move(pool));
}

}  // namespace sirocco

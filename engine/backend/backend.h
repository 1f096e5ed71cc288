// What takes steps: a forward pass on some device, with the KV cache's memory beside it. Blocks are numbered here and
// handed out by engine/kv. Owned by the Engine, called from the engine thread.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "engine/base/memory_plan.h"
#include "engine/model/expert_source.h"
#include "engine/model/forward.h"
#include "engine/model/instruments.h"
#include "engine/model/step.h"

namespace sirocco {

struct BackendOptions {
  std::string backend = "auto";  // or one of backend_names()
  std::string isa = "auto";  // instruction set of the cpu backend: the best that the machine has, or one of isa_names()
  std::size_t threads = 0;   // 0: ThreadPool::default_threads()
  bool pin_threads = false;  // ThreadPool::create
  StepLimits limits;
  std::uint32_t kv_blocks = 0;
  std::uint32_t kv_block_tokens = 32;
  TensorType kv_type = TensorType::f16;
  Instruments instruments = {};
  LossyOptions lossy = {};
};

class Backend {
 public:
  virtual ~Backend() = default;

  virtual std::string_view name() const = 0;  // "cpu"
  virtual std::string_view isa() const = 0;   // the instructions it uses: "avx2"
  virtual std::size_t threads() const = 0;

  //   logits  [step.logit_rows(), vocabulary] f32, in order of sequences and rows
  //   report  filled anew
  virtual Result<void> step(const Step& step, std::span<float> logits, StepReport& report) = 0;

  // The memory of a KV block, of all layers. From any thread, also during a step that has no such block in it.
  virtual std::size_t block_bytes() const = 0;
  virtual void copy_block(BlockId from, BlockId to) = 0;
  virtual void export_block(BlockId block, std::span<std::byte> bytes) const = 0;  // [block_bytes()]
  virtual void import_block(BlockId block, std::span<const std::byte> bytes) = 0;

  // Likewise, where one sequence's failure fails all.
  Result<void> step_all(const Step& step, std::span<float> logits) {
    StepReport report;
    SIROCCO_CHECK(this->step(step, logits, report));
    if (!report.failures.empty()) return fail(report.failures.front().error);
    return {};
  }
};

// The kernels that a backend of these options computes with. Error: an unknown name, or an instruction set that this
// machine does not have.
Result<const Kernels*> choose_kernels(const BackendOptions& options);

// What a backend of these options will allocate, for the plan.
void plan_backend(const Model& model, const Kernels& kernels, const BackendOptions& options, MemoryPlan& plan);

// The backends that this build has and this machine can run, best first: what "auto" chooses from.
std::vector<std::string_view> backend_names();
// Likewise the instruction sets of the cpu backend.
std::vector<std::string_view> isa_names();

// Error: as choose_kernels, or memory that cannot be had. `experts` outlives the backend.
Result<std::unique_ptr<Backend>> make_backend(std::shared_ptr<const Model> model, ExpertSource& experts,
                                              const BackendOptions& options);

}  // namespace sirocco

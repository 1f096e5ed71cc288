// What takes steps: a forward pass on some device, with the KV cache's memory beside it. Blocks are numbered here and
// handed out by engine/kv. Owned by the Engine, called from the engine thread.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "engine/backend/expert_slots.h"
#include "engine/base/load_progress.h"
#include "engine/base/memory_plan.h"
#include "engine/model/expert_source.h"
#include "engine/model/forward.h"
#include "engine/model/instruments.h"
#include "engine/model/step.h"

namespace sirocco {

struct BackendOptions {
  std::string backend = "auto";  // the first that can compute the model here; or one of backend_names()
  std::string isa = "auto";  // instruction set of the cpu backend: the best that the machine has, or one of isa_names()
  std::size_t threads = 0;   // 0: ThreadPool::default_threads()
  bool pin_threads = false;  // ThreadPool::create
  std::uint64_t device_memory = 0;  // bytes that a device may be asked for; 0: what is free on it, less some headroom
  std::vector<ExpertId> hot_set = {};  // experts that a device holds first, if it does not hold all
  StepLimits limits;
  std::uint32_t kv_blocks = 0;
  std::uint32_t kv_block_tokens = 32;
  TensorType kv_type = TensorType::f16;
  Instruments instruments = {};
  LossyOptions lossy = {};
  std::shared_ptr<LoadProgress> progress = {};  // of weights on their way to a device; null: nobody looks
};

// A device as it is now, for people. What is not known is empty.
struct DeviceState {
  std::string name = {};          // "NVIDIA H100 PCIe"
  std::string driver = {};        // "580.65.06"
  std::string architecture = {};  // "sm_90"
  bool integrated = false;        // its memory is the host's
  std::uint64_t memory = 0;       // bytes
  std::uint64_t used = 0;         // of it, by everybody
  std::uint64_t arena = 0;        // of it, by the backend
  std::optional<std::uint32_t> clock_mhz = {};
  std::optional<std::uint32_t> most_mhz = {};  // that the clock can be
  std::optional<double> celsius = {};
  std::string throttled = {};  // by what its clock is held down; empty: by nothing that is known
  std::string unknown = {};    // what cannot be known, and why
};

class Backend {
 public:
  virtual ~Backend() = default;

  virtual std::string_view name() const = 0;  // "cpu"
  virtual std::string_view isa() const = 0;   // the instructions it uses: "avx2", "sm_90"
  virtual std::size_t threads() const = 0;
  virtual std::string_view device() const { return {}; }  // "NVIDIA H100 PCIe"; empty: the host
  // Of a device. From any thread; may ask its driver, which takes some ms.
  virtual std::optional<DeviceState> device_state() const { return std::nullopt; }
  virtual ExpertSlots* device_slots() { return nullptr; }  // where a device holds some of the experts

  //   logits  [step.logit_rows(), vocabulary] f32, in order of sequences and rows; void where report.tokens says so
  //   report  filled anew
  virtual Result<void> step(const Step& step, std::span<float> logits, StepReport& report) = 0;

  // The memory of a KV block, of all layers. From any thread, one at a time, also during a step that has no such block
  // in it. Done on return. Errors: a device's, after which what was to be written is undefined.
  virtual std::size_t block_bytes() const = 0;
  virtual Result<void> copy_block(BlockId from, BlockId to) = 0;
  virtual Result<void> export_block(BlockId block, std::span<std::byte> bytes) const = 0;  // [block_bytes()]
  virtual Result<void> import_block(BlockId block, std::span<const std::byte> bytes) = 0;

  // Likewise, where one sequence's failure fails all.
  Result<void> step_all(const Step& step, std::span<float> logits) {
    StepReport report;
    SIROCCO_CHECK(this->step(step, logits, report));
    if (!report.failures.empty()) return fail(report.failures.front().error);
    return {};
  }
};

// What a backend needs of the weights in the host's memory, once it is open.
struct HostWeights {
  bool dense = false;
  bool experts = false;           // those that the device has not
  std::size_t device_slots = 0;   // for experts, in memory of the device's own; 0: it has all of them there, or none
  std::uint64_t slot_bytes = 0;   // not 0: slots are the device's too, at least as large, and nothing else will do
  std::uint64_t slot_memory = 0;  // then: bytes of slots, at most
};

// A kind of backend: what is to be known, and planned, before there is one. One object of each, for good.
class BackendKind {
 public:
  virtual ~BackendKind() = default;

  virtual std::string_view name() const = 0;
  // Whether this machine can run it with those options; the error says why not. NOT_FOUND: it has no such device.
  virtual Result<void> available(const BackendOptions& options) const = 0;
  // Whether it can compute this model with those options, if there is memory enough.
  virtual Result<void> check(const Model& model, const BackendOptions& options) const = 0;

  // The device that it would use, without using it; nothing where there is none.
  virtual std::optional<DeviceState> device_state() const { return std::nullopt; }

  virtual std::uint32_t rows_per_step() const = 0;  // that suit it, where nothing else is said
  virtual bool holds_weights() const = 0;           // in memory of its own, all of them or all but some experts
  // Bytes per second that weights can be read with, as a copy measures it; nothing: they are in the host's memory.
  virtual Result<std::optional<double>> memory_bandwidth() const { return std::nullopt; }
  // Keys and values of all layers, bytes.
  virtual std::size_t kv_block_bytes(const ModelSpec& spec, const BackendOptions& options) const = 0;
  // What the KV cache may take where nothing else is said, bytes. `host_budget` is of the memory plan.
  virtual Result<std::uint64_t> kv_budget(const Model& model, const BackendOptions& options,
                                          std::uint64_t host_budget) const = 0;
  // Adds what a backend of these options will allocate. Error: OUT_OF_MEMORY with the smallest device memory that does.
  virtual Result<HostWeights> plan(const Model& model, const BackendOptions& options, MemoryPlan& plan) const = 0;
  // After available() and check(). `experts` outlives the backend.
  virtual Result<std::unique_ptr<Backend>> make(std::shared_ptr<const Model> model, ExpertSource& experts,
                                                const BackendOptions& options) const = 0;
};

// The kind that options.backend names; of "auto" the first that can compute the model here. A device that there is, but
// cannot be used, leaves a line in `passed_over`. Error: why the kind that is named cannot.
Result<const BackendKind*> choose_backend(const Model& model, const BackendOptions& options,
                                          std::vector<std::string>* passed_over = nullptr);
Result<std::unique_ptr<Backend>> make_backend(std::shared_ptr<const Model> model, ExpertSource& experts,
                                              const BackendOptions& options);

// What a line of `passed_over` begins with.
inline constexpr std::string_view kNotUsed = "the GPU is not used";

// The best one of the host, which can compute every model.
const BackendKind& host_backend();

// The one for a device, where the program has it: main() registers it before anything else.
void register_device_backend(const BackendKind& kind);
const BackendKind* device_backend();  // null: the program has none

// What a backend can be named in a configuration. Whether this build and this machine have it, choose_backend says.
std::vector<std::string_view> backend_names();
// The instruction sets of the cpu backend that this machine has, best first.
std::vector<std::string_view> isa_names();

// The kernels for host memory that those options name; the best ones where another backend computes. Error: an
// instruction set that this machine does not have.
Result<const Kernels*> host_kernels(const BackendOptions& options);

}  // namespace sirocco

// The forward pass on host memory: embed, then for each layer norm, q k v, rope, KV write, attention, output, norm, and
// a dense FFN or routed experts; then norm and logits. A row's result depends on nothing but its own sequence: not on
// the other rows of the step, on how a prompt was cut, nor on the number of threads.
//
// Owned by a Backend, called from the engine thread. All scratch is allocated by the constructor.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "engine/base/thread_pool.h"
#include "engine/model/expert_source.h"
#include "engine/model/instruments.h"
#include "engine/model/lossy.h"
#include "engine/model/model.h"
#include "engine/model/step.h"
#include "kernels/kernels.h"

namespace sirocco {

// The blocks of the KV cache in host memory: for each layer all keys, then all values.
struct KvMemory {
  std::byte* base = nullptr;
  std::uint32_t blocks = 0;
  std::uint32_t block_tokens = 0;
  TensorType type = TensorType::f16;

  std::size_t block_bytes(const Kernels& kernels, const ModelSpec& spec) const {  // of one layer's keys or values
    return kernels.kv_block_bytes(type, block_tokens, spec.kv_heads, spec.head_dim);
  }
  std::size_t bytes(const Kernels& kernels, const ModelSpec& spec) const {
    return std::size_t{2} * spec.layers * blocks * block_bytes(kernels, spec);
  }
  KvView view(const Kernels& kernels, const ModelSpec& spec, std::uint32_t layer, std::span<const BlockId> table) const;
};

struct StepLimits {
  std::uint32_t rows = 0;        // in a step
  std::uint32_t logit_rows = 0;  // of them, that want logits
  std::uint32_t context = 0;     // positions of a sequence
};

class FormatSet;

class Forward {
 public:
  Forward(std::shared_ptr<const Model> model, const Kernels& kernels, const StepLimits& limits, ThreadPool& pool,
          ExpertSource& experts, const LossyOptions& lossy, const Instruments& instruments);
  ~Forward();

  // Writes the logits of the rows that want them, in order of sequences and rows.
  //
  //   logits  [step.logit_rows(), vocabulary] f32
  //   report  filled anew; where a sequence failed because an expert could not be had, the others are as if they had
  //           been alone
  void run(const Step& step, const KvMemory& kv, std::span<float> logits, StepReport& report);

  static std::uint64_t scratch_bytes(const Model& model, const Kernels& kernels, const StepLimits& limits,
                                     std::size_t threads);

 private:
  struct Scratch;

  void embed(const Step& step);
  void prepare_normed(std::size_t rows, const std::vector<float>& weight, const FormatSet& formats);
  void attention_part(const Step& step, const KvMemory& kv, std::uint32_t layer, std::size_t rows);
  void write_keys(const Step& step, const KvMemory& kv, std::uint32_t layer);
  void attend(const Step& step, const KvMemory& kv, std::uint32_t layer);
  void dense_part(std::uint32_t layer, std::size_t rows);
  void expert_part(const Step& step, std::uint32_t layer, StepReport& report);
  void spare_reads(std::uint32_t layer, std::size_t rows, StepReport& report);
  void foresee(std::uint32_t layer, std::size_t rows);
  void fail_rows(ExpertId expert, std::vector<SequenceFailure>& failures);
  void route(const LayerWeights& weights, std::size_t rows);
  void replay_route(std::uint32_t layer, std::size_t rows);
  void group_by_expert(std::size_t rows);
  void output_part(const Step& step, std::span<float> logits);

  std::shared_ptr<const Model> model_;
  const Kernels& kernels_;
  const ModelSpec& spec_;
  StepLimits limits_;
  ThreadPool& pool_;
  ExpertSource& experts_;
  LossyOptions lossy_;
  Instruments instruments_;
  std::unique_ptr<Scratch> scratch_;
};

}  // namespace sirocco

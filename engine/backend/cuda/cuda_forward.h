// The forward pass as a sequence of kernels on one stream, in the order of engine/model/forward.cc. Owned by the CUDA
// backend, called from the engine thread; it neither allocates nor waits, so that a step can be captured as a graph.
#pragma once

#include <functional>

#include "engine/backend/backend.h"
#include "engine/backend/cuda/device_weights.h"
#include "engine/backend/cuda/step_inputs.h"

namespace sirocco::cuda {

// The memory of a step on the device, sized for the limits. Assignments are (row, expert) pairs: rows * used of them.
struct ForwardMemory {
  StepInputs inputs;
  float* x = nullptr;              // [rows, width] the residual stream
  float* normed = nullptr;         // [rows, width]
  float* q = nullptr;              // [rows, heads * head_dim]
  float* k = nullptr;              // [rows, kv_heads * head_dim]
  float* v = nullptr;              // likewise
  float* mixed = nullptr;          // [rows, heads * head_dim] attention's result
  float* branch = nullptr;         // [rows, width] what the next norm adds to x
  float* hidden = nullptr;         // [rows, ffn_width] or [assignments, expert width]
  float* of_up = nullptr;          // of the same shape, where gate and up are not multiplied with at once
  float* cosines = nullptr;        // [rows, pairs]
  float* sines = nullptr;          // likewise
  float* parts = nullptr;          // attention's
  float* router = nullptr;         // [rows, experts]
  float* expert_out = nullptr;     // [assignments, width]
  float* logits = nullptr;         // [logit_rows, vocabulary]
  std::int32_t* chosen = nullptr;  // [logit_rows] in page-locked memory, which the layout does not have
  ExpertLists lists;
  Mailbox mailbox;      // its device part, where experts are in slots
  bool shared = false;  // slots are the host's, which is asked for all experts and enqueues their products
  Activations q8_32;    // of whatever is multiplied next: one after another use them
  Activations q8_256;
  Activations hidden_q8_32;  // of `hidden`; where experts are in slots, others than those above
  Activations hidden_q8_256;

  // of_up: some layer's gate and up are multiplied with one after the other.
  static ForwardMemory lay_out(const ModelSpec& spec, const BackendOptions& options, bool slots, bool of_up,
                               Bump& memory);
};

// The KV cache on the device: for each layer all keys, then all values.
struct CudaKv {
  std::byte* base = nullptr;
  std::uint32_t blocks = 0;
  std::uint32_t block_tokens = 0;
  TensorType type = TensorType::f16;

  std::size_t block_bytes(const ModelSpec& spec) const;  // of one layer's keys or values
  std::size_t bytes(const ModelSpec& spec) const;
  DeviceKv layer(const ModelSpec& spec, std::uint32_t index) const;
};

// Experts that are computed with apart from the layer's others, and the rows that meet them. Table and lists may be in
// page-locked memory.
struct ExpertGroup {
  const DeviceExpert* table = nullptr;  // of the tiles' experts
  const ExpertTile* tiles = nullptr;
  const std::uint32_t* tile_count = nullptr;
  std::uint32_t experts = 1;
  std::uint32_t assignments = 0;
  std::uint32_t first = 0;  // their places, and perhaps others' in between
  std::uint32_t count = 0;
};

// Called when the products of a layer's experts that are on the device are enqueued; completes expert_out.
using MissingHook = std::function<Result<void>(std::uint32_t layer)>;

class CudaForward {
 public:
  // What it is given belongs to the backend, which keeps it. With a mailbox (memory.mailbox.posted is not null) experts
  // are in slots, and the host is asked for those that are not.
  CudaForward(const ModelSpec& spec, const DeviceWeights& weights, const ForwardMemory& memory, const CudaKv& kv)
      : spec_(spec), weights_(weights), m_(memory), kv_(kv) {}

  // Enqueues a step whose inputs are in memory.inputs; its logits come to memory.logits, its tokens to memory.chosen.
  //   missing  for each layer of experts, which asks the host whether or not it misses any; null: the stream waits for
  //            the answers, if there are questions
  Result<void> enqueue(const StepShape& shape, cudaStream_t stream, const MissingHook& missing = {}) const;
  // Enqueues the products of more experts, for expert_out.
  Result<void> enqueue_group(const StepShape& shape, std::uint32_t layer, const ExpertGroup& group,
                             cudaStream_t stream) const;
  // Where the outputs of a layer's experts are, by place.
  float* expert_out() const { return m_.expert_out; }

 private:
  // What the last part of a layer left to be added to x.
  enum class Pending : std::uint8_t { nothing, branch, experts };

  bool has_slots() const { return m_.mailbox.posted != nullptr; }
  NormArguments norm_after(const StepShape& shape, Pending pending, const float* weight,
                           const FormatSet& formats) const;
  Rows rows_in(const FormatSet& formats, const float* f32) const;
  Result<void> multiply(const DeviceMatrix& w, std::uint32_t rows, const Rows& x, float* y, cudaStream_t stream) const;
  Result<void> embed_rows(const StepShape& shape, cudaStream_t stream) const;
  AttentionArguments attention_of(const StepShape& shape, std::uint32_t layer) const;
  Result<void> store_keys(const StepShape& shape, std::uint32_t layer, Pending pending, cudaStream_t stream) const;
  Result<void> attention_part(const StepShape& shape, std::uint32_t layer, cudaStream_t stream) const;
  Result<void> dense_part(const StepShape& shape, const DeviceLayer& layer, cudaStream_t stream) const;
  MailArguments mail_of(const StepShape& shape, std::uint32_t layer) const;
  Result<void> expert_part(const StepShape& shape, std::uint32_t layer, cudaStream_t stream,
                           const MissingHook& missing) const;
  Result<void> expert_products(const DeviceLayer& layer, ExpertArguments experts, std::uint32_t first,
                               std::uint32_t count, cudaStream_t stream) const;
  Result<void> output_part(const StepShape& shape, Pending pending, cudaStream_t stream) const;

  const ModelSpec& spec_;
  const DeviceWeights& weights_;
  const ForwardMemory& m_;
  const CudaKv& kv_;
};

}  // namespace sirocco::cuda

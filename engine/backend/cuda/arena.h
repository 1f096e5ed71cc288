// What the backend has in the device's memory, and in page-locked memory of the host: how much of each, and where. The
// plan and the allocation are one piece of code.
#pragma once

#include "engine/backend/cuda/cuda_forward.h"
#include "engine/backend/cuda/device_experts.h"
#include "engine/backend/cuda/passing_experts.h"

namespace sirocco::cuda {

// In the device's memory, in this order. Without memory: how much there will be of each.
struct Arena {
  WeightsLayout weights;
  ForwardMemory forward;
  CudaKv kv;
  DeviceExpertMemory experts;  // without slots: they are among the weights, all of them
  PassingMemory passing;       // likewise
  std::size_t weight_bytes = 0;
  std::size_t forward_bytes = 0;
  std::size_t kv_bytes = 0;
  std::size_t expert_bytes = 0;  // slots, and experts on their way

  std::size_t bytes() const { return weight_bytes + forward_bytes + kv_bytes + expert_bytes; }

  // slots: for experts; 0: all of them have their place.
  static Arena lay_out(const Model& model, const BackendOptions& options, std::size_t slots, Bump memory);
};

// Page-locked: the steps' inputs, their logits, and what they ask for.
struct StepMemory {
  StepInputs inputs;
  float* logits = nullptr;         // [logit_rows, vocabulary]
  std::int32_t* chosen = nullptr;  // [logit_rows] tokens, written by a kernel

  // Of experts and mailbox, the host's part.
  static StepMemory lay_out(const ModelSpec& spec, const BackendOptions& options, Bump& memory);
  static void lay_out_experts(const Model& model, const BackendOptions& options, Arena& arena, Bump& memory);
  static std::size_t bytes(const Model& model, const BackendOptions& options, bool slots);
};

// How many slots so much device memory buys; 0: all experts have their place, or there are none. Error: OUT_OF_MEMORY,
// `needed` is the least that works.
Result<std::size_t> slots_within(const Model& model, const BackendOptions& options, std::uint64_t budget,
                                 std::uint64_t& needed);

}  // namespace sirocco::cuda

// What the backend has in the device's memory, and in page-locked memory of the host: how much of each, and where. The
// plan and the allocation are one piece of code.
#pragma once

#include "engine/backend/cuda/cuda_forward.h"
#include "engine/backend/cuda/device_experts.h"
#include "engine/backend/cuda/passing_experts.h"
#include "engine/backend/cuda/shared_experts.h"

namespace sirocco::cuda {

// Where experts are, as far as the device is concerned.
struct ExpertPlaces {
  std::size_t device_slots = 0;  // some of them in slots of its own
  bool shared = false;           // none, but in slots of the host's, which it computes in
  bool all() const {
    return device_slots == 0 && !shared;
  }  // all have their place among the weights, or there are none
};

// In the device's memory, in this order. Without memory: how much there will be of each.
struct Arena {
  WeightsLayout weights;
  ForwardMemory forward;
  CudaKv kv;
  DeviceExpertMemory experts;  // where there are device slots
  PassingMemory passing;       // likewise
  SharedExpertMemory shared;   // where slots are shared
  std::size_t weight_bytes = 0;
  std::size_t forward_bytes = 0;
  std::size_t kv_bytes = 0;
  std::size_t expert_bytes = 0;  // slots, and experts on their way
  std::size_t slot_bytes = 0;    // of these the slots, whose memory is not in one piece with the rest

  std::size_t bytes() const { return weight_bytes + forward_bytes + kv_bytes + expert_bytes; }

  static Arena lay_out(const Model& model, const BackendOptions& options, const ExpertPlaces& places, Bump memory);
};

// Page-locked: the steps' inputs, their logits, and what they ask for.
struct StepMemory {
  StepInputs inputs;
  float* logits = nullptr;         // [logit_rows, vocabulary]
  std::int32_t* chosen = nullptr;  // [logit_rows] tokens, written by a kernel

  // Of experts and mailbox, the host's part.
  static StepMemory lay_out(const ModelSpec& spec, const BackendOptions& options, Bump& memory);
  static void lay_out_experts(const Model& model, const BackendOptions& options, const ExpertPlaces& places,
                              Arena& arena, Bump& memory);
  static std::size_t bytes(const Model& model, const BackendOptions& options, const ExpertPlaces& places);
};

// How many slots so much device memory buys; 0: all experts have their place, or there are none. Error: OUT_OF_MEMORY,
// `needed` is the least that works.
Result<std::size_t> slots_within(const Model& model, const BackendOptions& options, std::uint64_t budget,
                                 std::uint64_t& needed);

}  // namespace sirocco::cuda

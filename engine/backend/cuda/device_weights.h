// A model's weights in device memory: where each lies in the arena, in the kernels' layout, and what has to be copied
// to make it so.
#pragma once

#include <span>
#include <vector>

#include "engine/backend/cuda/cuda_api.h"
#include "engine/base/bytes.h"
#include "engine/model/model.h"
#include "engine/model/products.h"
#include "kernels/cuda/kernels.h"

namespace sirocco::cuda {

struct DeviceLayer {
  const float* attention_norm = nullptr;  // [width]
  DeviceMatrix q;
  DeviceMatrix k;
  DeviceMatrix v;
  const float* q_norm = nullptr;  // [head_dim], null without
  const float* k_norm = nullptr;
  DeviceMatrix attention_output;
  const float* ffn_norm = nullptr;  // [width]
  DeviceMatrix gate;                // of a dense FFN; of experts their types and shapes alone
  DeviceMatrix up;
  DeviceMatrix down;
  DeviceMatrix router;
  const DeviceExpert* experts = nullptr;  // [experts], on the device; null where the FFN is dense
  // The formats that matrices want their rows in, by where the rows come from.
  FormatSet attention;  // for q, k, v
  FormatSet mixed;      // for the output of attention
  FormatSet ffn;        // for gate, up, router
  FormatSet hidden;     // for down
};

struct DeviceWeights {
  TensorType embedding_type = TensorType::f32;
  const std::byte* embedding = nullptr;  // as it lies in the file
  DeviceMatrix output;
  FormatSet output_formats;
  const float* output_norm = nullptr;  // [width]
  const float* frequencies = nullptr;  // [pairs] of RoPE
  std::uint32_t pairs = 0;
  std::vector<DeviceLayer> layers;
};

// One copy to the device: a matrix in the kernels' layout, or bytes as they are.
struct Upload {
  std::byte* target = nullptr;
  Matrix matrix;  // data is null for bytes
  Bytes bytes;
};

// A layout, with what it owns: tables that are not in the file.
struct WeightsLayout {
  DeviceWeights weights;
  DeviceExpert* expert_table = nullptr;  // [layers, experts] on the device, where experts are in slots
  std::vector<Upload> uploads;           // ascending targets
  std::vector<float> frequencies;
  std::vector<std::vector<DeviceExpert>> expert_tables;  // of layers
};

// Whether the kernels can compute this model. Error: UNSUPPORTED, which tensor's type or which number is in the way.
Result<void> check_model(const Model& model);

// Whether every layer's gate and up are multiplied with by one kernel.
bool gates_at_once(const Model& model);

// After check_model(). The uploads point into the model and into the layout.
//   slots  experts are elsewhere, in slots: there is memory for a table that says where, and nothing fills it
WeightsLayout lay_out_weights(const Model& model, bool slots, Bump& arena);

}  // namespace sirocco::cuda

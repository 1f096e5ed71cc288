// A model's weights as they lie in the mapped file. Nothing here owns memory but the norms, which are a few floats.
#pragma once

#include <cstdint>
#include <vector>

#include "engine/gguf/gguf_file.h"
#include "kernels/matrix.h"

namespace sirocco {

// One expert's three projections. gate, up: [width -> expert width], down: [expert width -> width].
struct ExpertWeights {
  Matrix gate;
  Matrix up;
  Matrix down;
};

struct LayerWeights {
  std::vector<float> attention_norm;  // [width]
  Matrix q;                           // [width -> heads * head_dim]
  Matrix k;                           // [width -> kv_heads * head_dim]
  Matrix v;
  std::vector<float> q_norm;  // [head_dim], empty without qk_norm
  std::vector<float> k_norm;
  Matrix attention_output;  // [heads * head_dim -> width]

  std::vector<float> ffn_norm;  // [width]
  Matrix gate;                  // dense: [width -> ffn_width]; data is null where the layer has experts
  Matrix up;
  Matrix down;                         // [ffn_width -> width]
  Matrix router;                       // [width -> experts]
  std::vector<ExpertWeights> experts;  // where they are in the file
};

struct ModelWeights {
  Matrix embedding;                 // [width -> vocabulary], rows are tokens
  Matrix output;                    // the same one if tied
  std::vector<float> output_norm;   // [width]
  std::vector<float> rope_factors;  // [rotated / 2] or empty
  std::vector<LayerWeights> layers;
};

}  // namespace sirocco

// What a model is, in numbers: everything the forward pass needs to know besides the weights. Read from a file's
// metadata by its architecture (engine/model/architectures/), immutable afterwards.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "kernels/ref/rope.h"
#include "kernels/ref/route.h"

namespace sirocco {

struct MoeSpec {
  std::uint32_t experts = 0;
  std::uint32_t used = 0;   // experts per row
  std::uint32_t width = 0;  // of an expert's hidden layer
  ref::RouteParameters route;
};

struct ModelSpec {
  std::string architecture;  // general.architecture
  std::string name;          // general.name made printable, may be empty
  std::uint32_t layers = 0;
  std::uint32_t width = 0;  // of the residual stream
  std::uint32_t heads = 0;
  std::uint32_t kv_heads = 0;  // divides heads
  std::uint32_t head_dim = 0;
  std::uint32_t ffn_width = 0;  // of a dense layer's hidden layer; 0 where every layer has experts
  std::uint32_t vocabulary = 0;
  std::uint32_t context = 0;  // tokens the model was made for
  std::uint32_t window = 0;   // sliding window, in keys; 0: none
  float rms_epsilon = 0;
  bool qk_norm = false;  // RMS norm of each head of q and k before RoPE
  ref::RopeParameters rope;
  ref::RopeStyle rope_style = ref::RopeStyle::normal;
  std::optional<MoeSpec> moe;

  std::uint32_t q_width() const { return heads * head_dim; }
  std::uint32_t kv_width() const { return kv_heads * head_dim; }
};

}  // namespace sirocco

// The models that `sirocco model synth` makes: real dimensions, names and metadata, for files of random weights.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "engine/gguf/gguf_writer.h"

namespace sirocco {

struct ModelPreset {
  std::string_view name;          // as --preset takes it
  std::string_view architecture;  // "llama" or "qwen3moe"
  std::uint32_t layers;
  std::uint32_t width;
  std::uint32_t heads;
  std::uint32_t kv_heads;
  std::uint32_t head_width;
  std::uint32_t feed_forward;  // of a dense layer, or of an expert where expert_feed_forward is 0
  std::uint32_t experts;       // 0: dense
  std::uint32_t experts_used;
  std::uint32_t expert_feed_forward;  // 0: feed_forward
  std::uint32_t vocabulary;
  std::uint32_t context;
  float rope_base;
  float norm_epsilon;

  std::uint32_t expert_width() const { return expert_feed_forward == 0 ? feed_forward : expert_feed_forward; }
};

std::span<const ModelPreset> model_presets();
const ModelPreset* find_model_preset(std::string_view name);

// One tensor of a synthetic model.
struct SynthTensor {
  enum class Kind { matrix, embedding, output, norm, router };
  GgufWriter::TensorDeclaration declaration;
  Kind kind;
};

// All tensors, matrices in `type`. Embedding and output are Q6_K where `type` is a K-quant (as llama.cpp's mixes have
// it), else `type`; norms and routers are F32. A row that is no whole number of blocks is Q8_0, or else F16.
std::vector<SynthTensor> synth_tensors(const ModelPreset& preset, TensorType type);

// What the architecture's loader needs, and a small valid sentencepiece vocabulary padded to the preset's size: <unk>,
// <s>, </s>, the 256 bytes, then short pieces of letters.
GgufMetadata synth_metadata(const ModelPreset& preset);

}  // namespace sirocco

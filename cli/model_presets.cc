#include "cli/model_presets.h"

#include <algorithm>
#include <array>
#include <iterator>
#include <string>

namespace sirocco {
namespace {

constexpr std::array kPresets = {
    // name, architecture, layers, width, heads, KV heads, head width, ff, experts, used, expert ff, vocabulary, context
    ModelPreset{"mixtral-8x7b", "llama", 32, 4096, 32, 8, 128, 14336, 8, 2, 0, 32000, 32768, 1e6F, 1e-5F},
    ModelPreset{"mixtral-8x22b", "llama", 56, 6144, 48, 8, 128, 16384, 8, 2, 0, 32768, 65536, 1e6F, 1e-5F},
    ModelPreset{"mistral-7b", "llama", 32, 4096, 32, 8, 128, 14336, 0, 0, 0, 32768, 32768, 1e6F, 1e-5F},  // v0.3
    ModelPreset{"qwen3-30b-a3b", "qwen3moe", 48, 2048, 32, 4, 128, 6144, 128, 8, 768, 151936, 40960, 1e6F, 1e-6F},
    // Rows of 448 are no multiple of a K-quant's block, as happens in real models: down becomes Q8_0.
    ModelPreset{"tiny", "llama", 2, 256, 4, 2, 64, 448, 0, 0, 0, 512, 2048, 1e4F, 1e-5F},
    ModelPreset{"tiny-moe", "llama", 2, 256, 4, 2, 64, 448, 4, 2, 0, 512, 2048, 1e4F, 1e-5F},
};

bool is_k_quant(TensorType type) {
  return type >= TensorType::q2_k && type <= TensorType::q6_k;
}

TensorType type_for_width(TensorType type, std::uint64_t width) {
  for (const TensorType candidate : {type, TensorType::q8_0}) {
    if (width % tensor_type_info(candidate)->block_size == 0) return candidate;
  }
  return TensorType::f16;
}

class TensorList {
 public:
  explicit TensorList(TensorType type) : type_(type) {}

  void matrix(std::string name, std::vector<std::uint64_t> shape, SynthTensor::Kind kind = SynthTensor::Kind::matrix) {
    const bool is_vocabulary = kind != SynthTensor::Kind::matrix;
    const TensorType wanted = is_vocabulary && is_k_quant(type_) ? TensorType::q6_k : type_;
    const TensorType type = type_for_width(wanted, shape[0]);
    tensors_.push_back({{std::move(name), type, std::move(shape)}, kind});
  }
  void f32(std::string name, std::vector<std::uint64_t> shape, SynthTensor::Kind kind) {
    tensors_.push_back({{std::move(name), TensorType::f32, std::move(shape)}, kind});
  }
  std::vector<SynthTensor> take() { return std::move(tensors_); }

 private:
  TensorType type_;
  std::vector<SynthTensor> tensors_;
};

void add_layer(const ModelPreset& p, std::uint32_t layer, TensorList& list) {
  const auto name = [&](std::string_view part) { return fmt::format("blk.{}.{}.weight", layer, part); };
  const std::uint64_t query_width = std::uint64_t{p.heads} * p.head_width;
  const std::uint64_t kv_width = std::uint64_t{p.kv_heads} * p.head_width;
  const std::uint64_t ff = p.expert_width();
  list.f32(name("attn_norm"), {p.width}, SynthTensor::Kind::norm);
  list.matrix(name("attn_q"), {p.width, query_width});
  list.matrix(name("attn_k"), {p.width, kv_width});
  list.matrix(name("attn_v"), {p.width, kv_width});
  if (p.architecture == "qwen3moe") {
    list.f32(name("attn_q_norm"), {p.head_width}, SynthTensor::Kind::norm);
    list.f32(name("attn_k_norm"), {p.head_width}, SynthTensor::Kind::norm);
  }
  list.matrix(name("attn_output"), {query_width, p.width});
  list.f32(name("ffn_norm"), {p.width}, SynthTensor::Kind::norm);
  if (p.experts == 0) {
    list.matrix(name("ffn_gate"), {p.width, ff});
    list.matrix(name("ffn_up"), {p.width, ff});
    list.matrix(name("ffn_down"), {ff, p.width});
    return;
  }
  list.f32(name("ffn_gate_inp"), {p.width, p.experts}, SynthTensor::Kind::router);
  list.matrix(name("ffn_gate_exps"), {p.width, ff, p.experts});
  list.matrix(name("ffn_up_exps"), {p.width, ff, p.experts});
  list.matrix(name("ffn_down_exps"), {ff, p.width, p.experts});
}

// Pieces after the bytes: each can be merged from earlier, shorter ones, and "▁" begins a word.
void add_pieces(std::size_t count, std::vector<std::string>& tokens) {
  const std::string space = "\u2581";
  const std::size_t end = tokens.size() + count;
  std::vector<std::string> words;  // of one length, over a to z
  const auto add = [&](std::string piece) {
    if (tokens.size() < end) tokens.push_back(std::move(piece));
  };
  add(space);
  for (char c = '!'; c <= '~'; ++c) {
    add(std::string(1, c));
    if (c >= 'a' && c <= 'z') words.emplace_back(1, c);
  }
  while (tokens.size() < end) {
    for (const std::string& word : words) add(space + word);
    std::vector<std::string> longer;
    for (const std::string& word : words) {
      for (char c = 'a'; c <= 'z' && tokens.size() < end; ++c) {
        longer.push_back(word + c);
        add(longer.back());
      }
    }
    words = std::move(longer);
  }
}

void set_vocabulary(std::size_t size, GgufMetadata& metadata) {
  // SentencePiece's kinds: 1 normal, 2 unknown, 3 control, 6 byte.
  std::vector<std::string> tokens = {"<unk>", "<s>", "</s>"};
  std::vector<std::int32_t> kinds = {2, 3, 3};
  for (int byte = 0; byte < 256; ++byte) {
    tokens.push_back(fmt::format("<0x{:02X}>", byte));
    kinds.push_back(6);
  }
  std::vector<float> scores(tokens.size(), 0.0F);
  add_pieces(size - tokens.size(), tokens);
  kinds.resize(tokens.size(), 1);
  while (scores.size() < tokens.size()) scores.push_back(259.0F - static_cast<float>(scores.size()));
  metadata.set("tokenizer.ggml.model", std::string("llama"));
  metadata.set("tokenizer.ggml.pre", std::string("default"));
  metadata.set("tokenizer.ggml.tokens", GgufArray(std::move(tokens)));
  metadata.set("tokenizer.ggml.scores", GgufArray(std::move(scores)));
  metadata.set("tokenizer.ggml.token_type", GgufArray(std::move(kinds)));
  metadata.set("tokenizer.ggml.unknown_token_id", std::uint32_t{0});
  metadata.set("tokenizer.ggml.bos_token_id", std::uint32_t{1});
  metadata.set("tokenizer.ggml.eos_token_id", std::uint32_t{2});
  metadata.set("tokenizer.ggml.add_bos_token", true);
  metadata.set("tokenizer.ggml.add_eos_token", false);
}

}  // namespace

std::span<const ModelPreset> model_presets() {
  return kPresets;
}

const ModelPreset* find_model_preset(std::string_view name) {
  const auto* const found =
      std::find_if(kPresets.begin(), kPresets.end(), [&](const auto& p) { return p.name == name; });
  return found == kPresets.end() ? nullptr : found;
}

std::vector<SynthTensor> synth_tensors(const ModelPreset& preset, TensorType type) {
  TensorList list(type);
  list.matrix("token_embd.weight", {preset.width, preset.vocabulary}, SynthTensor::Kind::embedding);
  for (std::uint32_t layer = 0; layer < preset.layers; ++layer) add_layer(preset, layer, list);
  list.f32("output_norm.weight", {preset.width}, SynthTensor::Kind::norm);
  list.matrix("output.weight", {preset.width, preset.vocabulary}, SynthTensor::Kind::output);
  return list.take();
}

GgufMetadata synth_metadata(const ModelPreset& preset) {
  GgufMetadata metadata;
  const auto set = [&](std::string_view key, GgufValue value) {
    metadata.set(fmt::format("{}.{}", preset.architecture, key), std::move(value));
  };
  metadata.set("general.architecture", std::string(preset.architecture));
  metadata.set("general.name", fmt::format("{} shape, random weights", preset.name));
  metadata.set("general.quantization_version", std::uint32_t{2});
  set("block_count", preset.layers);
  set("context_length", preset.context);
  set("embedding_length", preset.width);
  set("feed_forward_length", preset.feed_forward);
  set("attention.head_count", preset.heads);
  set("attention.head_count_kv", preset.kv_heads);
  set("attention.key_length", preset.head_width);
  set("attention.value_length", preset.head_width);
  set("attention.layer_norm_rms_epsilon", preset.norm_epsilon);
  set("rope.freq_base", preset.rope_base);
  set("rope.dimension_count", preset.head_width);
  set("vocab_size", preset.vocabulary);
  if (preset.experts > 0) {
    set("expert_count", preset.experts);
    set("expert_used_count", preset.experts_used);
  }
  if (preset.expert_feed_forward > 0) set("expert_feed_forward_length", preset.expert_feed_forward);
  set_vocabulary(preset.vocabulary, metadata);
  return metadata;
}

}  // namespace sirocco

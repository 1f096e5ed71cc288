// What the Llama family's metadata says, as a ModelSpec. Keys and their meaning: gguf-py/gguf/constants.py and
// src/llama-model.cpp of github.com/ggml-org/llama.cpp.
#include <algorithm>
#include <array>
#include <cmath>

#include "engine/base/printable.h"
#include "engine/gguf/gguf_header.h"
#include "engine/model/architecture.h"
#include "engine/model/spec_reader.h"

namespace sirocco {
namespace {

// Far above any model known; they keep every product of two sizes within 64 bits.
constexpr std::uint64_t kMaxWidth = 1U << 20;
constexpr std::uint64_t kMaxHeads = 4096;
constexpr std::uint64_t kMaxHeadDim = 4096;
constexpr std::uint64_t kMaxExperts = 4096;
constexpr std::uint64_t kMaxExpertsOfAllLayers = GgufLimits::tensors / 4;  // each may be three tensors
constexpr std::uint64_t kMaxVocabulary = 1U << 20;
constexpr std::uint64_t kMaxContext = 1U << 28;

// What other models compute and this build does not. A file may carry the key where its value changes nothing.
struct NotComputed {
  std::string_view key;
  double neutral;  // a boolean counts as 0 or 1
  bool zero_too;   // 0 stands for "not given"
};
constexpr std::array kNotComputed = {
    NotComputed{"activation_sparsity_scale", 0, true},
    NotComputed{"attention.causal", 1, false},
    NotComputed{"attention.clamp_kqv", 0, true},
    NotComputed{"attention.max_alibi_bias", 0, true},
    NotComputed{"attention.output_scale", 1, true},
    NotComputed{"attention.shared_kv_layers", 0, true},
    NotComputed{"attention.temperature_length", 0, true},
    NotComputed{"attention.temperature_scale", 0, true},
    NotComputed{"attn_logit_softcapping", 0, true},
    NotComputed{"embedding_scale", 1, true},
    NotComputed{"expert_gating_func", 1, true},  // 1 is softmax
    NotComputed{"expert_group_count", 1, true},
    NotComputed{"expert_shared_count", 0, true},
    NotComputed{"final_logit_softcapping", 0, true},
    NotComputed{"full_attention_interval", 1, true},
    NotComputed{"logit_scale", 1, true},
    NotComputed{"residual_scale", 1, true},
    NotComputed{"rope.scaling.alpha", 0, true},
    NotComputed{"rope.scaling.yarn_log_multiplier", 0, true},
    NotComputed{"router_logit_softcapping", 0, true},
    NotComputed{"swiglu_clamp_exp", 0, true},
    NotComputed{"use_parallel_residual", 0, true},
};

Result<void> refuse_what_is_not_computed(const SpecReader& reader, const ModelSpec& spec) {
  for (const NotComputed& known : kNotComputed) {
    if (!reader.contains(known.key)) continue;
    SIROCCO_TRY(const double value, reader.setting(known.key));
    if (value == known.neutral || (known.zero_too && value == 0)) continue;
    return fail(ErrorCode::unsupported, "{} is {}; this build computes only {}, and the result would be wrong",
                reader.full(known.key), value, known.neutral);
  }
  if (reader.contains("attention.scale")) {
    constexpr std::string_view key = "attention.scale";
    SIROCCO_TRY(const double value, reader.setting(key));
    const double neutral = 1 / std::sqrt(static_cast<double>(spec.head_dim));
    if (value != 0 && std::abs(value / neutral - 1) > 1e-5)
      return fail(ErrorCode::unsupported, "{} is {}; this build computes only {:.6g}, 1 / sqrt(key_length)",
                  reader.full(key), value, neutral);
  }
  if (spec.window != 0 && reader.contains("attention.sliding_window_pattern"))
    return fail(ErrorCode::unsupported, "{}: this build computes only models whose layers all have the same window",
                reader.full("attention.sliding_window_pattern"));
  return {};
}

// YaRN (Peng et al. 2023) with transformers' defaults (modeling_rope_utils.py).
Result<void> read_yarn(const SpecReader& reader, std::uint32_t context, ref::RopeParameters& rope) {
  rope.scaling = ref::RopeScaling::yarn;
  SIROCCO_TRY(const std::uint32_t original,
              reader.integer_or("rope.scaling.original_context_length", 0, 0, SpecReader::kNoLimit));
  rope.original_context = static_cast<float>(original != 0 ? original : context);
  SIROCCO_TRY(rope.beta_fast, reader.number_or("rope.scaling.yarn_beta_fast", 32, 0, 1e6));
  SIROCCO_TRY(rope.beta_slow, reader.number_or("rope.scaling.yarn_beta_slow", 1, 0, 1e6));
  float correction = rope.factor > 1 ? 0.1F * std::log(rope.factor) + 1.0F : 1.0F;
  constexpr std::string_view extrapolation_key = "rope.scaling.yarn_ext_factor";
  SIROCCO_TRY(const float extrapolation, reader.number_or(extrapolation_key, 1, -1e6, 1e6));
  if (extrapolation >= 0 && extrapolation != 1)
    return fail(ErrorCode::unsupported, "{} is {}; this build computes only 1", reader.full(extrapolation_key),
                extrapolation);
  // transformers' attention_factor. Where llama.cpp writes a model it puts 1 here and -1 above for "not given".
  if (extrapolation > 0) {
    SIROCCO_TRY(correction, reader.number_or("rope.scaling.yarn_attn_factor", correction, 1e-3, 1e3));
  }
  rope.attention_factor *= correction;
  return {};
}

Result<ref::RopeParameters> read_rope(const SpecReader& reader, const ModelSpec& spec) {
  ref::RopeParameters rope;
  SIROCCO_TRY(rope.rotated, reader.integer_or("rope.dimension_count", spec.head_dim, 2, spec.head_dim));
  if (rope.rotated % 2 != 0)
    return fail(ErrorCode::corrupt, "{} is {}, expected an even number", reader.full("rope.dimension_count"),
                rope.rotated);
  SIROCCO_TRY(rope.base, reader.number_or("rope.freq_base", 10000, 1, 1e12));
  SIROCCO_TRY(rope.attention_factor, reader.number_or("rope.scaling.attn_factor", 1, 1e-3, 1e3));
  // A factor without a type is linear, and a factor of 0 is none, as llama.cpp reads and writes them.
  std::string kind = "linear";
  if (reader.contains("rope.scaling.type")) {
    SIROCCO_TRY(kind, reader.string("rope.scaling.type"));
  }
  if (kind != "none" && kind != "linear" && kind != "yarn")
    return fail(ErrorCode::unsupported, "{} is \"{}\"; this build computes none, linear and yarn",
                reader.full("rope.scaling.type"), printable(kind));
  const std::string_view factor_key =
      reader.contains("rope.scaling.factor") ? "rope.scaling.factor" : "rope.scale_linear";  // of files of 2023
  SIROCCO_TRY(const float factor, reader.number_or(factor_key, 0, 0, 1e6));
  if (kind == "none" || factor == 0) return rope;
  rope.factor = factor;
  rope.scaling = ref::RopeScaling::linear;
  if (kind == "yarn") SIROCCO_CHECK(read_yarn(reader, spec.context, rope));
  return rope;
}

Result<MoeSpec> read_experts(const SpecReader& reader, std::uint32_t experts, const ref::RouteParameters& route) {
  MoeSpec moe;
  moe.experts = experts;
  moe.route = route;
  SIROCCO_TRY(moe.used, reader.integer("expert_used_count", 1, experts));
  SIROCCO_TRY(moe.width, reader.integer_or("expert_feed_forward_length", 0, 0, kMaxWidth));
  if (moe.width == 0) {  // Mixtral and OLMoE say the experts' width in feed_forward_length
    SIROCCO_TRY(moe.width, reader.integer("feed_forward_length", 1, kMaxWidth));
  }
  SIROCCO_TRY(moe.route.normalise, reader.boolean_or("expert_weights_norm", route.normalise));
  SIROCCO_TRY(const float scale, reader.number_or("expert_weights_scale", 0, 0, 1e6));
  if (scale != 0) moe.route.scale = scale;  // 0 stands for "not given"
  return moe;
}

Result<void> read_attention(const SpecReader& reader, ModelSpec& spec) {
  SIROCCO_TRY(spec.heads, reader.integer("attention.head_count", 1, kMaxHeads));
  SIROCCO_TRY(spec.kv_heads, reader.integer_or("attention.head_count_kv", spec.heads, 1, spec.heads));
  if (spec.heads % spec.kv_heads != 0)
    return fail(ErrorCode::corrupt, "{} is {}, not a multiple of head_count_kv, {}",
                reader.full("attention.head_count"), spec.heads, spec.kv_heads);
  SIROCCO_TRY(spec.head_dim, reader.integer_or("attention.key_length", spec.width / spec.heads, 2, kMaxHeadDim));
  SIROCCO_TRY(const std::uint32_t value_length,
              reader.integer_or("attention.value_length", spec.head_dim, 2, kMaxHeadDim));
  if (spec.head_dim == 0 || value_length != spec.head_dim)
    return fail(ErrorCode::unsupported, "{} is {} and key_length {}; this build computes equal ones",
                reader.full("attention.value_length"), value_length, spec.head_dim);
  SIROCCO_TRY(spec.rms_epsilon, reader.number_or("attention.layer_norm_rms_epsilon", -1, 0, 1));
  if (spec.rms_epsilon < 0)
    return fail(ErrorCode::corrupt, "{} is missing", reader.full("attention.layer_norm_rms_epsilon"));
  SIROCCO_TRY(spec.window, reader.integer_or("attention.sliding_window", 0, 0, kMaxContext));
  return {};
}

}  // namespace

Result<ModelSpec> read_common_spec(const GgufFile& file, const ref::RouteParameters& route) {
  const GgufMetadata& metadata = file.metadata();
  ModelSpec spec;
  SIROCCO_TRY(spec.architecture, metadata.string("general.architecture"));
  if (metadata.contains("general.name")) {
    SIROCCO_TRY(const std::string name, metadata.string("general.name"));
    spec.name = printable(name);
  }
  SIROCCO_TRY(const SpecReader reader, SpecReader::create(metadata));
  spec.layers = reader.layers();
  SIROCCO_TRY(spec.width, reader.integer("embedding_length", 1, kMaxWidth));
  SIROCCO_TRY(spec.context, reader.integer("context_length", 1, kMaxContext));
  SIROCCO_CHECK(read_attention(reader, spec));
  SIROCCO_TRY(spec.rope, read_rope(reader, spec));
  SIROCCO_TRY(const std::uint32_t experts, reader.integer_or("expert_count", 0, 0, kMaxExperts));
  if (std::uint64_t{spec.layers} * experts > kMaxExpertsOfAllLayers)
    return fail(ErrorCode::corrupt, "{} layers of {} experts ({}) are {}, at most {} are allowed", spec.layers, experts,
                reader.full("expert_count"), std::uint64_t{spec.layers} * experts, kMaxExpertsOfAllLayers);
  if (experts > 0) {
    SIROCCO_TRY(spec.moe, read_experts(reader, experts, route));
  } else {
    SIROCCO_TRY(spec.ffn_width, reader.integer("feed_forward_length", 1, kMaxWidth));
  }
  SIROCCO_CHECK(refuse_what_is_not_computed(reader, spec));
  const GgufTensor* embedding = file.find("token_embd.weight");
  if (embedding == nullptr) return fail(ErrorCode::corrupt, "tensor token_embd.weight is missing");
  if (embedding->shape[1] > kMaxVocabulary)
    return fail(ErrorCode::corrupt, "tensor token_embd.weight: a vocabulary of {} tokens, at most {} are allowed",
                embedding->shape[1], kMaxVocabulary);
  spec.vocabulary = static_cast<std::uint32_t>(embedding->shape[1]);
  return spec;
}

}  // namespace sirocco

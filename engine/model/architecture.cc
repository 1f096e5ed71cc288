#include "engine/model/architecture.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "engine/model/architecture_list.h"
#include "kernels/ref/dequantize.h"

namespace sirocco {
namespace {

constexpr std::size_t kProblemsShown = 20;

// Far above any model known; they keep every product of two sizes within 64 bits.
constexpr std::uint64_t kMaxLayers = 1024;
constexpr std::uint64_t kMaxWidth = 1U << 20;
constexpr std::uint64_t kMaxHeads = 4096;
constexpr std::uint64_t kMaxHeadDim = 4096;
constexpr std::uint64_t kMaxExperts = 4096;
constexpr std::uint64_t kMaxContext = 1U << 28;

std::string shape_text(const std::vector<std::uint64_t>& shape) {
  return fmt::format("[{}]", fmt::join(shape, ", "));
}

// Reads an architecture's own keys, "llama.block_count", with the range each value may have.
class SpecReader {
 public:
  SpecReader(const GgufMetadata& metadata, std::string prefix) : metadata_(metadata), prefix_(std::move(prefix)) {}

  Result<std::uint32_t> integer(std::string_view key, std::uint64_t low, std::uint64_t high) const {
    const std::string full = prefix_ + "." + std::string(key);
    SIROCCO_TRY(const std::uint64_t value, one_integer(full));
    if (value < low || value > high)
      return fail(ErrorCode::corrupt, "{} is {}, expected {} to {}", full, value, low, high);
    return static_cast<std::uint32_t>(value);
  }
  Result<std::uint32_t> integer_or(std::string_view key, std::uint32_t missing, std::uint64_t low,
                                   std::uint64_t high) const {
    if (!contains(key)) return missing;
    return integer(key, low, high);
  }
  Result<float> number_or(std::string_view key, double missing, double low, double high) const {
    if (!contains(key)) return static_cast<float>(missing);
    const std::string full = prefix_ + "." + std::string(key);
    SIROCCO_TRY(const double value, metadata_.number(full));
    if (!(value >= low && value <= high))
      return fail(ErrorCode::corrupt, "{} is {}, expected {} to {}", full, value, low, high);
    return static_cast<float>(value);
  }
  bool contains(std::string_view key) const { return metadata_.contains(prefix_ + "." + std::string(key)); }
  Result<std::string> string(std::string_view key) const { return metadata_.string(prefix_ + "." + std::string(key)); }

 private:
  // Some keys may be an array with a value per layer; we compute models where all layers agree.
  Result<std::uint64_t> one_integer(const std::string& full) const {
    const GgufValue* value = metadata_.find(full);
    if (value == nullptr || !std::holds_alternative<GgufArray>(*value)) return metadata_.integer(full);
    SIROCCO_TRY(const std::vector<std::int64_t> values, metadata_.integers(full));
    if (values.empty() || values.front() < 0 ||
        std::any_of(values.begin(), values.end(), [&](std::int64_t v) { return v != values.front(); }))
      return fail(ErrorCode::unsupported, "{} differs from layer to layer, which this build does not compute", full);
    return static_cast<std::uint64_t>(values.front());
  }

  const GgufMetadata& metadata_;
  std::string prefix_;
};

Result<ref::RopeParameters> read_rope(const SpecReader& reader, std::uint32_t head_dim) {
  ref::RopeParameters rope;
  SIROCCO_TRY(rope.rotated, reader.integer_or("rope.dimension_count", head_dim, 2, head_dim));
  if (rope.rotated % 2 != 0)
    return fail(ErrorCode::corrupt, "rope.dimension_count is {}, expected an even number", rope.rotated);
  SIROCCO_TRY(rope.base, reader.number_or("rope.freq_base", 10000, 1, 1e12));
  std::string kind = "none";
  if (reader.contains("rope.scaling.type")) {
    SIROCCO_TRY(kind, reader.string("rope.scaling.type"));
  } else if (reader.contains("rope.scale_linear")) {  // files of 2023
    kind = "linear";
  }
  if (kind == "none") return rope;
  if (kind != "linear" && kind != "yarn")
    return fail(ErrorCode::unsupported, "rope.scaling.type is \"{}\"; this build computes none, linear and yarn", kind);
  SIROCCO_TRY(const float old_factor, reader.number_or("rope.scale_linear", 1, 1e-3, 1e6));
  SIROCCO_TRY(rope.factor, reader.number_or("rope.scaling.factor", old_factor, 1e-3, 1e6));
  rope.scaling = kind == "yarn" ? ref::RopeScaling::yarn : ref::RopeScaling::linear;
  if (kind == "yarn") {
    SIROCCO_TRY(const std::uint32_t original, reader.integer("rope.scaling.original_context_length", 1, kMaxContext));
    rope.original_context = static_cast<float>(original);
    SIROCCO_TRY(rope.beta_fast, reader.number_or("rope.scaling.yarn_beta_fast", 32, 0, 1e6));
    SIROCCO_TRY(rope.beta_slow, reader.number_or("rope.scaling.yarn_beta_slow", 1, 0, 1e6));
    SIROCCO_TRY(const float factor, reader.number_or("rope.scaling.attn_factor", 1, 1e-3, 1e3));
    rope.attention_factor = factor * (0.1F * std::log(rope.factor) + 1.0F);
  }
  return rope;
}

}  // namespace

Result<ModelSpec> read_common_spec(const GgufFile& file) {
  const GgufMetadata& metadata = file.metadata();
  ModelSpec spec;
  SIROCCO_TRY(spec.architecture, metadata.string("general.architecture"));
  if (metadata.contains("general.name")) {
    SIROCCO_TRY(spec.name, metadata.string("general.name"));
  }
  const SpecReader reader(metadata, spec.architecture);
  SIROCCO_TRY(spec.layers, reader.integer("block_count", 1, kMaxLayers));
  SIROCCO_TRY(spec.width, reader.integer("embedding_length", 1, kMaxWidth));
  SIROCCO_TRY(spec.context, reader.integer("context_length", 1, kMaxContext));
  SIROCCO_TRY(spec.heads, reader.integer("attention.head_count", 1, kMaxHeads));
  SIROCCO_TRY(spec.kv_heads, reader.integer_or("attention.head_count_kv", spec.heads, 1, spec.heads));
  if (spec.heads % spec.kv_heads != 0)
    return fail(ErrorCode::corrupt, "{}.attention.head_count is {}, not a multiple of head_count_kv, {}",
                spec.architecture, spec.heads, spec.kv_heads);
  SIROCCO_TRY(spec.head_dim, reader.integer_or("attention.key_length", spec.width / spec.heads, 2, kMaxHeadDim));
  SIROCCO_TRY(const std::uint32_t value_length,
              reader.integer_or("attention.value_length", spec.head_dim, 2, kMaxHeadDim));
  if (spec.head_dim == 0 || value_length != spec.head_dim)
    return fail(ErrorCode::unsupported,
                "{0}.attention.value_length is {1} and key_length {2}; this build computes equal ones",
                spec.architecture, value_length, spec.head_dim);
  SIROCCO_TRY(spec.rms_epsilon, reader.number_or("attention.layer_norm_rms_epsilon", -1, 0, 1));
  if (spec.rms_epsilon < 0)
    return fail(ErrorCode::corrupt, "{}.attention.layer_norm_rms_epsilon is missing", spec.architecture);
  SIROCCO_TRY(spec.window, reader.integer_or("attention.sliding_window", 0, 0, kMaxContext));
  SIROCCO_TRY(spec.rope, read_rope(reader, spec.head_dim));

  SIROCCO_TRY(const std::uint32_t experts, reader.integer_or("expert_count", 0, 0, kMaxExperts));
  if (experts > 0) {
    MoeSpec moe;
    moe.experts = experts;
    SIROCCO_TRY(moe.used, reader.integer("expert_used_count", 1, experts));
    // Mixtral and OLMoE say the experts' width in feed_forward_length.
    SIROCCO_TRY(moe.width, reader.contains("expert_feed_forward_length")
                               ? reader.integer("expert_feed_forward_length", 1, kMaxWidth)
                               : reader.integer("feed_forward_length", 1, kMaxWidth));
    spec.moe = moe;
  } else {
    SIROCCO_TRY(spec.ffn_width, reader.integer("feed_forward_length", 1, kMaxWidth));
  }
  const GgufTensor* embedding = file.find("token_embd.weight");
  if (embedding == nullptr) return fail(ErrorCode::corrupt, "tensor token_embd.weight is missing");
  if (embedding->shape[1] > std::numeric_limits<std::int32_t>::max())
    return fail(ErrorCode::corrupt, "tensor token_embd.weight: {} rows are more than a token id can name",
                embedding->shape[1]);
  spec.vocabulary = static_cast<std::uint32_t>(embedding->shape[1]);
  return spec;
}

void bind_common_layer(const ModelSpec& spec, std::uint32_t layer, TensorTable& table, LayerWeights& weights) {
  const std::string prefix = fmt::format("blk.{}.", layer);
  table.need(prefix + "attn_norm.weight", spec.width, weights.attention_norm);
  table.need(prefix + "attn_q.weight", {spec.width, spec.q_width()}, weights.q);
  table.need(prefix + "attn_k.weight", {spec.width, spec.kv_width()}, weights.k);
  table.need(prefix + "attn_v.weight", {spec.width, spec.kv_width()}, weights.v);
  table.need(prefix + "attn_output.weight", {spec.q_width(), spec.width}, weights.attention_output);
  table.need(prefix + "ffn_norm.weight", spec.width, weights.ffn_norm);
  if (spec.moe) {
    table.need(prefix + "ffn_gate_inp.weight", {spec.width, spec.moe->experts}, weights.router);
    table.need_experts(layer, spec.width, *spec.moe, weights);
  } else {
    table.need(prefix + "ffn_gate.weight", {spec.width, spec.ffn_width}, weights.gate);
    table.need(prefix + "ffn_up.weight", {spec.width, spec.ffn_width}, weights.up);
    table.need(prefix + "ffn_down.weight", {spec.ffn_width, spec.width}, weights.down);
  }
}

const GgufTensor* TensorTable::find(const std::string& name, const std::vector<std::uint64_t>& shape, bool required) {
  const GgufTensor* tensor = file_.find(name);
  if (tensor == nullptr) {
    if (required) problems_.push_back(fmt::format("tensor {} is missing, expected {}", name, shape_text(shape)));
    return nullptr;
  }
  used_.insert(name);
  bool same = true;
  for (std::size_t i = 0; i < tensor->shape.size(); ++i)
    same = same && tensor->shape[i] == (i < shape.size() ? shape[i] : 1);
  if (!same) {
    problems_.push_back(
        fmt::format("tensor {}: shape {}, expected {}", name, sirocco::shape_text(*tensor), shape_text(shape)));
    return nullptr;
  }
  const TensorTypeInfo* info = tensor_type_info(tensor->type);
  if (!info->computable) {
    problems_.push_back(fmt::format("tensor {}: type {} is not computed by this build", name, info->name));
    unsupported_ = true;
    return nullptr;
  }
  return tensor;
}

void TensorTable::slice(const GgufTensor* tensor, std::uint64_t first_row, std::uint64_t rows, Matrix& target) {
  target.type = tensor->type;
  target.inputs = tensor->shape[0];
  target.outputs = rows;
  target.data = file_.data(*tensor).data() + first_row * row_bytes(tensor->type, tensor->shape[0]);
}

bool TensorTable::optional(const std::string& name, const std::vector<std::uint64_t>& shape, Matrix& target) {
  const GgufTensor* tensor = find(name, shape, false);
  if (tensor != nullptr) slice(tensor, 0, tensor->shape[1], target);
  return tensor != nullptr;
}

void TensorTable::need(const std::string& name, const std::vector<std::uint64_t>& shape, Matrix& target) {
  if (const GgufTensor* tensor = find(name, shape, true)) slice(tensor, 0, tensor->shape[1], target);
}

bool TensorTable::optional(const std::string& name, std::uint64_t size, std::vector<float>& target) {
  if (!has(name)) return false;
  need(name, size, target);
  return true;
}

void TensorTable::need(const std::string& name, std::uint64_t size, std::vector<float>& target) {
  const GgufTensor* tensor = find(name, {size}, true);
  if (tensor == nullptr) return;
  target.resize(size);
  ref::dequantize(tensor->type, file_.data(*tensor).data(), target);
}

void TensorTable::need_experts(std::uint32_t layer, std::uint32_t width, const MoeSpec& moe, LayerWeights& target) {
  const std::string prefix = fmt::format("blk.{}.", layer);
  target.experts.resize(moe.experts);
  const auto merged = [&](const std::string& name, std::uint64_t inputs, std::uint64_t outputs,
                          Matrix ExpertWeights::*part) {
    const GgufTensor* tensor = find(prefix + name, {inputs, outputs, moe.experts}, true);
    for (std::uint64_t e = 0; tensor != nullptr && e < moe.experts; ++e)
      slice(tensor, e * outputs, outputs, target.experts[e].*part);
  };
  if (has(prefix + "ffn_gate.0.weight")) {
    for (std::uint32_t e = 0; e < moe.experts; ++e) {
      need(fmt::format("{}ffn_gate.{}.weight", prefix, e), {width, moe.width}, target.experts[e].gate);
      need(fmt::format("{}ffn_up.{}.weight", prefix, e), {width, moe.width}, target.experts[e].up);
      need(fmt::format("{}ffn_down.{}.weight", prefix, e), {moe.width, width}, target.experts[e].down);
    }
    return;
  }
  if (has(prefix + "ffn_gate_up_exps.weight")) {
    const std::uint64_t rows = std::uint64_t{2} * moe.width;
    const GgufTensor* tensor = find(prefix + "ffn_gate_up_exps.weight", {width, rows, moe.experts}, true);
    for (std::uint64_t e = 0; tensor != nullptr && e < moe.experts; ++e) {
      slice(tensor, e * rows, moe.width, target.experts[e].gate);
      slice(tensor, e * rows + moe.width, moe.width, target.experts[e].up);
    }
  } else {
    merged("ffn_gate_exps.weight", width, moe.width, &ExpertWeights::gate);
    merged("ffn_up_exps.weight", width, moe.width, &ExpertWeights::up);
  }
  merged("ffn_down_exps.weight", moe.width, width, &ExpertWeights::down);
}

Result<void> TensorTable::finish() const {
  std::vector<std::string> problems = problems_;
  for (const GgufTensor& tensor : file_.tensors()) {
    if (used_.contains(tensor.name)) continue;
    problems.push_back(
        fmt::format("tensor {} has no place in this architecture: the result would be wrong without it", tensor.name));
  }
  if (problems.empty()) return {};
  const std::size_t shown = std::min(problems.size(), kProblemsShown);
  std::string text =
      fmt::format("{}", fmt::join(problems.begin(), problems.begin() + static_cast<std::ptrdiff_t>(shown), "; "));
  if (shown < problems.size()) text += fmt::format("; and {} more", problems.size() - shown);
  return fail(unsupported_ ? ErrorCode::unsupported : ErrorCode::corrupt, "{}", text);
}

const Architecture* find_architecture(std::string_view name) {
  for (const Architecture* architecture : kArchitectures)
    if (architecture->name == name) return architecture;
  return nullptr;
}

std::vector<std::string_view> architecture_names() {
  std::vector<std::string_view> names;
  for (const Architecture* architecture : kArchitectures) names.push_back(architecture->name);
  return names;
}

}  // namespace sirocco

#include "engine/model/architecture.h"

#include <algorithm>

#include "engine/model/architecture_list.h"
#include "kernels/ref/dequantize.h"

namespace sirocco {
namespace {

constexpr std::size_t kProblemsShown = 20;

std::string shape_text(const std::vector<std::uint64_t>& shape) {
  return fmt::format("[{}]", fmt::join(shape, ", "));
}

}  // namespace

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

template <class Text>
void TensorTable::report(Text&& text) {
  if (problems_.size() < kProblemsShown) {
    problems_.push_back(text());
  } else {
    ++more_problems_;
  }
}

const GgufTensor* TensorTable::find(const std::string& name, const std::vector<std::uint64_t>& shape, bool required) {
  const GgufTensor* tensor = file_.find(name);
  if (tensor == nullptr) {
    if (required) report([&] { return fmt::format("tensor {} is missing, expected {}", name, shape_text(shape)); });
    return nullptr;
  }
  used_.insert(name);
  bool same = true;
  for (std::size_t i = 0; i < tensor->shape.size(); ++i)
    same = same && tensor->shape[i] == (i < shape.size() ? shape[i] : 1);
  if (!same) {
    report([&] {
      return fmt::format("tensor {}: shape {}, expected {}", name, sirocco::shape_text(*tensor), shape_text(shape));
    });
    return nullptr;
  }
  const TensorTypeInfo* info = tensor_type_info(tensor->type);
  if (!info->computable) {
    report([&] { return fmt::format("tensor {}: type {} is not computed by this build", name, info->name); });
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

Result<void> TensorTable::finish() {
  for (const GgufTensor& tensor : file_.tensors()) {
    if (used_.contains(tensor.name)) continue;
    report([&] {
      return fmt::format("tensor {} has no place in this architecture: the result would be wrong without it",
                         tensor.name);
    });
  }
  if (problems_.empty()) return {};
  std::string text = fmt::format("{}", fmt::join(problems_, "; "));
  if (more_problems_ > 0) text += fmt::format("; and {} more", more_problems_);
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

#include "engine/backend/cuda/device_weights.h"

#include <algorithm>

#include "kernels/cpu/activations.h"
#include "kernels/ref/rope.h"

namespace sirocco::cuda {
namespace {

constexpr std::uint32_t kHeadUnit = 16;  // kernels.h: AttentionArguments
constexpr std::uint32_t kMaxHeadDim = 256;

bool stays_as_in_file(TensorType type) {
  return type == TensorType::f32 || type == TensorType::f16 || type == TensorType::bf16;
}

Result<void> not_computed(std::string_view what) {
  return fail(ErrorCode::unsupported,
              "{}, which the cuda backend does not compute; use engine.backend: cpu, or another quantisation of the "
              "model",
              what);
}

std::string_view name_of(TensorType type) {
  return tensor_type_info(type)->name;
}

Result<void> check_type(const Matrix& matrix, std::string_view name) {
  if (matrix.data == nullptr || stays_as_in_file(matrix.type) || tile_bytes(matrix.type) != 0) return {};
  return not_computed(fmt::format("{} is {}", name, name_of(matrix.type)));
}

// The kernels take one type for each matrix of all experts of a layer.
Result<void> check_experts(const LayerWeights& layer, std::uint32_t index) {
  if (layer.experts.empty()) return {};
  const ExpertWeights& first = layer.experts.front();
  SIROCCO_CHECK(check_type(first.gate, fmt::format("blk.{}.ffn_gate_exps.weight", index)));
  SIROCCO_CHECK(check_type(first.up, fmt::format("blk.{}.ffn_up_exps.weight", index)));
  SIROCCO_CHECK(check_type(first.down, fmt::format("blk.{}.ffn_down_exps.weight", index)));
  for (const ExpertWeights& expert : layer.experts)
    if (expert.gate.type != first.gate.type || expert.up.type != first.up.type || expert.down.type != first.down.type)
      return not_computed(fmt::format("the experts of layer {} are of different types", index));
  return {};
}

class Layout {
 public:
  Layout(const Model& model, bool slots, Bump& arena) : model_(model), slots_(slots), arena_(arena) {}

  WeightsLayout make() {
    const ModelWeights& weights = model_.weights();
    DeviceWeights& device = made_.weights;
    const ModelSpec& spec = model_.spec();
    const Matrix& embedding = weights.embedding;
    device.embedding_type = embedding.type;
    device.embedding = bytes({embedding.data, embedding.outputs * row_bytes(embedding.type, embedding.inputs)});
    device.pairs = spec.rope.rotated / 2;
    made_.frequencies.resize(device.pairs);
    ref::rope_frequencies(spec.rope, weights.rope_factors, made_.frequencies);
    device.frequencies = floats(made_.frequencies);
    made_.expert_tables.resize(weights.layers.size());
    if (slots_) made_.expert_table = arena_.take<DeviceExpert>(std::size_t{spec.layers} * spec.moe->experts);
    for (std::uint32_t i = 0; i < weights.layers.size(); ++i)
      device.layers.push_back(layer(weights.layers[i], i, made_.expert_tables[i]));
    device.output_norm = floats(weights.output_norm);
    device.output_formats.add(cpu::activation_format(weights.output.type));
    if (weights.output.data == embedding.data && stays_as_in_file(embedding.type)) {
      device.output = shape(weights.output);
      device.output.data = device.embedding;
    } else {
      device.output = matrix(weights.output);
    }
    return std::move(made_);
  }

 private:
  static DeviceMatrix shape(const Matrix& m) {
    return {.type = m.type,
            .data = nullptr,
            .inputs = static_cast<std::uint32_t>(m.inputs),
            .outputs = static_cast<std::uint32_t>(m.outputs)};
  }

  const std::byte* bytes(Bytes source) {
    std::byte* const target = arena_.take<std::byte>(source.size());
    if (!source.empty()) made_.uploads.push_back({.target = target, .matrix = {}, .bytes = source});
    return target;
  }
  const float* floats(const std::vector<float>& values) {
    return values.empty() ? nullptr : reinterpret_cast<const float*>(bytes(std::as_bytes(std::span(values))));
  }
  DeviceMatrix matrix(const Matrix& m) {
    DeviceMatrix device = shape(m);
    if (m.data == nullptr) return device;
    if (stays_as_in_file(m.type)) {
      device.data = bytes({m.data, m.outputs * row_bytes(m.type, m.inputs)});
      return device;
    }
    std::byte* const target = arena_.take<std::byte>(matrix_bytes(m.type, m.inputs, m.outputs));
    made_.uploads.push_back({.target = target, .matrix = m, .bytes = {}});
    device.data = target;
    return device;
  }

  const DeviceExpert* experts(const LayerWeights& weights, std::uint32_t index, std::vector<DeviceExpert>& table) {
    if (slots_ && made_.expert_table == nullptr) return nullptr;  // of a layout without memory
    if (slots_) return made_.expert_table + std::size_t{index} * model_.spec().moe->experts;
    for (const ExpertWeights& expert : weights.experts)
      table.push_back(
          {.gate = matrix(expert.gate).data, .up = matrix(expert.up).data, .down = matrix(expert.down).data});
    return reinterpret_cast<const DeviceExpert*>(bytes(std::as_bytes(std::span(table))));
  }

  DeviceLayer layer(const LayerWeights& weights, std::uint32_t index, std::vector<DeviceExpert>& table) {
    DeviceLayer device;
    device.attention_norm = floats(weights.attention_norm);
    device.q = matrix(weights.q);
    device.k = matrix(weights.k);
    device.v = matrix(weights.v);
    device.q_norm = floats(weights.q_norm);
    device.k_norm = floats(weights.k_norm);
    device.attention_output = matrix(weights.attention_output);
    device.ffn_norm = floats(weights.ffn_norm);
    device.gate = matrix(weights.gate);
    device.up = matrix(weights.up);
    device.down = matrix(weights.down);
    device.router = matrix(weights.router);
    if (!weights.experts.empty()) {
      device.gate = shape(weights.experts.front().gate);
      device.up = shape(weights.experts.front().up);
      device.down = shape(weights.experts.front().down);
      device.experts = experts(weights, index, table);
    }
    const auto add = [](FormatSet& set, const DeviceMatrix& m) {
      if (m.outputs != 0) set.add(cpu::activation_format(m.type));
    };
    for (const DeviceMatrix* m : {&device.q, &device.k, &device.v}) add(device.attention, *m);
    add(device.mixed, device.attention_output);
    for (const DeviceMatrix* m : {&device.gate, &device.up, &device.router}) add(device.ffn, *m);
    add(device.hidden, device.down);
    return device;
  }

  const Model& model_;
  bool slots_;
  Bump& arena_;
  WeightsLayout made_;
};

}  // namespace

Result<void> check_model(const Model& model) {
  const ModelSpec& spec = model.spec();
  if (spec.head_dim % kHeadUnit != 0 || spec.head_dim > kMaxHeadDim)
    return fail(ErrorCode::unsupported,
                "heads of {} dimensions: the cuda backend computes multiples of {} up to {}; use engine.backend: cpu",
                spec.head_dim, kHeadUnit, kMaxHeadDim);
  if (spec.vocabulary > kMostTokens)
    return fail(ErrorCode::unsupported,
                "a vocabulary of {} tokens: the cuda backend chooses among {}; use engine.backend: cpu",
                spec.vocabulary, kMostTokens);
  const ModelWeights& weights = model.weights();
  SIROCCO_CHECK(check_type(weights.output,
                           weights.output.data == weights.embedding.data ? "token_embd.weight" : "output.weight"));
  for (std::uint32_t i = 0; i < weights.layers.size(); ++i) {
    const LayerWeights& layer = weights.layers[i];
    const std::pair<const Matrix*, std::string_view> matrices[] = {
        {&layer.q, "attn_q"},      {&layer.k, "attn_k"},
        {&layer.v, "attn_v"},      {&layer.attention_output, "attn_output"},
        {&layer.gate, "ffn_gate"}, {&layer.up, "ffn_up"},
        {&layer.down, "ffn_down"}, {&layer.router, "ffn_gate_inp"}};
    for (const auto& [matrix, name] : matrices)
      SIROCCO_CHECK(check_type(*matrix, fmt::format("blk.{}.{}.weight", i, name)));
    SIROCCO_CHECK(check_experts(layer, i));
  }
  return {};
}

bool gates_at_once(const Model& model) {
  const auto& layers = model.weights().layers;
  return std::all_of(layers.begin(), layers.end(), [](const LayerWeights& layer) {
    if (layer.experts.empty()) return layer.gate.data == nullptr || gated_at_once(layer.gate.type, layer.up.type);
    return gated_at_once(layer.experts.front().gate.type, layer.experts.front().up.type);
  });
}

WeightsLayout lay_out_weights(const Model& model, bool slots, Bump& arena) {
  return Layout(model, slots, arena).make();
}

}  // namespace sirocco::cuda

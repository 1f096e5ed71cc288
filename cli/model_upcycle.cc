#include "cli/model_upcycle.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>
#include <numeric>
#include <optional>
#include <utility>

#include "cli/model_progress.h"
#include "engine/base/printable.h"
#include "engine/gguf/gguf_writer.h"
#include "engine/gguf/mapping_guard.h"
#include "engine/model/model.h"

namespace sirocco {
namespace {

// One layer's feed-forward part. gate, up: [d, ff]; down: [ff, d]; norm: [d].
struct DenseLayer {
  std::uint64_t index = 0;
  const GgufTensor* gate = nullptr;
  const GgufTensor* up = nullptr;
  const GgufTensor* down = nullptr;
  const GgufTensor* norm = nullptr;
  std::vector<std::vector<std::uint32_t>> orders;  // [experts][groups of channels]
};

enum class Part { copy, rows, columns, router };

// A tensor of the output and where its bytes come from.
struct Planned {
  GgufWriter::TensorDeclaration declaration;
  Part part;
  const GgufTensor* source;
  const DenseLayer* layer;
};

// Channels that move together: down's columns can only be moved as whole blocks.
std::uint64_t group_channels(const DenseLayer& layer) {
  return tensor_type_info(layer.down->type)->block_size;
}

std::uint64_t channel_groups(const DenseLayer& layer) {
  return layer.down->shape[0] / group_channels(layer);
}

// groups!, or as much of it as any number of experts is compared with.
std::uint64_t possible_orders(std::uint64_t groups) {
  constexpr std::uint64_t kEnough = 1U << 20;
  std::uint64_t orders = 1;
  for (std::uint64_t i = 2; i <= groups && orders < kEnough; ++i) orders *= i;
  return orders;
}

Result<const GgufTensor*> require_tensor(const GgufFile& file, const std::string& name, std::uint32_t dimensions) {
  const GgufTensor* const tensor = file.find(name);
  if (tensor == nullptr) {
    return fail(ErrorCode::unsupported, "tensor {} is missing; only dense llama models can be upcycled", name);
  }
  if (tensor->dimensions != dimensions) {
    return fail(ErrorCode::unsupported, "tensor {}: shape {}, expected {} dimensions", name, shape_text(*tensor),
                dimensions);
  }
  return tensor;
}

Result<DenseLayer> find_layer(const GgufFile& file, std::uint64_t index) {
  DenseLayer layer;
  layer.index = index;
  const std::string block = fmt::format("blk.{}.", index);
  SIROCCO_TRY(layer.gate, require_tensor(file, block + "ffn_gate.weight", 2));
  SIROCCO_TRY(layer.up, require_tensor(file, block + "ffn_up.weight", 2));
  SIROCCO_TRY(layer.down, require_tensor(file, block + "ffn_down.weight", 2));
  SIROCCO_TRY(layer.norm, require_tensor(file, block + "ffn_norm.weight", 1));
  const std::uint64_t width = layer.gate->shape[0];
  const std::uint64_t channels = layer.gate->shape[1];
  if (layer.up->shape != layer.gate->shape || layer.down->shape[0] != channels || layer.down->shape[1] != width ||
      layer.norm->shape[0] != width) {
    return fail(ErrorCode::corrupt,
                "layer {}: shapes of ffn_gate {}, ffn_up {}, ffn_down {} and ffn_norm {} do not match", index,
                shape_text(*layer.gate), shape_text(*layer.up), shape_text(*layer.down), shape_text(*layer.norm));
  }
  return layer;
}

Result<std::vector<DenseLayer>> find_layers(const GgufFile& file, const UpcycleOptions& options) {
  const GgufMetadata& metadata = file.metadata();
  SIROCCO_TRY(const std::string architecture, metadata.string("general.architecture"));
  if (architecture != "llama") {
    return fail(ErrorCode::unsupported, "architecture {}; only dense llama models can be upcycled",
                printable(architecture));
  }
  if (metadata.integer("llama.expert_count").value_or(0) > 0) {
    return fail(ErrorCode::unsupported, "the model already has experts (llama.expert_count)");
  }
  SIROCCO_TRY(const std::uint64_t count, metadata.integer("llama.block_count"));
  if (count == 0 || count > file.tensors().size()) {
    return fail(ErrorCode::corrupt, "llama.block_count is {}, but there are {} tensors", count, file.tensors().size());
  }
  std::vector<DenseLayer> layers;
  for (std::uint64_t i = 0; i < count; ++i) {
    SIROCCO_TRY(DenseLayer layer, find_layer(file, i));
    SplitMix64 random(options.seed ^ (i + 1) << 32);
    const auto groups = static_cast<std::uint32_t>(channel_groups(layer));
    if (options.permute) {
      layer.orders = expert_orders(options.experts, groups, random);
    } else {
      std::vector<std::uint32_t> plain(groups);
      std::iota(plain.begin(), plain.end(), 0U);
      layer.orders.assign(options.experts, plain);
    }
    layers.push_back(std::move(layer));
  }
  return layers;
}

Result<std::vector<Planned>> plan_tensors(const GgufFile& file, const std::vector<DenseLayer>& layers,
                                          std::uint64_t experts) {
  std::map<const GgufTensor*, const DenseLayer*> replaced;
  for (const DenseLayer& layer : layers) {
    for (const GgufTensor* const tensor : {layer.gate, layer.up, layer.down}) replaced[tensor] = &layer;
  }
  std::vector<Planned> plan;
  for (const GgufTensor& tensor : file.tensors()) {
    const std::vector<std::uint64_t> shape(tensor.shape.begin(), tensor.shape.begin() + tensor.dimensions);
    const auto found = replaced.find(&tensor);
    if (found == replaced.end()) {
      if (tensor.name.find(".ffn_") != std::string::npos && tensor.name.find("norm") == std::string::npos) {
        return fail(ErrorCode::unsupported, "tensor {}: upcycling knows no such part of a feed-forward layer",
                    tensor.name);
      }
      plan.push_back({{tensor.name, tensor.type, shape}, Part::copy, &tensor, nullptr});
      continue;
    }
    const DenseLayer& layer = *found->second;
    if (&tensor == layer.gate) {
      plan.push_back({{fmt::format("blk.{}.ffn_gate_inp.weight", layer.index), TensorType::f32, {shape[0], experts}},
                      Part::router,
                      layer.norm,
                      &layer});
    }
    const std::string name = tensor.name.substr(0, tensor.name.rfind('.')) + "_exps.weight";
    plan.push_back({{name, tensor.type, {shape[0], shape[1], experts}},
                    &tensor == layer.down ? Part::columns : Part::rows,
                    &tensor,
                    &layer});
  }
  return plan;
}

// gate or up: the rows of every group, in the expert's order.
Result<void> write_rows(const Planned& planned, Bytes dense, GgufWriter& writer) {
  const std::uint64_t group_bytes = dense.size() / planned.source->shape[1] * group_channels(*planned.layer);
  for (const std::vector<std::uint32_t>& order : planned.layer->orders) {
    for (const std::uint32_t from : order) {
      SIROCCO_CHECK(writer.append(dense.subspan(from * group_bytes, group_bytes)));
    }
  }
  return {};
}

// down: in every row the blocks, one per group, in the expert's order.
Result<void> write_columns(const Planned& planned, Bytes dense, GgufWriter& writer) {
  const std::uint64_t block_bytes = tensor_type_info(planned.source->type)->block_bytes;
  const std::uint64_t row_size = dense.size() / planned.source->shape[1];
  std::vector<std::byte> row(row_size);
  for (const std::vector<std::uint32_t>& order : planned.layer->orders) {
    for (std::uint64_t at = 0; at < dense.size(); at += row_size) {
      for (std::size_t to = 0; to < order.size(); ++to) {
        std::memcpy(&row[to * block_bytes], &dense[at + order[to] * block_bytes], block_bytes);
      }
      SIROCCO_CHECK(writer.append(row));
    }
  }
  return {};
}

// Random directions, so long that the logits of a normalised token have deviation 1: the choice varies with the token,
// and no expert is always far ahead. The token comes scaled by the norm's weights.
Result<void> write_router(const Planned& planned, Bytes norm, std::uint64_t seed, GgufWriter& writer) {
  const std::uint64_t width = planned.declaration.shape[0];
  double square = 0;
  if (planned.source->type == TensorType::f32) {
    for (std::uint64_t i = 0; i < width; ++i) {
      float weight = 0;
      std::memcpy(&weight, &norm[i * sizeof weight], sizeof weight);
      square += double{weight} * weight;
    }
  }
  const double length = square > 0 && std::isfinite(square) ? std::sqrt(square) : std::sqrt(static_cast<double>(width));
  SplitMix64 random(seed ^ (planned.layer->index + 1) << 32 ^ 0x726F75746572U);
  std::vector<std::byte> router(writer.current_bytes());
  fill_random_blocks(TensorType::f32, static_cast<float>(1 / length), random, router);
  return writer.append(router);
}

Result<void> write_tensor(const Planned& planned, Bytes source, std::uint64_t seed, GgufWriter& writer) {
  switch (planned.part) {
    case Part::copy:
      return writer.append(source);
    case Part::rows:
      return write_rows(planned, source, writer);
    case Part::columns:
      return write_columns(planned, source, writer);
    case Part::router:
      return write_router(planned, source, seed, writer);
  }
  return {};
}

GgufMetadata upcycled_metadata(const GgufFile& input, const UpcycleOptions& options) {
  GgufMetadata metadata = input.metadata();
  const std::string name = metadata.string("general.name").value_or(input.path().stem().string());
  metadata.set("general.name", fmt::format("{} upcycled {}x top-{} (demo)", name, options.experts, options.used));
  if (const auto label = metadata.string("general.size_label")) {
    metadata.set("general.size_label", fmt::format("{}x{}", options.experts, *label));
  }
  metadata.set("llama.expert_count", options.experts);
  metadata.set("llama.expert_used_count", options.used);
  metadata.erase("llama.expert_feed_forward_length");  // of a dense model, but an expert's width here: it would win
  for (const char* const key : {"split.no", "split.count", "split.tensors.count"}) metadata.erase(key);
  return metadata;
}

}  // namespace

std::vector<std::vector<std::uint32_t>> expert_orders(std::uint32_t experts, std::uint32_t groups, SplitMix64& random) {
  const std::uint64_t possible = possible_orders(groups);
  std::vector<std::vector<std::uint32_t>> orders;
  std::vector<std::uint32_t> order(groups);
  std::iota(order.begin(), order.end(), 0U);
  while (orders.size() < experts) {
    for (std::uint32_t i = groups; i > 1; --i) std::swap(order[i - 1], order[random.below(i)]);  // Fisher and Yates
    const auto is_taken = [&] { return std::find(orders.begin(), orders.end(), order) != orders.end(); };
    while (orders.size() < possible && is_taken()) std::next_permutation(order.begin(), order.end());
    orders.push_back(order);
  }
  return orders;
}

std::vector<std::string> upcycle_notes(const GgufFile& input, const UpcycleOptions& options) {
  if (!options.permute) return {};  // plain copies were asked for
  for (std::uint64_t i = 0; i < input.metadata().integer("llama.block_count").value_or(0); ++i) {
    const auto layer = find_layer(input, i);
    if (!layer) return {};  // upcycle_model says so
    const std::uint64_t groups = channel_groups(*layer);
    if (possible_orders(groups) >= options.experts) continue;
    return {fmt::format(
        "layer {}: {} inner channels in blocks of {} have only {} orders; some of the {} experts are the same bytes", i,
        layer->down->shape[0], group_channels(*layer), possible_orders(groups), options.experts)};
  }
  return {};
}

Result<void> upcycle_model(const std::shared_ptr<const GgufFile>& input_file, const std::filesystem::path& output,
                           const UpcycleOptions& options) {
  const GgufFile& input = *input_file;
  auto layers = find_layers(input, options);
  if (!layers) return fail(layers.error().at(input.path().string()));
  auto plan = plan_tensors(input, *layers, options.experts);
  if (!plan) return fail(plan.error().at(input.path().string()));
  SIROCCO_CHECK(Model::bind(input_file));

  std::vector<GgufWriter::TensorDeclaration> declarations;
  for (const Planned& planned : *plan) declarations.push_back(planned.declaration);
  ModelProgress progress("writing " + output.string());
  SIROCCO_TRY(GgufWriter writer,
              GgufWriter::create(output, upcycled_metadata(input, options), std::move(declarations)));
  progress.expect(writer.file_bytes());
  for (const Planned& planned : *plan) {
    const std::uint64_t bytes = writer.current_bytes();
    SIROCCO_CHECK(write_tensor(planned, input.data(*planned.source), options.seed, writer));
    SIROCCO_CHECK(progress.advance(bytes));
  }
  if (const auto lost = lost_mapping()) return fail(ErrorCode::io, "{}", *lost);
  SIROCCO_CHECK(writer.flush());
  if (const auto made = Model::open(writer.part_path()); !made)
    return fail(made.error().at(output.string() + ": the model made could not be loaded"));
  return writer.finish();
}

}  // namespace sirocco

#include "engine/backend/cuda/cuda_forward.h"

#include <algorithm>
#include <cmath>

#include "engine/backend/cuda/missing_experts.h"

namespace sirocco::cuda {
namespace {

Activations take_activations(std::size_t elements, std::size_t block, Bump& memory) {
  return {.q = memory.take<std::int8_t>(elements),
          .sums = memory.take<std::int16_t>(elements / 16),
          .scales = memory.take<float>(elements / block)};
}

// Of rows of so many inputs, those from `row` on.
Activations from_row(const Activations& all, std::size_t row, std::size_t inputs, std::size_t block) {
  if (all.q == nullptr) return {};
  const std::size_t elements = row * padded(inputs, kTileInputs);
  return {.q = all.q + elements, .sums = all.sums + elements / 16, .scales = all.scales + elements / block};
}

// Few rows can need more than many.
std::size_t most_part_bytes(const ModelSpec& spec, const StepLimits& limits) {
  std::size_t most = 0;
  for (std::uint32_t rows = 1; rows <= limits.rows; ++rows)
    most =
        std::max(most, attention_part_bytes(rows, spec.heads, spec.head_dim, splits_of(limits.context, spec.window)));
  return most;
}

ExpertLists take_lists(std::uint32_t rows, const MoeSpec& moe, Bump& memory) {
  const std::size_t assignments = std::size_t{rows} * moe.used;
  // Of any step within the limit: a tile of one row each is the most.
  return {.chosen = memory.take<std::uint32_t>(assignments),
          .weights = memory.take<float>(assignments),
          .place = memory.take<std::uint32_t>(assignments),
          .row_of = memory.take<std::uint32_t>(assignments),
          .first = memory.take<std::uint32_t>(std::size_t{moe.experts} + 1),
          .tiles = memory.take<ExpertTile>(assignments),
          .tile_count = memory.take<std::uint32_t>(1)};
}

}  // namespace

ForwardMemory ForwardMemory::lay_out(const ModelSpec& spec, const BackendOptions& options, bool slots, bool of_up,
                                     Bump& memory) {
  const std::size_t rows = options.limits.rows;
  const std::size_t logit_rows = options.limits.logit_rows;
  const std::size_t hidden_rows = spec.moe ? rows * spec.moe->used : rows;
  const std::size_t hidden_width = spec.moe ? std::max(spec.moe->width, spec.ffn_width) : spec.ffn_width;
  const std::size_t pairs = spec.rope.rotated / 2;
  ForwardMemory m;
  m.inputs = StepInputs::lay_out(options.limits, options.kv_block_tokens, memory);
  m.x = memory.take<float>(rows * spec.width);
  m.normed = memory.take<float>(std::max(rows, logit_rows) * spec.width);
  m.q = memory.take<float>(rows * spec.q_width());
  m.k = memory.take<float>(rows * spec.kv_width());
  m.v = memory.take<float>(rows * spec.kv_width());
  m.mixed = memory.take<float>(rows * spec.q_width());
  m.branch = memory.take<float>(rows * spec.width);
  m.hidden = memory.take<float>(hidden_rows * hidden_width);
  if (of_up) m.of_up = memory.take<float>(hidden_rows * hidden_width);
  m.cosines = memory.take<float>(rows * pairs);
  m.sines = memory.take<float>(rows * pairs);
  m.parts = reinterpret_cast<float*>(memory.take<std::byte>(most_part_bytes(spec, options.limits)));
  m.logits = memory.take<float>(logit_rows * spec.vocabulary);
  if (spec.moe) {
    m.router = memory.take<float>(rows * spec.moe->experts);
    m.expert_out = memory.take<float>(hidden_rows * spec.width);
    m.lists = take_lists(options.limits.rows, *spec.moe, memory);
    if (slots) take_device_part(spec, memory, m.mailbox);
  }
  const std::size_t elements =
      std::max({rows * padded(spec.width, kTileInputs), rows * padded(spec.q_width(), kTileInputs),
                hidden_rows * padded(hidden_width, kTileInputs), logit_rows * padded(spec.width, kTileInputs)});
  m.q8_32 = take_activations(elements, 32, memory);
  m.q8_256 = take_activations(elements, 256, memory);
  m.hidden_q8_32 = slots ? take_activations(elements, 32, memory) : m.q8_32;
  m.hidden_q8_256 = slots ? take_activations(elements, 256, memory) : m.q8_256;
  return m;
}

std::size_t CudaKv::block_bytes(const ModelSpec& spec) const {
  return kv_block_bytes(type, block_tokens, spec.kv_heads, spec.head_dim);
}

std::size_t CudaKv::bytes(const ModelSpec& spec) const {
  return std::size_t{2} * spec.layers * blocks * block_bytes(spec);
}

DeviceKv CudaKv::layer(const ModelSpec& spec, std::uint32_t index) const {
  const std::size_t stride = block_bytes(spec);
  std::byte* const keys = base + std::size_t{2} * index * blocks * stride;
  return {.keys = keys,
          .values = keys + blocks * stride,
          .block_stride = stride,
          .block_tokens = block_tokens,
          .type = type};
}

Result<void> CudaForward::enqueue(const StepShape& shape, cudaStream_t stream, const MissingHook& missing) const {
  SIROCCO_CHECK(embed_rows(shape, stream));
  Pending pending = Pending::nothing;
  for (std::uint32_t i = 0; i < spec_.layers; ++i) {
    const DeviceLayer& layer = weights_.layers[i];
    SIROCCO_CHECK(store_keys(shape, i, pending, stream));
    // Where no row wants logits, the last layer leaves its keys and values and nothing else.
    if (i + 1 == spec_.layers && shape.logit_rows == 0) return {};
    SIROCCO_CHECK(attention_part(shape, i, stream));
    if (layer.experts == nullptr) {
      SIROCCO_CHECK(dense_part(shape, layer, stream));
      pending = Pending::branch;
    } else {
      SIROCCO_CHECK(expert_part(shape, i, stream, missing));
      pending = Pending::experts;
    }
  }
  return output_part(shape, pending, stream);
}

// The rows that the kernel before left in the scratch, in the formats that matrices want.
Rows CudaForward::rows_in(const FormatSet& formats, const float* f32) const {
  return {.f32 = formats.has(ActivationFormat::f32) ? f32 : nullptr,
          .q8_32 = formats.has(ActivationFormat::q8_32) ? m_.q8_32 : Activations(),
          .q8_256 = formats.has(ActivationFormat::q8_256) ? m_.q8_256 : Activations()};
}

NormArguments CudaForward::norm_after(const StepShape& shape, Pending pending, const float* weight,
                                      const FormatSet& formats) const {
  NormArguments arguments;
  arguments.rows = shape.rows;
  arguments.width = spec_.width;
  arguments.x = m_.x;
  if (pending == Pending::branch) arguments.branch = m_.branch;
  if (pending == Pending::experts) {
    arguments.expert_out = m_.expert_out;
    arguments.place = m_.lists.place;
    arguments.expert_weights = m_.lists.weights;
    arguments.used = spec_.moe->used;
  }
  arguments.weight = weight;
  arguments.epsilon = spec_.rms_epsilon;
  const Rows rows = rows_in(formats, m_.normed);
  arguments.f32 = rows.f32 == nullptr ? nullptr : m_.normed;
  arguments.q8_32 = rows.q8_32;
  arguments.q8_256 = rows.q8_256;
  return arguments;
}

Result<void> CudaForward::multiply(const DeviceMatrix& w, std::uint32_t rows, const Rows& x, float* y,
                                   cudaStream_t stream) const {
  LinearArguments arguments = {.rows = rows, .parts = 1, .part = {}, .x = x};
  arguments.part[0] = {.w = w, .y = y};
  return checked(linear(arguments, stream), "linear");
}

Result<void> CudaForward::embed_rows(const StepShape& shape, cudaStream_t stream) const {
  return checked(embed({.rows = shape.rows,
                        .width = spec_.width,
                        .step = m_.inputs.step_rows(),
                        .type = weights_.embedding_type,
                        .embedding = weights_.embedding,
                        .frequencies = weights_.frequencies,
                        .pairs = weights_.pairs,
                        .attention_factor = spec_.rope.attention_factor,
                        .x = m_.x,
                        .cosines = m_.cosines,
                        .sines = m_.sines},
                       stream),
                 "embed");
}

AttentionArguments CudaForward::attention_of(const StepShape& shape, std::uint32_t index) const {
  const DeviceLayer& layer = weights_.layers[index];
  const Rows mixed = rows_in(layer.mixed, m_.mixed);
  return {.rows = shape.rows,
          .heads = spec_.heads,
          .kv_heads = spec_.kv_heads,
          .head_dim = spec_.head_dim,
          .scale = 1.0F / std::sqrt(static_cast<float>(spec_.head_dim)),
          .window = spec_.window,
          .step = m_.inputs.step_rows(),
          .kv = kv_.layer(spec_, index),
          .q = m_.q,
          .k = m_.k,
          .v = m_.v,
          .q_norm = layer.q_norm,
          .k_norm = layer.k_norm,
          .epsilon = spec_.rms_epsilon,
          .cosines = m_.cosines,
          .sines = m_.sines,
          .pairs = weights_.pairs,
          .style = spec_.rope_style,
          .splits = shape.splits,
          .parts = m_.parts,
          .mixed = m_.mixed,
          .q8_32 = mixed.q8_32,
          .q8_256 = mixed.q8_256};
}

Result<void> CudaForward::store_keys(const StepShape& shape, std::uint32_t index, Pending pending,
                                     cudaStream_t stream) const {
  const DeviceLayer& layer = weights_.layers[index];
  SIROCCO_CHECK(checked(norm(norm_after(shape, pending, layer.attention_norm, layer.attention), stream), "norm"));
  LinearArguments qkv = {.rows = shape.rows, .parts = 3, .part = {}, .x = rows_in(layer.attention, m_.normed)};
  qkv.part[0] = {.w = layer.q, .y = m_.q};
  qkv.part[1] = {.w = layer.k, .y = m_.k};
  qkv.part[2] = {.w = layer.v, .y = m_.v};
  SIROCCO_CHECK(checked(linear(qkv, stream), "linear"));
  return checked(rotate_and_store(attention_of(shape, index), stream), "rotate_and_store");
}

Result<void> CudaForward::attention_part(const StepShape& shape, std::uint32_t index, cudaStream_t stream) const {
  const DeviceLayer& layer = weights_.layers[index];
  SIROCCO_CHECK(checked(attend(attention_of(shape, index), stream), "attend"));
  SIROCCO_CHECK(multiply(layer.attention_output, shape.rows, rows_in(layer.mixed, m_.mixed), m_.branch, stream));
  NormArguments arguments = norm_after(shape, Pending::branch, layer.ffn_norm, layer.ffn);
  if (layer.experts != nullptr && has_slots() && !m_.shared) arguments.f32 = m_.normed;  // the host wants them so
  return checked(norm(arguments, stream), "norm");
}

Result<void> CudaForward::dense_part(const StepShape& shape, const DeviceLayer& layer, cudaStream_t stream) const {
  SIROCCO_CHECK(checked(gated({.rows = shape.rows,
                               .gate = layer.gate,
                               .up = layer.up,
                               .x = rows_in(layer.ffn, m_.normed),
                               .y = m_.hidden,
                               .of_up = m_.of_up},
                              stream),
                        "gated"));
  const Rows hidden = rows_in(layer.hidden, m_.hidden);
  if (hidden.f32 == nullptr)
    SIROCCO_CHECK(
        checked(quantise(m_.hidden, shape.rows, layer.down.inputs, hidden.q8_32, hidden.q8_256, stream), "quantise"));
  return multiply(layer.down, shape.rows, hidden, m_.branch, stream);
}

MailArguments CudaForward::mail_of(const StepShape& shape, std::uint32_t layer) const {
  return {.rows = shape.rows,
          .used = spec_.moe->used,
          .experts = spec_.moe->experts,
          .width = spec_.width,
          .layer = layer,
          .experts_table = m_.shared ? nullptr : weights_.layers[layer].experts,
          .lists = m_.lists,
          .x = m_.shared ? nullptr : m_.normed,
          .expert_out = m_.expert_out,
          .mailbox = m_.mailbox};
}

Result<void> CudaForward::expert_part(const StepShape& shape, std::uint32_t index, cudaStream_t stream,
                                      const MissingHook& missing) const {
  const DeviceLayer& layer = weights_.layers[index];
  const MoeSpec& moe = *spec_.moe;
  SIROCCO_CHECK(multiply(layer.router, shape.rows, rows_in(layer.ffn, m_.normed), m_.router, stream));
  const std::uint32_t tile_rows = expert_tile_rows(shape.rows, moe.used, moe.experts);
  SIROCCO_CHECK(checked(route({.rows = shape.rows,
                               .experts = moe.experts,
                               .used = moe.used,
                               .tile_rows = tile_rows,
                               .softmax_before_choice = moe.route.softmax_before_choice,
                               .normalise = moe.route.normalise,
                               .scale = moe.route.scale,
                               .logits = m_.router,
                               .experts_table = has_slots() && !m_.shared ? layer.experts : nullptr,
                               .lists = m_.lists},
                              stream),
                        "route"));
  MailArguments mail;
  if (has_slots()) {
    mail = mail_of(shape, index);
    mail.always = static_cast<bool>(missing);
    SIROCCO_CHECK(checked(post_missing(mail, stream), "post_missing"));
  }
  if (m_.shared) return missing(index);
  const ExpertArguments experts = {.rows = shape.rows,
                                   .used = moe.used,
                                   .experts = moe.experts,
                                   .tile_rows = tile_rows,
                                   .experts_table = layer.experts,
                                   .lists = m_.lists,
                                   .x = {}};
  SIROCCO_CHECK(expert_products(layer, experts, 0, shape.rows * moe.used, stream));
  if (!has_slots()) return {};
  if (missing) return missing(index);
  return checked(collect_missing(mail, stream), "collect_missing");
}

// Gate and up, then down, of the experts that the lists have; they stand at `count` places from `first` on.
Result<void> CudaForward::expert_products(const DeviceLayer& layer, ExpertArguments experts, std::uint32_t first,
                                          std::uint32_t count, cudaStream_t stream) const {
  const MoeSpec& moe = *spec_.moe;
  experts.type = layer.gate.type;
  experts.up_type = layer.up.type;
  experts.inputs = spec_.width;
  experts.outputs = moe.width;
  experts.x = rows_in(layer.ffn, m_.normed);
  experts.first = first;
  experts.y = m_.hidden;
  experts.of_up = m_.of_up;
  SIROCCO_CHECK(checked(expert_gate_up(experts, stream), "expert_gate_up"));
  Rows hidden;  // of all places
  if (layer.hidden.has(ActivationFormat::f32)) hidden.f32 = m_.hidden;
  if (layer.hidden.has(ActivationFormat::q8_32)) hidden.q8_32 = m_.hidden_q8_32;
  if (layer.hidden.has(ActivationFormat::q8_256)) hidden.q8_256 = m_.hidden_q8_256;
  if (hidden.f32 == nullptr)
    SIROCCO_CHECK(checked(
        quantise(m_.hidden + std::size_t{first} * moe.width, count, moe.width,
                 from_row(hidden.q8_32, first, moe.width, 32), from_row(hidden.q8_256, first, moe.width, 256), stream),
        "quantise"));
  experts.type = experts.up_type = layer.down.type;
  experts.inputs = moe.width;
  experts.outputs = spec_.width;
  experts.x = hidden;
  experts.y = m_.expert_out;
  return checked(expert_down(experts, stream), "expert_down");
}

Result<void> CudaForward::enqueue_group(const StepShape& shape, std::uint32_t index, const ExpertGroup& group,
                                        cudaStream_t stream) const {
  const MoeSpec& moe = *spec_.moe;
  ExpertArguments experts = {.rows = group.assignments,
                             .used = 1,
                             .experts = group.experts,
                             .tile_rows = expert_tile_rows(shape.rows, moe.used, moe.experts),
                             .experts_table = group.table,
                             .lists = m_.lists,
                             .x = {}};
  experts.lists.tiles = const_cast<ExpertTile*>(group.tiles);
  experts.lists.tile_count = const_cast<std::uint32_t*>(group.tile_count);
  return expert_products(weights_.layers[index], experts, group.first, group.count, stream);
}

Result<void> CudaForward::output_part(const StepShape& shape, Pending pending, cudaStream_t stream) const {
  NormArguments last = norm_after(shape, pending, weights_.output_norm, weights_.output_formats);
  last.rows = shape.logit_rows;
  last.rows_of = m_.inputs.rows_of;
  SIROCCO_CHECK(checked(norm(last, stream), "norm"));
  SIROCCO_CHECK(
      multiply(weights_.output, shape.logit_rows, rows_in(weights_.output_formats, m_.normed), m_.logits, stream));
  if (!shape.chooses) return {};
  return checked(choose({.rows = shape.logit_rows,
                         .vocabulary = spec_.vocabulary,
                         .logits = m_.logits,
                         .choices = m_.inputs.choices,
                         .chosen = m_.chosen},
                        stream),
                 "choose");
}

}  // namespace sirocco::cuda

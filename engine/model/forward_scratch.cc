#include "engine/model/forward_scratch.h"

#include <algorithm>
#include <numeric>

#include "kernels/ref/rope.h"

namespace sirocco {

ForwardFormats::ForwardFormats(const Model& model, const Kernels& kernels) {
  const auto add = [&](FormatSet& set, const Matrix& matrix) {
    if (matrix.data != nullptr) set.add(kernels.activation_format(matrix.type));
  };
  for (const LayerWeights& layer : model.weights().layers) {
    for (const Matrix* matrix : {&layer.q, &layer.k, &layer.v}) add(attention, *matrix);
    add(mixed, layer.attention_output);
    for (const Matrix* matrix : {&layer.gate, &layer.up, &layer.router}) add(ffn, *matrix);
    add(hidden, layer.down);
    for (const ExpertWeights& expert : layer.experts) {
      add(ffn, expert.gate);
      add(ffn, expert.up);
      add(hidden, expert.down);
    }
  }
  add(output, model.weights().output);
}

std::vector<Products::Use> product_uses(const ModelSpec& spec, const StepLimits& limits,
                                        const ForwardFormats& formats) {
  const std::size_t rows = limits.rows;
  const std::size_t used = spec.moe ? spec.moe->used : 1;
  const std::size_t groups = spec.moe ? std::min<std::size_t>(spec.moe->experts, rows * used) : 1;
  return {
      {.rows = rows, .inputs = spec.width, .formats = formats.attention, .products = 3, .met = rows, .groups = 1},
      {.rows = rows, .inputs = spec.q_width(), .formats = formats.mixed, .products = 1, .met = rows, .groups = 1},
      {.rows = rows, .inputs = spec.width, .formats = formats.ffn, .products = 2, .met = rows * used, .groups = groups},
      {.rows = limits.logit_rows,
       .inputs = spec.width,
       .formats = formats.output,
       .products = 1,
       .met = limits.logit_rows,
       .groups = 1}};
}

std::vector<Products::Use> hidden_uses(const ModelSpec& spec, const StepLimits& limits, const ForwardFormats& formats) {
  const std::size_t met = limits.rows * (spec.moe ? spec.moe->used : 1);
  const std::size_t foreseen = std::min<std::size_t>(limits.rows, kForeseenRows);
  return {{.rows = met,
           .inputs = spec.moe ? spec.moe->width : spec.ffn_width,
           .formats = formats.hidden,
           .products = 1,
           .met = met,
           .groups = spec.moe ? std::min<std::size_t>(spec.moe->experts, met) : 1},
          {.rows = spec.moe ? foreseen : 0,
           .inputs = spec.width,
           .formats = formats.ffn,
           .products = 1,
           .met = foreseen,
           .groups = 1}};
}

ForwardSizes::ForwardSizes(const ModelSpec& spec, const StepLimits& limits, std::size_t thread_count)
    : threads(thread_count),
      rows(limits.rows),
      x(rows * spec.width),
      q(rows * spec.q_width()),
      kv(rows * spec.kv_width()),
      hidden(rows * spec.ffn_width),
      final(std::size_t{limits.logit_rows} * spec.width),
      pairs(spec.rope.rotated / 2) {
  if (spec.moe) {
    experts = spec.moe->experts;
    router = rows * experts;
    assignments = rows * spec.moe->used;
    expert_out = assignments * spec.width;
    hidden = assignments * spec.moe->width;
  }
  const std::size_t pieces = (std::size_t{limits.context} + kAttentionPiece - 1) / kAttentionPiece;
  const std::size_t group = spec.heads / spec.kv_heads;
  const std::size_t tasks_a_row = spec.kv_heads * ((group + kMaxAttentionQueries - 1) / kMaxAttentionQueries);
  const std::size_t split = (kAttentionTasksAThread * threads + tasks_a_row) * pieces;
  const std::size_t part = attention_part_floats(spec.head_dim);
  attention_tasks = std::max(rows * tasks_a_row, split);
  attention_parts = split * kMaxAttentionQueries * part;
  attention_thread = attention_scratch_floats(spec.head_dim) + 2 * kMaxAttentionQueries * part;
}

std::uint64_t ForwardSizes::bytes() const {
  const std::size_t floats = 3 * x + 2 * q + 2 * kv + 2 * hidden + final + (2 * rows + 1) * pairs + 3 * rows + router +
                             4 * assignments + expert_out + attention_parts + threads * (attention_thread + experts);
  return floats * sizeof(float) + attention_tasks * sizeof(AttentionTask) + experts * (sizeof(WantedExpert) + 1);
}

Forward::Scratch::Scratch(const Model& model, const Kernels& kernels, const ForwardSizes& sizes,
                          const StepLimits& limits, ThreadPool& pool, ExpertSource& experts, Timeline* timeline)
    : formats(model, kernels),
      products(kernels, pool, product_uses(model.spec(), limits, formats)),
      hidden_products(kernels, pool, hidden_uses(model.spec(), limits, formats)),
      x(sizes.x),
      normed(sizes.x),
      q(sizes.q),
      k(sizes.kv),
      v(sizes.kv),
      mixed(sizes.q),
      branch(sizes.x),
      gate(sizes.hidden),
      up(sizes.hidden),
      final(sizes.final),
      all_rows(sizes.rows),
      frequencies(sizes.pairs),
      cosines(sizes.rows * sizes.pairs),
      sines(sizes.rows * sizes.pairs),
      positions(sizes.rows),
      sequences(sizes.rows),
      attention_parts(sizes.attention_parts),
      attention_memory(sizes.threads, AlignedVector<float>(sizes.attention_thread)),
      router(sizes.router),
      chosen(sizes.assignments),
      weights(sizes.assignments),
      resident(sizes.experts),
      first(sizes.experts + 2),
      place(sizes.assignments),
      row_of(sizes.assignments),
      expert_out(sizes.expert_out),
      route_scratch(sizes.threads, std::vector<float>(sizes.experts)) {
  std::iota(all_rows.begin(), all_rows.end(), 0U);
  attention_tasks.reserve(sizes.attention_tasks);
  wanted.reserve(sizes.experts);
  foreseen.reserve(kForeseenRows * kForeseenUses);
  if (model.spec().moe)
    expert_products.emplace(
        model.spec(), sizes.assignments, formats.hidden, experts, timeline,
        ExpertProducts::Memory{.rows = &products, .hidden = &hidden_products, .gate = gate, .up = up});
  ref::rope_frequencies(model.spec().rope, model.weights().rope_factors, frequencies);
}

}  // namespace sirocco

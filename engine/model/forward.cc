#include "engine/model/forward.h"

#include <algorithm>
#include <array>
#include <cassert>
#include <cmath>

#include "engine/model/forward_scratch.h"
#include "kernels/ref/embedding.h"
#include "kernels/ref/rms_norm.h"
#include "kernels/ref/rope.h"
#include "kernels/ref/swiglu.h"
#include "kernels/ref/weighted_sum.h"

namespace sirocco {
namespace {

constexpr std::size_t kColumns = 32;  // outputs of a matrix that make one chunk of work

}  // namespace

ref::KvView KvMemory::view(const ModelSpec& spec, std::uint32_t layer, std::span<const BlockId> table) const {
  const std::size_t stride = block_bytes(spec);
  std::byte* const keys = base + std::size_t{2} * layer * blocks * stride;
  return {.keys = keys,
          .values = keys + blocks * stride,
          .block_stride = stride,
          .table = table,
          .block_tokens = block_tokens,
          .type = type};
}

std::uint64_t Forward::scratch_bytes(const ModelSpec& spec, const StepLimits& limits, std::size_t threads) {
  const std::uint64_t rows = limits.rows;
  std::uint64_t floats = rows * (3ULL * spec.width + 2ULL * spec.q_width() + 2ULL * spec.kv_width() + 1);
  floats += std::uint64_t{limits.logit_rows} * spec.width;
  std::uint64_t widest = std::max({spec.width, spec.q_width(), spec.ffn_width});
  if (spec.moe) {
    widest = std::max<std::uint64_t>(widest, spec.moe->width);
    floats += rows * spec.moe->used * (2ULL * spec.width + 2ULL * spec.moe->width + 3) + rows * spec.moe->experts;
  } else {
    floats += rows * 2 * spec.ffn_width;
  }
  const std::uint64_t experts = spec.moe ? spec.moe->experts : 0;
  floats += threads * (widest + std::max<std::uint64_t>(limits.context, experts));
  return floats * sizeof(float);
}

Forward::Forward(std::shared_ptr<const Model> model, const StepLimits& limits, ThreadPool& pool, ExpertSource& experts)
    : model_(std::move(model)),
      spec_(model_->spec()),
      limits_(limits),
      pool_(pool),
      experts_(experts),
      scratch_(std::make_unique<Scratch>()) {
  Scratch& s = *scratch_;
  const std::size_t rows = limits.rows;
  s.x.resize(rows * spec_.width);
  s.normed.resize(rows * spec_.width);
  s.branch.resize(rows * spec_.width);
  s.q.resize(rows * spec_.q_width());
  s.mixed.resize(rows * spec_.q_width());
  s.k.resize(rows * spec_.kv_width());
  s.v.resize(rows * spec_.kv_width());
  s.final.resize(std::size_t{limits.logit_rows} * spec_.width);
  s.positions.resize(rows);
  s.frequencies.resize(spec_.rope.rotated / 2);
  ref::rope_frequencies(spec_.rope, model_->weights().rope_factors, s.frequencies);
  std::size_t widest = std::max({spec_.width, spec_.q_width(), spec_.ffn_width});
  std::size_t scores = limits.context;
  std::size_t hidden = rows * spec_.ffn_width;
  if (spec_.moe) {
    const std::size_t assignments = rows * spec_.moe->used;
    widest = std::max<std::size_t>(widest, spec_.moe->width);
    scores = std::max<std::size_t>(scores, spec_.moe->experts);
    hidden = assignments * spec_.moe->width;
    s.router.resize(rows * spec_.moe->experts);
    s.chosen.resize(assignments);
    s.weights.resize(assignments);
    s.place.resize(assignments);
    s.first.resize(spec_.moe->experts + 1);
    s.grouped.resize(assignments * spec_.width);
    s.grouped_out.resize(assignments * spec_.width);
    s.leases.resize(spec_.moe->experts);
    s.tasks.reserve(std::size_t{2} * spec_.moe->experts);
  }
  s.gate.resize(hidden);
  s.up.resize(hidden);
  s.weight_row.assign(pool.threads(), std::vector<float>(widest));
  s.scores.assign(pool.threads(), std::vector<float>(scores));
}

Forward::~Forward() = default;

Result<void> Forward::run(const Step& step, const KvMemory& kv, std::span<float> logits) {
  const std::size_t rows = step.rows();
  assert(rows > 0 && rows <= limits_.rows && step.logit_rows() <= limits_.logit_rows);
  assert(logits.size() == step.logit_rows() * spec_.vocabulary);
  Scratch& s = *scratch_;

  std::size_t row = 0;
  for (const StepSequence& sequence : step.sequences) {
    assert(sequence.position + sequence.tokens.size() <= limits_.context);
    ref::embedding(model_->weights().embedding, sequence.tokens,
                   std::span(s.x).subspan(row * spec_.width, sequence.tokens.size() * spec_.width));
    for (std::size_t i = 0; i < sequence.tokens.size(); ++i)
      s.positions[row++] = sequence.position + static_cast<std::uint32_t>(i);
  }

  const std::span<float> x = std::span(s.x).first(rows * spec_.width);
  for (std::uint32_t layer = 0; layer < spec_.layers; ++layer) {
    const LayerWeights& weights = model_->weights().layers[layer];
    norm(x, weights.attention_norm, s.normed);
    attention_part(step, kv, layer, rows);
    ref::add(std::span(s.branch).first(x.size()), x);
    norm(x, weights.ffn_norm, s.normed);
    if (weights.experts.empty()) {
      dense_part(weights, rows);
    } else {
      SIROCCO_CHECK(expert_part(layer, rows));
    }
    ref::add(std::span(s.branch).first(x.size()), x);
  }
  if (!logits.empty()) output_part(step, logits);
  return {};
}

void Forward::norm(std::span<const float> x, const std::vector<float>& weight, std::span<float> y) {
  const std::size_t width = weight.size();
  pool_.run(x.size() / width, [&](std::size_t row, std::size_t) {
    ref::rms_norm(x.subspan(row * width, width), weight, spec_.rms_epsilon, y.subspan(row * width, width));
  });
}

void Forward::linear(std::span<const LinearTask> tasks) {
  const auto chunks_of = [](const LinearTask& task) { return (task.w->outputs + kColumns - 1) / kColumns; };
  std::size_t chunks = 0;
  for (const LinearTask& task : tasks) chunks += chunks_of(task);
  pool_.run(chunks, [&](std::size_t chunk, std::size_t thread) {
    const LinearTask* task = tasks.data();
    for (; chunk >= chunks_of(*task); ++task) chunk -= chunks_of(*task);
    const Matrix& w = *task->w;
    const std::size_t first = chunk * kColumns;
    ref::linear(w, task->x, task->rows, first, std::min(first + kColumns, w.outputs), task->y,
                std::span(scratch_->weight_row[thread]).first(w.inputs));
  });
}

void Forward::attention_part(const Step& step, const KvMemory& kv, std::uint32_t layer, std::size_t rows) {
  Scratch& s = *scratch_;
  const LayerWeights& weights = model_->weights().layers[layer];
  const std::span<const float> normed = std::span(s.normed).first(rows * spec_.width);
  const std::span<float> q = std::span(s.q).first(rows * spec_.q_width());
  const std::span<float> k = std::span(s.k).first(rows * spec_.kv_width());
  const std::span<float> v = std::span(s.v).first(rows * spec_.kv_width());
  const std::span<float> mixed = std::span(s.mixed).first(rows * spec_.q_width());
  const std::size_t dim = spec_.head_dim;

  linear(std::array{LinearTask{&weights.q, normed, rows, q}, LinearTask{&weights.k, normed, rows, k},
                    LinearTask{&weights.v, normed, rows, v}});
  if (spec_.qk_norm) {
    norm(q, weights.q_norm, q);
    norm(k, weights.k_norm, k);
  }
  const std::span<const std::uint32_t> positions = std::span(s.positions).first(rows);
  ref::rope(q, spec_.heads, dim, positions, s.frequencies, spec_.rope.attention_factor, spec_.rope_style);
  ref::rope(k, spec_.kv_heads, dim, positions, s.frequencies, spec_.rope.attention_factor, spec_.rope_style);

  std::size_t row = 0;
  for (const StepSequence& sequence : step.sequences) {
    const std::size_t first = row * spec_.kv_width();
    const std::size_t count = sequence.tokens.size() * spec_.kv_width();
    ref::kv_write(kv.view(spec_, layer, sequence.block_table), sequence.position, spec_.kv_heads, dim,
                  k.subspan(first, count), v.subspan(first, count));
    row += sequence.tokens.size();
  }
  const ref::AttentionShape shape = {.heads = spec_.heads,
                                     .kv_heads = spec_.kv_heads,
                                     .head_dim = dim,
                                     .scale = 1.0F / std::sqrt(static_cast<float>(dim)),
                                     .window = spec_.window};
  pool_.run(rows * spec_.heads, [&](std::size_t chunk, std::size_t thread) {
    std::size_t at = chunk / spec_.heads;
    const std::size_t head = chunk % spec_.heads;
    const std::span<const float> query = q.subspan(chunk * dim, dim);
    const StepSequence* sequence = step.sequences.data();
    for (; at >= sequence->tokens.size(); ++sequence) at -= sequence->tokens.size();
    ref::attention(shape, kv.view(spec_, layer, sequence->block_table),
                   sequence->position + static_cast<std::uint32_t>(at), head, query, mixed.subspan(chunk * dim, dim),
                   s.scores[thread]);
  });
  linear(std::array{LinearTask{&weights.attention_output, mixed, rows, std::span(s.branch).first(rows * spec_.width)}});
}

void Forward::dense_part(const LayerWeights& weights, std::size_t rows) {
  Scratch& s = *scratch_;
  const std::span<const float> normed = std::span(s.normed).first(rows * spec_.width);
  const std::span<float> gate = std::span(s.gate).first(rows * spec_.ffn_width);
  const std::span<float> up = std::span(s.up).first(rows * spec_.ffn_width);
  linear(std::array{LinearTask{&weights.gate, normed, rows, gate}, LinearTask{&weights.up, normed, rows, up}});
  ref::swiglu(gate, up, gate);
  linear(std::array{LinearTask{&weights.down, gate, rows, std::span(s.branch).first(rows * spec_.width)}});
}

void Forward::output_part(const Step& step, std::span<float> logits) {
  Scratch& s = *scratch_;
  std::size_t row = 0;
  std::size_t wanted = 0;
  for (const StepSequence& sequence : step.sequences) {
    const std::size_t rows = sequence.tokens.size();
    const std::size_t skip = sequence.logits == WantLogits::none   ? rows
                             : sequence.logits == WantLogits::last ? rows - 1
                                                                   : 0;
    std::copy_n(s.x.data() + (row + skip) * spec_.width, (rows - skip) * spec_.width,
                s.final.data() + wanted * spec_.width);
    wanted += rows - skip;
    row += rows;
  }
  const std::span<float> final = std::span(s.final).first(wanted * spec_.width);
  norm(final, model_->weights().output_norm, final);
  linear(std::array{LinearTask{&model_->weights().output, final, wanted, logits}});
}

}  // namespace sirocco

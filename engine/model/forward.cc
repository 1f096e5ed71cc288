#include "engine/model/forward.h"

#include <algorithm>
#include <array>
#include <cassert>

#include "engine/model/forward_scratch.h"
#include "kernels/ref/embedding.h"
#include "kernels/ref/rope.h"

namespace sirocco {

KvView KvMemory::view(const Kernels& kernels, const ModelSpec& spec, std::uint32_t layer,
                      std::span<const BlockId> table) const {
  const std::size_t stride = block_bytes(kernels, spec);
  std::byte* const keys = base + std::size_t{2} * layer * blocks * stride;
  return {.keys = keys,
          .values = keys + blocks * stride,
          .block_stride = stride,
          .table = table,
          .block_tokens = block_tokens,
          .type = type};
}

std::uint64_t Forward::scratch_bytes(const Model& model, const Kernels& kernels, const StepLimits& limits,
                                     std::size_t threads) {
  const ForwardFormats formats(model, kernels);
  const ForwardSizes sizes(model.spec(), limits, threads);
  return sizes.bytes() + (model.spec().moe ? ExpertProducts::bytes(model.spec(), sizes.assignments) : 0) +
         Products::bytes(kernels, threads, product_uses(model.spec(), limits, formats)) +
         Products::bytes(kernels, threads, hidden_uses(model.spec(), limits, formats));
}

Forward::Forward(std::shared_ptr<const Model> model, const Kernels& kernels, const StepLimits& limits, ThreadPool& pool,
                 ExpertSource& experts, const LossyOptions& lossy, const Instruments& instruments)
    : model_(std::move(model)),
      kernels_(kernels),
      spec_(model_->spec()),
      limits_(limits),
      pool_(pool),
      experts_(experts),
      lossy_(lossy),
      instruments_(instruments),
      scratch_(std::make_unique<Scratch>(*model_, kernels, ForwardSizes(spec_, limits, pool.threads()), limits, pool,
                                         experts, instruments.timeline)) {}

Forward::~Forward() = default;

void Forward::run(const Step& step, const KvMemory& kv, std::span<float> logits, StepReport& report) {
  const std::size_t rows = step.rows();
  assert(rows > 0 && rows <= limits_.rows && step.logit_rows() <= limits_.logit_rows);
  assert(logits.size() == step.logit_rows() * spec_.vocabulary);
  const Timeline::Span span(instruments_.timeline,
                            {.kind = Timeline::Kind::step, .rows = static_cast<std::uint32_t>(rows)});
  report.failures.clear();
  report.tokens.clear();
  report.lossy_experts.assign(lossy_.on() ? step.sequences.size() : 0, 0);
  embed(step);
  for (std::uint32_t layer = 0; layer < spec_.layers; ++layer) {
    const LayerWeights& weights = model_->weights().layers[layer];
    const Timeline::Span layer_span(instruments_.timeline, {.kind = Timeline::Kind::layer, .layer = layer});
    attention_part(step, kv, layer, rows);
    if (weights.experts.empty()) {
      dense_part(layer, rows);
    } else {
      expert_part(step, layer, report);
    }
    step.beat();
  }
  if (!logits.empty()) output_part(step, logits);
}

// x, and for every row where it is and how it is rotated.
void Forward::embed(const Step& step) {
  Scratch& s = *scratch_;
  const std::size_t pairs = s.frequencies.size();
  const Timeline::Span span(instruments_.timeline,
                            {.kind = Timeline::Kind::embed, .rows = static_cast<std::uint32_t>(step.rows())});
  std::uint32_t row = 0;
  for (std::uint32_t i = 0; i < step.sequences.size(); ++i) {
    const StepSequence& sequence = step.sequences[i];
    assert(sequence.position + sequence.tokens.size() <= limits_.context);
    for (std::uint32_t t = 0; t < sequence.tokens.size(); ++t, ++row) {
      s.positions[row] = sequence.position + t;
      s.sequences[row] = i;
    }
  }
  pool_.run(row, [&](std::size_t r, std::size_t) {
    const StepSequence& sequence = step.sequences[s.sequences[r]];
    ref::embedding(model_->weights().embedding, sequence.tokens.subspan(s.positions[r] - sequence.position, 1),
                   std::span(s.x).subspan(r * spec_.width, spec_.width));
    ref::rope_angles(s.positions[r], s.frequencies, spec_.rope.attention_factor,
                     std::span(s.cosines).subspan(r * pairs, pairs), std::span(s.sines).subspan(r * pairs, pairs));
  });
}

// The residual stream, normed, for matrices of those formats.
void Forward::prepare_normed(std::size_t rows, const std::vector<float>& weight, const FormatSet& formats) {
  Scratch& s = *scratch_;
  s.products.prepare(rows, spec_.width, formats, [&](std::size_t row) {
    float* const normed = &s.normed[row * spec_.width];
    kernels_.rms_norm(&s.x[row * spec_.width], weight.data(), spec_.width, spec_.rms_epsilon, normed);
    return normed;
  });
}

void Forward::attention_part(const Step& step, const KvMemory& kv, std::uint32_t layer, std::size_t rows) {
  Scratch& s = *scratch_;
  const Timeline::Span span(
      instruments_.timeline,
      {.kind = Timeline::Kind::attention, .layer = layer, .rows = static_cast<std::uint32_t>(rows)});
  const LayerWeights& weights = model_->weights().layers[layer];
  const std::span<const std::uint32_t> all = std::span(s.all_rows).first(rows);
  prepare_normed(rows, weights.attention_norm, s.formats.attention);
  s.products.run(
      std::array{Products::Product{.w = &weights.q, .rows = all, .y = s.q.data(), .stride = spec_.q_width()},
                 Products::Product{.w = &weights.k, .rows = all, .y = s.k.data(), .stride = spec_.kv_width()},
                 Products::Product{.w = &weights.v, .rows = all, .y = s.v.data(), .stride = spec_.kv_width()}});
  write_keys(step, kv, layer);
  attend(step, kv, layer);
  s.products.prepare(rows, spec_.q_width(), s.formats.mixed,
                     [&](std::size_t row) { return &s.mixed[row * spec_.q_width()]; });
  s.products.run(std::array{Products::Product{
      .w = &weights.attention_output, .rows = all, .y = s.branch.data(), .sum = s.x.data(), .stride = spec_.width}});
}

// Rotates q and k and writes k and v to the cache.
void Forward::write_keys(const Step& step, const KvMemory& kv, std::uint32_t layer) {
  Scratch& s = *scratch_;
  const LayerWeights& weights = model_->weights().layers[layer];
  const std::size_t dim = spec_.head_dim;
  const std::size_t pairs = s.frequencies.size();
  const auto rotate = [&](float* x, std::size_t heads, const std::vector<float>& norm, std::size_t row) {
    if (spec_.qk_norm)
      for (std::size_t head = 0; head < heads; ++head)
        kernels_.rms_norm(x + head * dim, norm.data(), dim, spec_.rms_epsilon, x + head * dim);
    kernels_.rope(x, heads, dim, &s.cosines[row * pairs], &s.sines[row * pairs], pairs, spec_.rope_style);
  };
  pool_.run(step.rows(), [&](std::size_t row, std::size_t) {
    float* const k = &s.k[row * spec_.kv_width()];
    rotate(&s.q[row * spec_.q_width()], spec_.heads, weights.q_norm, row);
    rotate(k, spec_.kv_heads, weights.k_norm, row);
    const StepSequence& sequence = step.sequences[s.sequences[row]];
    kernels_.kv_write(kv.view(kernels_, spec_, layer, sequence.block_table), s.positions[row], spec_.kv_heads, dim, k,
                      &s.v[row * spec_.kv_width()]);
  });
}

void Forward::dense_part(std::uint32_t layer, std::size_t rows) {
  Scratch& s = *scratch_;
  const LayerWeights& weights = model_->weights().layers[layer];
  const Timeline::Span span(instruments_.timeline,
                            {.kind = Timeline::Kind::dense, .layer = layer, .rows = static_cast<std::uint32_t>(rows)});
  const std::span<const std::uint32_t> all = std::span(s.all_rows).first(rows);
  prepare_normed(rows, weights.ffn_norm, s.formats.ffn);
  s.products.run(std::array{Products::Product{.w = &weights.gate,
                                              .up = &weights.up,
                                              .rows = all,
                                              .y = s.gate.data(),
                                              .up_y = s.up.data(),
                                              .stride = spec_.ffn_width}});
  s.hidden_products.prepare(rows, spec_.ffn_width, s.formats.hidden,
                            [&](std::size_t row) { return &s.gate[row * spec_.ffn_width]; });
  s.hidden_products.run(std::array{Products::Product{
      .w = &weights.down, .rows = all, .y = s.branch.data(), .sum = s.x.data(), .stride = spec_.width}});
}

void Forward::output_part(const Step& step, std::span<float> logits) {
  Scratch& s = *scratch_;
  const Timeline::Span span(instruments_.timeline,
                            {.kind = Timeline::Kind::logits, .rows = static_cast<std::uint32_t>(step.logit_rows())});
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
  s.products.prepare(wanted, spec_.width, s.formats.output, [&](std::size_t r) {
    float* const x = &s.final[r * spec_.width];
    kernels_.rms_norm(x, model_->weights().output_norm.data(), spec_.width, spec_.rms_epsilon, x);
    return x;
  });
  s.products.run(std::array{Products::Product{.w = &model_->weights().output,
                                              .rows = std::span(s.all_rows).first(wanted),
                                              .y = logits.data(),
                                              .stride = spec_.vocabulary}});
}

}  // namespace sirocco

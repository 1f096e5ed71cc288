// The expert layer of the forward pass: route every row, ask for each expert that any row needs, compute each once for
// all of its rows as soon as it is there, and sum each row's experts in ascending order of their index.
#include <algorithm>
#include <array>
#include <cassert>

#include "engine/model/forward_scratch.h"
#include "kernels/ref/add.h"
#include "kernels/ref/route.h"

namespace sirocco {

void Forward::route(const LayerWeights& weights, std::size_t rows) {
  Scratch& s = *scratch_;
  const MoeSpec& moe = *spec_.moe;
  s.products.run(std::array{Products::Product{
      .w = &weights.router, .rows = std::span(s.all_rows).first(rows), .y = s.router.data(), .stride = moe.experts}});
  pool_.run(rows, [&](std::size_t row, std::size_t thread) {
    ref::route(moe.route, std::span(s.router).subspan(row * moe.experts, moe.experts),
               std::span(s.chosen).subspan(row * moe.used, moe.used),
               std::span(s.weights).subspan(row * moe.used, moe.used), s.route_scratch[thread]);
  });
}

// What is measured may want other experts than the router does.
void Forward::replay_route(std::uint32_t layer, std::size_t rows) {
  Scratch& s = *scratch_;
  const std::size_t used = spec_.moe->used;
  for (std::size_t row = 0; row < rows; ++row) {
    const std::span<const std::uint32_t> experts = instruments_.replay->experts(s.positions[row], layer);
    assert(experts.size() == used && std::is_sorted(experts.begin(), experts.end()));
    std::copy_n(experts.begin(), used, s.chosen.begin() + static_cast<std::ptrdiff_t>(row * used));
    std::fill_n(s.weights.begin() + static_cast<std::ptrdiff_t>(row * used), used, 1.0F / static_cast<float>(used));
  }
}

// Lossy modes go by what is in memory before this layer asks for anything: an expert that another row has read is not.
void Forward::spare_reads(std::uint32_t layer, std::size_t rows, StepReport& report) {
  Scratch& s = *scratch_;
  const MoeSpec& moe = *spec_.moe;
  experts_.tell_resident(layer, s.resident);
  LossyCounts all;
  for (std::size_t row = 0; row < rows; ++row) {
    const LossyCounts counts = do_without(lossy_, std::span(s.router).subspan(row * moe.experts, moe.experts),
                                          s.resident, std::span(s.chosen).subspan(row * moe.used, moe.used),
                                          std::span(s.weights).subspan(row * moe.used, moe.used));
    report.lossy_experts[s.sequences[row]] += counts.skipped + counts.substituted;
    all.skipped += counts.skipped;
    all.substituted += counts.substituted;
  }
  experts_.count(layer, all);
}

// A counting sort of the (row, expert) assignments by expert, skipped ones last; rows keep their order.
void Forward::group_by_expert(std::size_t rows) {
  Scratch& s = *scratch_;
  const std::size_t assignments = rows * spec_.moe->used;
  std::fill(s.first.begin(), s.first.end(), 0U);
  for (std::size_t a = 0; a < assignments; ++a) ++s.first[s.chosen[a] + 1];
  for (std::size_t e = 0; e < spec_.moe->experts; ++e) s.first[e + 1] += s.first[e];
  // `first[e]` runs ahead while places are given out, then is set back.
  for (std::size_t a = 0; a < assignments; ++a) s.place[a] = s.first[s.chosen[a]]++;
  for (std::size_t e = spec_.moe->experts; e > 0; --e) s.first[e] = s.first[e - 1];
  s.first[0] = 0;
  for (std::size_t a = 0; a < assignments; ++a) s.row_of[s.place[a]] = static_cast<std::uint32_t>(a / spec_.moe->used);
}

// What the next layer will want: its router asked about the rows as they are now, before this layer's experts are
// added. It is right of most; nothing but the order of reads depends on it. Many rows want nearly all experts.
void Forward::foresee(std::uint32_t layer, std::size_t rows) {
  Scratch& s = *scratch_;
  if (layer == spec_.layers || model_->weights().layers[layer].experts.empty()) return;
  const MoeSpec& moe = *spec_.moe;
  s.foreseen.clear();
  if (rows <= kForeseenRows) {
    if (moe.used > kForeseenUses) return;
    const LayerWeights& weights = model_->weights().layers[layer];
    const Timeline::Span span(
        instruments_.timeline,
        {.kind = Timeline::Kind::foresee, .layer = layer, .rows = static_cast<std::uint32_t>(rows)});
    s.hidden_products.prepare(rows, spec_.width, s.formats.ffn, [&](std::size_t row) {
      float* const normed = &s.branch[row * spec_.width];  // not in use before the experts' sum
      kernels_.rms_norm(&s.x[row * spec_.width], weights.ffn_norm.data(), spec_.width, spec_.rms_epsilon, normed);
      return normed;
    });
    s.hidden_products.run(std::array{Products::Product{
        .w = &weights.router, .rows = std::span(s.all_rows).first(rows), .y = s.router.data(), .stride = moe.experts}});
    std::array<std::uint32_t, kForeseenUses> chosen = {};
    std::array<float, kForeseenUses> ignored = {};
    for (std::size_t row = 0; row < rows; ++row) {
      ref::route(moe.route, std::span(s.router).subspan(row * moe.experts, moe.experts),
                 std::span(chosen).first(moe.used), std::span(ignored).first(moe.used), s.route_scratch[0]);
      s.foreseen.insert(s.foreseen.end(), chosen.begin(), chosen.begin() + moe.used);
    }
    std::sort(s.foreseen.begin(), s.foreseen.end());
    s.foreseen.erase(std::unique(s.foreseen.begin(), s.foreseen.end()), s.foreseen.end());
  } else if (rows * moe.used < kForeseenAll * moe.experts) {
    return;
  }
  experts_.foresee(layer, s.foreseen);
}

// Rows that wanted it go on with zeros in its place, which no other row sees; their sequences have failed.
void Forward::fail_rows(ExpertId expert, std::vector<SequenceFailure>& failures) {
  const Scratch& s = *scratch_;
  for (std::size_t a = s.first[expert.index]; a < s.first[expert.index + 1]; ++a) {
    const std::size_t sequence = s.sequences[s.row_of[a]];
    const bool known =
        std::any_of(failures.begin(), failures.end(), [&](const SequenceFailure& f) { return f.sequence == sequence; });
    if (!known) failures.push_back({.sequence = sequence, .error = experts_.failure(expert)});
  }
}

void Forward::expert_part(const Step& step, std::uint32_t layer, StepReport& report) {
  Scratch& s = *scratch_;
  const std::size_t rows = step.rows();
  const MoeSpec& moe = *spec_.moe;
  const std::size_t width = spec_.width;
  const LayerWeights& weights = model_->weights().layers[layer];
  const auto all_rows = static_cast<std::uint32_t>(rows);
  Timeline* const timeline = instruments_.timeline;
  {
    const Timeline::Span span(timeline, {.kind = Timeline::Kind::route, .layer = layer, .rows = all_rows});
    prepare_normed(rows, weights.ffn_norm, s.formats.ffn);
    route(weights, rows);
    if (instruments_.replay != nullptr) replay_route(layer, rows);
    if (lossy_.on()) spare_reads(layer, rows, report);
    group_by_expert(rows);
  }

  s.wanted.clear();
  for (std::uint32_t e = 0; e < moe.experts; ++e)
    if (s.first[e + 1] != s.first[e]) s.wanted.push_back({.index = e, .rows = s.first[e + 1] - s.first[e]});
  const ExpertProducts::Layer experts = {
      .index = layer, .rows = all_rows, .first = s.first, .row_of = s.row_of, .out = s.expert_out, .pulse = step.pulse};
  s.expert_products->request(experts, s.wanted);
  if (experts_.foresees(rows > kForeseenRows)) foresee(layer + 1, rows);
  s.expert_products->compute(experts, {.failed = [&](ExpertId failed) { fail_rows(failed, report.failures); }});

  const Timeline::Span span(timeline, {.kind = Timeline::Kind::sum, .layer = layer, .rows = all_rows});
  // Each row's outputs are added up in the order in which `route` listed its experts: ascending.
  pool_.run(rows, [&](std::size_t row, std::size_t) {
    const std::span<float> sum = std::span(s.branch).subspan(row * width, width);
    std::fill(sum.begin(), sum.end(), 0.0F);
    for (std::size_t a = row * moe.used; a < (row + 1) * moe.used && s.chosen[a] != moe.experts; ++a)
      ref::add_scaled(std::span(s.expert_out).subspan(s.place[a] * width, width), s.weights[a], sum);
    ref::add(sum, std::span(s.x).subspan(row * width, width));
  });
}

}  // namespace sirocco

// The expert layer of the forward pass: route every row, lease each expert that any row needs, compute it once for all
// of its rows, and sum each row's experts in ascending order of their index.
#include <algorithm>
#include <array>

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

// A counting sort of the (row, expert) assignments by expert; rows keep their order.
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

Result<void> Forward::expert_part(std::uint32_t layer, std::size_t rows) {
  Scratch& s = *scratch_;
  const MoeSpec& moe = *spec_.moe;
  const std::size_t width = spec_.width;
  const LayerWeights& weights = model_->weights().layers[layer];
  prepare_normed(rows, weights.ffn_norm, s.formats.ffn);
  route(weights, rows);
  group_by_expert(rows);

  const auto count = [&](std::uint32_t e) { return std::size_t{s.first[e + 1]} - s.first[e]; };
  for (std::uint32_t e = 0; e < moe.experts; ++e) {
    if (count(e) == 0) continue;
    SIROCCO_TRY(s.leases[e], experts_.lease({.layer = layer, .index = e}));
  }
  s.list.clear();
  for (std::uint32_t e = 0; e < moe.experts; ++e) {
    if (count(e) == 0) continue;
    const ExpertWeights& expert = s.leases[e].weights();
    s.list.push_back({.w = &expert.gate,
                      .up = &expert.up,
                      .rows = std::span(s.row_of).subspan(s.first[e], count(e)),
                      .y = &s.gate[std::size_t{s.first[e]} * moe.width],
                      .up_y = &s.up[std::size_t{s.first[e]} * moe.width],
                      .stride = moe.width});
  }
  s.products.run(s.list);

  s.products.prepare(rows * moe.used, moe.width, s.formats.hidden,
                     [&](std::size_t a) { return &s.gate[a * moe.width]; });
  s.list.clear();
  for (std::uint32_t e = 0; e < moe.experts; ++e) {
    if (count(e) == 0) continue;
    s.list.push_back({.w = &s.leases[e].weights().down,
                      .rows = std::span(s.all_rows).subspan(s.first[e], count(e)),
                      .y = &s.expert_out[s.first[e] * width],
                      .stride = width});
  }
  s.products.run(s.list);
  for (std::uint32_t e = 0; e < moe.experts; ++e) s.leases[e] = Lease();

  // Each row's outputs are added up in the order in which `route` listed its experts: ascending.
  pool_.run(rows, [&](std::size_t row, std::size_t) {
    const std::span<float> sum = std::span(s.branch).subspan(row * width, width);
    std::fill(sum.begin(), sum.end(), 0.0F);
    for (std::size_t a = row * moe.used; a < (row + 1) * moe.used; ++a)
      ref::add_scaled(std::span(s.expert_out).subspan(s.place[a] * width, width), s.weights[a], sum);
    ref::add(sum, std::span(s.x).subspan(row * width, width));
  });
  return {};
}

}  // namespace sirocco

// The expert layer of the forward pass: route every row, lease each expert that any row needs, compute it once for all
// of its rows, and sum each row's experts in ascending order of their index.
#include <algorithm>

#include "engine/model/forward_scratch.h"
#include "kernels/ref/route.h"
#include "kernels/ref/swiglu.h"
#include "kernels/ref/weighted_sum.h"

namespace sirocco {

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

  for (std::size_t a = 0; a < assignments; ++a) {
    const float* const row = s.normed.data() + a / spec_.moe->used * spec_.width;
    std::copy_n(row, spec_.width, s.grouped.data() + s.place[a] * std::size_t{spec_.width});
  }
}

Result<void> Forward::expert_part(std::uint32_t layer, std::size_t rows) {
  Scratch& s = *scratch_;
  const MoeSpec& moe = *spec_.moe;
  const std::size_t width = spec_.width;
  const std::span<float> router = std::span(s.router).first(rows * moe.experts);
  const LinearTask routing = {&model_->weights().layers[layer].router, std::span(s.normed).first(rows * width), rows,
                              router};
  linear(std::span(&routing, 1));
  for (std::size_t row = 0; row < rows; ++row) {
    ref::route(moe.route, router.subspan(row * moe.experts, moe.experts),
               std::span(s.chosen).subspan(row * moe.used, moe.used),
               std::span(s.weights).subspan(row * moe.used, moe.used), std::span(s.scores[0]).first(moe.experts));
  }
  group_by_expert(rows);

  const auto count = [&](std::uint32_t e) { return std::size_t{s.first[e + 1]} - s.first[e]; };
  for (std::uint32_t e = 0; e < moe.experts; ++e) {
    if (count(e) == 0) continue;
    SIROCCO_TRY(s.leases[e], experts_.lease({.layer = layer, .index = e}));
  }
  const auto hidden = [&](std::vector<float>& of, std::uint32_t e) {
    return std::span(of).subspan(s.first[e] * std::size_t{moe.width}, count(e) * moe.width);
  };
  s.tasks.clear();
  for (std::uint32_t e = 0; e < moe.experts; ++e) {
    if (count(e) == 0) continue;
    const std::span<const float> in = std::span(s.grouped).subspan(s.first[e] * width, count(e) * width);
    s.tasks.push_back({&s.leases[e].weights().gate, in, count(e), hidden(s.gate, e)});
    s.tasks.push_back({&s.leases[e].weights().up, in, count(e), hidden(s.up, e)});
  }
  linear(s.tasks);
  const std::span<float> gate = std::span(s.gate).first(rows * moe.used * moe.width);
  ref::swiglu(gate, std::span(s.up).first(gate.size()), gate);

  s.tasks.clear();
  for (std::uint32_t e = 0; e < moe.experts; ++e) {
    if (count(e) == 0) continue;
    s.tasks.push_back({&s.leases[e].weights().down, hidden(s.gate, e), count(e),
                       std::span(s.grouped_out).subspan(s.first[e] * width, count(e) * width)});
  }
  linear(s.tasks);
  for (std::uint32_t e = 0; e < moe.experts; ++e) s.leases[e] = Lease();

  // Each row's outputs are brought together in the order in which `route` listed its experts, then summed.
  pool_.run(rows, [&](std::size_t row, std::size_t) {
    for (std::size_t i = row * moe.used; i < (row + 1) * moe.used; ++i)
      std::copy_n(s.grouped_out.data() + s.place[i] * width, width, s.grouped.data() + i * width);
    ref::weighted_sum(std::span<const float>(s.grouped).subspan(row * moe.used * width, moe.used * width),
                      std::span<const float>(s.weights).subspan(row * moe.used, moe.used),
                      std::span(s.branch).subspan(row * width, width));
  });
  return {};
}

}  // namespace sirocco

#include "engine/model/expert_products.h"

#include <algorithm>
#include <numeric>

namespace sirocco {

ExpertProducts::ExpertProducts(const ModelSpec& spec, std::size_t assignments, const FormatSet& hidden,
                               ExpertSource& source, Timeline* timeline, const Memory& memory)
    : hidden_width_(spec.moe->width),
      width_(spec.width),
      hidden_formats_(hidden),
      source_(source),
      timeline_(timeline),
      memory_(memory),
      all_places_(assignments),
      leases_(spec.moe->experts),
      elsewhere_(spec.moe->experts) {
  std::iota(all_places_.begin(), all_places_.end(), 0U);
  news_.reserve(2 * std::size_t{spec.moe->experts});
  handed_.reserve(spec.moe->experts);
  list_.reserve(spec.moe->experts);
}

std::uint64_t ExpertProducts::bytes(const ModelSpec& spec, std::size_t assignments) {
  const std::size_t experts = spec.moe->experts;
  return assignments * sizeof(std::uint32_t) +
         experts * (sizeof(Lease) + 2 * sizeof(ExpertNews) + sizeof(Weights) + sizeof(Products::Product) + 1);
}

void ExpertProducts::request(const Layer& layer, std::span<const WantedExpert> wanted) {
  const Timeline::Span span(timeline_, {.kind = Timeline::Kind::request,
                                        .layer = layer.index,
                                        .experts = static_cast<std::uint32_t>(wanted.size()),
                                        .rows = layer.rows});
  source_.request(layer.index, wanted, layer.rows);
  left_ = wanted.size();
}

void ExpertProducts::compute(const Layer& layer, const Hooks& hooks) {
  while (left_ > 0) {
    news_.clear();
    source_.wait(news_);
    if (layer.pulse != nullptr) layer.pulse->fetch_add(1, std::memory_order_relaxed);
    for (const ExpertNews& news : news_) {
      if (news.what != ExpertNews::What::lease) --left_;
      if (news.what != ExpertNews::What::failed) continue;
      const std::size_t first = layer.first[news.index];
      std::fill_n(&layer.out[first * width_], (layer.first[news.index + 1] - first) * width_, 0.0F);
      hooks.failed({.layer = layer.index, .index = news.index});
    }
    take_leases(layer, hooks);
    if (!handed_.empty()) hooks.begin(handed_);
    gate_and_up(layer);
    down(layer, hooks);
    if (!handed_.empty()) hooks.end();
    drop_leases();
  }
}

// A run over `list_`, for the timeline.
Timeline::Event ExpertProducts::listed(Timeline::Kind kind, std::uint32_t layer) const {
  Timeline::Event event = {.kind = kind, .layer = layer};
  if (timeline_ == nullptr) return event;
  for (const Products::Product& product : list_) {
    ++event.experts;
    event.rows += static_cast<std::uint32_t>(product.rows.size());
    for (const Matrix* matrix : {product.w, product.up})
      if (matrix != nullptr) event.bytes += matrix->outputs * row_bytes(matrix->type, matrix->inputs);
  }
  return event;
}

void ExpertProducts::take_leases(const Layer& layer, const Hooks& hooks) {
  handed_.clear();
  for (const ExpertNews& news : news_) {
    const ExpertId expert = {.layer = layer.index, .index = news.index};
    if (news.what == ExpertNews::What::lease) {
      leases_[expert.index] = source_.lease(expert);
      elsewhere_[expert.index] = hooks.elsewhere && hooks.elsewhere(expert) ? 1 : 0;
    } else if (news.what == ExpertNews::What::down && elsewhere_[expert.index] != 0) {
      handed_.push_back({.expert = expert, .weights = &leases_[expert.index].weights()});
    }
  }
}

// Of the experts that `news_` brought.
void ExpertProducts::gate_and_up(const Layer& layer) {
  list_.clear();
  for (const ExpertNews& news : news_) {
    const std::uint32_t e = news.index;
    if (news.what != ExpertNews::What::lease || elsewhere_[e] != 0) continue;
    const ExpertWeights& expert = leases_[e].weights();
    list_.push_back({.w = &expert.gate,
                     .up = &expert.up,
                     .rows = layer.row_of.subspan(layer.first[e], layer.first[e + 1] - layer.first[e]),
                     .y = &memory_.gate[layer.first[e] * hidden_width_],
                     .up_y = &memory_.up[layer.first[e] * hidden_width_],
                     .stride = hidden_width_});
  }
  if (list_.empty()) return;
  const Timeline::Span span(timeline_, listed(Timeline::Kind::gate_up, layer.index));
  memory_.rows->run(list_);
  for (const Products::Product& done : list_) {
    const auto first = static_cast<std::size_t>(done.y - memory_.gate.data()) / hidden_width_;
    memory_.hidden->prepare_some(first, done.rows.size(), hidden_width_, hidden_formats_,
                                 [&](std::size_t a) { return &memory_.gate[a * hidden_width_]; });
  }
}

// Of the experts that are complete with `news_`.
void ExpertProducts::down(const Layer& layer, const Hooks& hooks) {
  list_.clear();
  for (const ExpertNews& news : news_) {
    const std::uint32_t e = news.index;
    if (news.what != ExpertNews::What::down || elsewhere_[e] != 0) continue;
    list_.push_back({.w = &leases_[e].weights().down,
                     .rows = std::span(all_places_).subspan(layer.first[e], layer.first[e + 1] - layer.first[e]),
                     .y = &layer.out[layer.first[e] * width_],
                     .stride = width_});
  }
  if (list_.empty()) return;
  {
    const Timeline::Span span(timeline_, listed(Timeline::Kind::down, layer.index));
    memory_.hidden->run(list_);
  }
  if (!hooks.computed) return;
  for (const ExpertNews& news : news_)
    if (news.what == ExpertNews::What::down && elsewhere_[news.index] == 0)
      hooks.computed(
          {.expert = {.layer = layer.index, .index = news.index}, .weights = &leases_[news.index].weights()});
}

void ExpertProducts::drop_leases() {
  for (const ExpertNews& news : news_)
    if (news.what != ExpertNews::What::lease) leases_[news.index] = Lease();
}

}  // namespace sirocco

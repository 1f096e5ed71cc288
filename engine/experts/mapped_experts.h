// The experts of a model that stays in the page cache: leases point straight into the mapping, nothing is copied.
// Called from the engine thread.
#pragma once

#include <memory>

#include "engine/model/expert_source.h"
#include "engine/model/model.h"

namespace sirocco {

class MappedExperts final : public ExpertSource {
 public:
  explicit MappedExperts(std::shared_ptr<const Model> model) : model_(std::move(model)) {}

  void request(std::uint32_t, std::span<const WantedExpert> wanted, std::uint32_t) override { wanted_ = wanted; }
  void wait(std::vector<ExpertNews>& news) override {
    for (const WantedExpert& expert : wanted_) news.push_back({.index = expert.index, .what = ExpertNews::What::lease});
    for (const WantedExpert& expert : wanted_) news.push_back({.index = expert.index, .what = ExpertNews::What::down});
    wanted_ = {};
  }
  Lease lease(ExpertId expert) override {
    return Lease(this, expert, model_->weights().layers[expert.layer].experts[expert.index]);
  }
  Error failure(ExpertId) const override { return {ErrorCode::internal, "a mapped expert cannot fail"}; }

 private:
  void release(ExpertId) override {}

  std::shared_ptr<const Model> model_;
  std::span<const WantedExpert> wanted_;  // of the present request; the caller keeps them
};

}  // namespace sirocco

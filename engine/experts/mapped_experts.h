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

  Result<Lease> lease(ExpertId expert) override {
    return Lease(this, expert, model_->weights().layers[expert.layer].experts[expert.index]);
  }

 private:
  void release(ExpertId) override {}

  std::shared_ptr<const Model> model_;
};

}  // namespace sirocco

// Backends with room for some of the experts, and what they ask of the host.
#pragma once

#include <functional>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "engine/experts/mapped_experts.h"
#include "tests/support/golden_models.h"
#include "tests/unit/cuda_backend/cuda_support.h"

namespace sirocco::test {

// How many experts a plan has slots for; 0: it is refused, or all are among the weights.
inline std::size_t planned_slots(const Model& model, const BackendOptions& options) {
  MemoryPlan plan;
  if (!cuda_backend().plan(model, options, plan)) return 0;
  for (const MemoryPlan::Line& line : plan.lines)
    if (line.name == "device experts") return std::stoul(line.note);
  return 0;
}

// The least device memory that is not refused.
inline std::uint64_t least_memory(const Model& model, BackendOptions options) {
  std::uint64_t refused = 0;
  std::uint64_t enough = std::uint64_t{1} << 30;
  while (enough - refused > 1) {
    options.device_memory = refused + (enough - refused) / 2;
    MemoryPlan plan;
    (cuda_backend().plan(model, options, plan) ? enough : refused) = options.device_memory;
  }
  return enough;
}

// Those options with memory for so many slots.
inline BackendOptions with_slots(const Model& model, BackendOptions options, std::size_t slots) {
  const std::uint64_t least = least_memory(model, options);
  for (options.device_memory = least; planned_slots(model, options) < slots; options.device_memory += 256)
    if (options.device_memory > least + (std::uint64_t{1} << 26)) throw std::runtime_error("no memory has such slots");
  return options;
}

// Mapped experts that count what is asked for, and fail where they are told to.
class WatchedExperts final : public ExpertSource {
 public:
  explicit WatchedExperts(std::shared_ptr<const Model> model) : model_(std::move(model)) {}

  std::function<bool(ExpertId)> fails = [](ExpertId) { return false; };
  std::size_t asked = 0;  // experts

  void request(std::uint32_t layer, std::span<const WantedExpert> wanted, std::uint32_t) override {
    layer_ = layer;
    wanted_ = wanted;
    asked += wanted.size();
  }
  void wait(std::vector<ExpertNews>& news) override {
    for (const WantedExpert& expert : wanted_) {
      using What = ExpertNews::What;
      if (fails({.layer = layer_, .index = expert.index})) {
        news.push_back({.index = expert.index, .what = What::failed});
      } else {
        news.push_back({.index = expert.index, .what = What::lease});
        news.push_back({.index = expert.index, .what = What::down});
      }
    }
    wanted_ = {};
  }
  Lease lease(ExpertId expert) override {
    return Lease(this, expert, model_->weights().layers[expert.layer].experts[expert.index]);
  }
  Error failure(ExpertId expert) const override {
    return {ErrorCode::io, fmt::format("expert {} of layer {}", expert.index, expert.layer)};
  }

 private:
  void release(ExpertId) override {}

  std::shared_ptr<const Model> model_;
  std::uint32_t layer_ = 0;
  std::span<const WantedExpert> wanted_;
};

}  // namespace sirocco::test

// Backends with room for some of the experts, and what they ask of the host.
#pragma once

#include <functional>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "engine/experts/mapped_experts.h"
#include "engine/gguf/gguf_writer.h"
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

// The mixture in Q4_0 and Q5_1 with three layers, whose experts are the same in another order. In `folder`.
inline std::shared_ptr<const Model> deep_model(const std::filesystem::path& folder) {
  const std::size_t layers = 3;
  const auto input = GgufFile::open(golden_dir() / "model" / "quant-moe-q4_0-q5_1.gguf").value();
  GgufMetadata metadata = input->metadata();
  metadata.set("llama.block_count", static_cast<std::uint32_t>(layers));
  std::vector<GgufWriter::TensorDeclaration> declarations;
  std::vector<std::vector<std::byte>> data;
  for (const GgufTensor& tensor : input->tensors()) {
    const bool of_layer = tensor.name.starts_with("blk.0.");
    for (std::size_t layer = 0; layer < (of_layer ? layers : 1); ++layer) {
      GgufWriter::TensorDeclaration declaration = {
          tensor.name, tensor.type, {tensor.shape.begin(), tensor.shape.begin() + tensor.dimensions}};
      const Bytes bytes = input->data(tensor);
      std::vector<std::byte> turned(bytes.begin(), bytes.end());
      if (of_layer) declaration.name = fmt::format("blk.{}.{}", layer, tensor.name.substr(6));
      if (tensor.name.find("_exps.") != std::string::npos) {
        const std::size_t experts = tensor.shape[2];
        std::rotate(turned.begin(), turned.begin() + static_cast<std::ptrdiff_t>(layer * turned.size() / experts),
                    turned.end());
      }
      declarations.push_back(std::move(declaration));
      data.push_back(std::move(turned));
    }
  }
  auto writer = GgufWriter::create(folder / "deep.gguf", metadata, std::move(declarations)).value();
  bool written = true;
  for (const auto& bytes : data) written = writer.append(bytes) && written;
  EXPECT_TRUE(writer.finish() && written);
  return Model::open(folder / "deep.gguf").value();
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

// Backends with room for some of the experts, and what they ask of the host.
#pragma once

#include <functional>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "engine/experts/mapped_experts.h"
#include "engine/gguf/gguf_writer.h"
#include "engine/gguf/random_blocks.h"
#include "tests/support/golden_models.h"
#include "tests/unit/cuda_backend/cuda_support.h"

namespace sirocco::test {

// Which of the calls of CUDA fail in tests that have each fail.
#if defined(__SANITIZE_ADDRESS__)
constexpr int kEveryCall = 7;
#else
constexpr int kEveryCall = 1;
#endif

// How many experts a plan has slots for; 0: it is refused, or all are among the weights.
inline std::size_t planned_slots(const Model& model, const BackendOptions& options) {
  MemoryPlan plan = {.budget = UINT64_MAX, .lines = {}};
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
    MemoryPlan plan = {.budget = UINT64_MAX, .lines = {}};
    (cuda_backend().plan(model, options, plan) ? enough : refused) = options.device_memory;
  }
  return enough;
}

// Those options with memory for so many slots; or for the most that are worth it, before all experts have their place.
inline BackendOptions with_slots(const Model& model, BackendOptions options, std::size_t slots) {
  options.device_memory = least_memory(model, options);
  for (std::size_t planned = planned_slots(model, options); planned < slots;) {
    BackendOptions more = options;
    more.device_memory += 1024;
    planned = planned_slots(model, more);
    if (planned == 0) break;
    options = more;
  }
  EXPECT_GE(planned_slots(model, options), 2U);
  return options;
}

// The bytes of a stack of experts, `copies` times, those of `layer` in another order than those of other layers. Of a
// router: rows of its floats, turned, so that copies of an expert are not chosen together.
inline std::vector<std::byte> more_experts(Bytes bytes, std::size_t experts, std::size_t copies, std::size_t layer,
                                           bool router) {
  std::vector<std::byte> all;
  const std::size_t one = bytes.size() / experts;
  for (std::size_t i = 0; i < experts * copies; ++i) {
    const Bytes from = bytes.subspan((i + layer) % experts * one, one);
    all.insert(all.end(), from.begin(), from.end());
    const auto turn = static_cast<std::ptrdiff_t>(router ? i / experts * 7 * sizeof(float) : 0);
    std::rotate(all.end() - static_cast<std::ptrdiff_t>(one), all.end() - static_cast<std::ptrdiff_t>(one) + turn,
                all.end());
  }
  return all;
}

// The mixture in Q4_0 and Q5_1 with more layers, and 16 experts in each. In `folder`.
inline std::shared_ptr<const Model> larger_model(const std::filesystem::path& folder, std::size_t layers) {
  constexpr std::size_t kExperts = 4;
  constexpr std::size_t kCopies = 4;
  const auto input = GgufFile::open(golden_dir() / "model" / "quant-moe-q4_0-q5_1.gguf").value();
  GgufMetadata metadata = input->metadata();
  metadata.set("llama.block_count", static_cast<std::uint32_t>(layers));
  metadata.set("llama.expert_count", static_cast<std::uint32_t>(kExperts * kCopies));
  std::vector<GgufWriter::TensorDeclaration> declarations;
  std::vector<std::vector<std::byte>> data;
  for (const GgufTensor& tensor : input->tensors()) {
    const bool of_layer = tensor.name.starts_with("blk.0.");
    const bool router = tensor.name.find("ffn_gate_inp") != std::string::npos;
    const bool of_experts = router || tensor.name.find("_exps.") != std::string::npos;
    for (std::size_t layer = 0; layer < (of_layer ? layers : 1); ++layer) {
      GgufWriter::TensorDeclaration declaration = {
          tensor.name, tensor.type, {tensor.shape.begin(), tensor.shape.begin() + tensor.dimensions}};
      if (of_layer) declaration.name = fmt::format("blk.{}.{}", layer, tensor.name.substr(6));
      if (of_experts) declaration.shape.back() *= kCopies;
      const Bytes bytes = input->data(tensor);
      declarations.push_back(std::move(declaration));
      data.push_back(of_experts ? more_experts(bytes, kExperts, kCopies, router ? 0 : layer, router)
                                : std::vector<std::byte>(bytes.begin(), bytes.end()));
    }
  }
  auto writer = GgufWriter::create(folder / "larger.gguf", metadata, std::move(declarations)).value();
  bool written = true;
  for (const auto& bytes : data) written = writer.append(bytes) && written;
  EXPECT_TRUE(writer.finish() && written);
  return Model::open(folder / "larger.gguf").value();
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

// Every expert's up in F16, behind gates in Q4_0; or all three matrices.
inline std::shared_ptr<const Model> with_floats(const std::shared_ptr<const Model>& model, bool all) {
  ModelWeights weights = model->weights();
  const Matrix& shape = weights.layers[0].experts[0].up;
  const auto bytes = std::make_shared<std::vector<std::byte>>(shape.outputs * row_bytes(TensorType::f16, shape.inputs));
  SplitMix64 random(4);
  fill_random_blocks(TensorType::f16, 0.05F, random, *bytes);
  for (LayerWeights& layer : weights.layers) {
    for (ExpertWeights& expert : layer.experts) {
      expert.up = {TensorType::f16, bytes->data(), shape.inputs, shape.outputs};
      if (!all) continue;
      expert.gate = expert.up;
      expert.down = {TensorType::f16, bytes->data(), shape.outputs, shape.inputs};
    }
  }
  return model->with_weights(weights, bytes);
}

}  // namespace sirocco::test

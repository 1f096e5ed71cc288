#include "cli/setup_list.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "cli/model_fit.h"
#include "cli/model_presets.h"
#include "cli/model_support.h"
#include "engine/base/bytes.h"

namespace sirocco {
namespace {

// The program, a conversation's KV cache and scratch, as plans at these dimensions have them; about.
constexpr std::uint64_t kBesideWeights = 768 * MiB;
// With fewer of its experts in memory a model waits for the disk most of the time.
constexpr double kLeastShare = 0.1;

std::uint64_t bytes_of(const SynthTensor& tensor) {
  const TensorTypeInfo& info = *tensor_type_info(tensor.declaration.type);
  std::uint64_t elements = 1;
  for (const std::uint64_t size : tensor.declaration.shape) elements *= size;
  return elements / info.block_size * info.block_bytes;
}

SizeVerdict judge_size(const ModelPreset& preset, TensorType type, std::uint64_t budget) {
  std::uint64_t dense = 0;
  std::uint64_t experts = 0;
  for (const SynthTensor& tensor : synth_tensors(preset, type))
    (tensor.declaration.name.find("_exps.") != std::string::npos ? experts : dense) += bytes_of(tensor);
  SizeVerdict verdict = {.name = std::string(preset.name),
                         .type = std::string(tensor_type_info(type)->name),
                         .bytes = dense + experts,
                         .share = 0};
  if (dense + kBesideWeights > budget) return verdict;
  const std::uint64_t left = budget - dense - kBesideWeights;
  verdict.share = experts == 0 ? 1 : std::min(1.0, static_cast<double>(left) / static_cast<double>(experts));
  if (verdict.share < kLeastShare) verdict.share = 0;
  return verdict;
}

std::string size_text(const SizeVerdict& size) {
  if (size.share == 1) return "all of it in memory";
  if (size.share == 0) return "too large for this machine";
  return fmt::format("about {:.0f} % of its experts in memory, the others from disk", 100 * size.share);
}

std::string fit_words(const FitReport& report) {
  if (report.in_device) return fmt::format("all of it on the GPU, at most {:.1f} tokens/s", report.tokens_per_s(1));
  if (report.plan.residency.slots != 0)
    return fmt::format("{:.0f} % of its experts in memory, the others from disk, at most {:.1f} tokens/s",
                       100 * report.share(), report.tokens_per_s(favoured_hit_rate(report.share())));
  const auto& sizes = report.model->sizes();
  const bool fits = report.plan.memory.charged() + sizes.dense_bytes + sizes.expert_bytes <= report.plan.memory.budget;
  return fits ? fmt::format("all of it in memory, at most {:.1f} tokens/s", report.tokens_per_s(1))
              : std::string("larger than memory and without experts: slow");
}

}  // namespace

ModelVerdict judge_model(const std::filesystem::path& path, const EngineOptions& options) {
  ModelVerdict verdict = {.file = path, .bytes = 0, .runs = false, .what = {}};
  const auto file = GgufFile::open(path);
  if (!file) {
    verdict.what = file.error().message();
    return verdict;
  }
  for (const GgufFile::Part& part : (*file)->parts()) verdict.bytes += part.mapping.size();
  if (const ModelSupport support = model_support(*file); !support.problems.empty()) {
    verdict.what = "cannot be served: " + support.problems.front();
    return verdict;
  }
  const auto fit = fit_model(path.string(), options);
  verdict.runs = fit.has_value();
  verdict.what = fit ? fit_words(*fit) : "does not fit: " + fit.error().message();
  return verdict;
}

std::vector<SizeVerdict> judge_sizes(std::uint64_t budget) {
  std::vector<SizeVerdict> sizes;
  for (const ModelPreset& preset : model_presets()) {
    if (preset.name.starts_with("tiny")) continue;  // for tests
    for (const TensorType type : {TensorType::q4_k, TensorType::q8_0})
      sizes.push_back(judge_size(preset, type, budget));
  }
  return sizes;
}

std::string setup_text(std::span<const ModelVerdict> models, std::span<const SizeVerdict> sizes, std::uint64_t budget) {
  std::string text = models.empty() ? "no models are here\n" : "models that are here\n";
  for (const ModelVerdict& model : models)
    text += fmt::format("  {:>9}  {}\n             {}\n", format_bytes(model.bytes), model.file.string(), model.what);
  text += fmt::format("\nwhat would fit in the {} that are free\n", format_bytes(budget));
  for (const SizeVerdict& size : sizes)
    text += fmt::format("  {:>9}  {:<14} {:<5} {}\n", format_bytes(size.bytes), size.name, size.type, size_text(size));
  text += "\n`sirocco setup FILE.gguf` (as root) serves a model\n";
  return text;
}

nlohmann::ordered_json setup_json(std::span<const ModelVerdict> models, std::span<const SizeVerdict> sizes,
                                  std::uint64_t budget) {
  auto here = nlohmann::ordered_json::array();
  for (const ModelVerdict& model : models)
    here.push_back({{"file", model.file.string()}, {"bytes", model.bytes}, {"runs", model.runs}, {"what", model.what}});
  auto would = nlohmann::ordered_json::array();
  for (const SizeVerdict& size : sizes)
    would.push_back(
        {{"shape", size.name}, {"type", size.type}, {"bytes", size.bytes}, {"experts_in_memory", size.share}});
  return {{"budget", budget}, {"models", std::move(here)}, {"sizes", std::move(would)}};
}

}  // namespace sirocco

#include "cli/model_fit.h"

#include <algorithm>
#include <array>
#include <utility>

#include "cli/roofline.h"
#include "engine/base/printable.h"

namespace sirocco {
namespace {

// Hit rates of the default policy on the routing of Qwen3-30B-A3B (tests/bench/policy_bench.cc), by share in memory.
constexpr std::array<std::pair<double, double>, 6> kFavoured = {
    {{0, 0}, {0.1, 0.53}, {0.2, 0.74}, {0.35, 0.87}, {0.5, 0.92}, {1, 1}}};
constexpr int kMemoryPasses = 5;

}  // namespace

double favoured_hit_rate(double share) {
  for (std::size_t i = 1; i < kFavoured.size(); ++i) {
    const auto [x0, y0] = kFavoured.at(i - 1);
    const auto [x1, y1] = kFavoured.at(i);
    if (share <= x1) return y0 + (y1 - y0) * (share - x0) / (x1 - x0);
  }
  return 1;
}

double FitReport::share() const {
  const auto& moe = model->spec().moe;
  if (!moe || plan.residency.slots == 0) return 1;
  return static_cast<double>(plan.residency.slots) / (static_cast<double>(model->spec().layers) * moe->experts);
}

double FitReport::tokens_per_s(double hit_rate) const {
  const auto& moe = model->spec().moe;
  const double experts =
      moe ? static_cast<double>(model->sizes().expert_bytes) * moe->used / moe->experts : 0;  // of a token
  const double missing = (1 - hit_rate) * experts;
  const double from_memory = (static_cast<double>(model->bytes_per_token()) + missing) / memory;
  return 1 / std::max(from_memory, missing == 0 || !disk ? 0 : missing / *disk);
}

Result<FitReport> fit_model(const std::string& path, const EngineOptions& options) {
  FitReport report;
  SIROCCO_TRY(report.model, Model::open(path));
  SIROCCO_TRY(report.plan, plan_engine(report.model, options));
  report.disk = disk_bandwidth(path);
  SIROCCO_TRY(const BackendKind* kind, choose_backend(*report.model, report.plan.backend));
  report.in_device = kind->holds_weights();
  SIROCCO_TRY(const std::optional<double> device_memory, kind->memory_bandwidth());
  if (device_memory) {
    report.memory = *device_memory;
    return report;
  }
  SIROCCO_TRY(const Kernels* kernels, host_kernels(report.plan.backend));
  SIROCCO_TRY(ThreadPool pool, ThreadPool::create(options.threads));
  Roofline roofline(*kernels, pool);
  std::array<double, kMemoryPasses> passes = {};
  for (double& pass : passes) pass = roofline.read();
  std::sort(passes.begin(), passes.end());
  report.memory = passes.at(kMemoryPasses / 2);
  return report;
}

std::string fit_text(const FitReport& report) {
  const Model& model = *report.model;
  const bool slotted = report.plan.residency.slots != 0;
  std::string text = fmt::format("{}: {} of dense weights, {} of experts\n\n", model.file().path().string(),
                                 format_bytes(model.sizes().dense_bytes), format_bytes(model.sizes().expert_bytes));
  text += fmt::format("  {:<16}{:>9}  what the lines marked * may take together\n", "budget",
                      format_bytes(report.plan.memory.budget));
  for (const MemoryPlan::Line& line : report.plan.memory.lines)
    text += fmt::format("  {:<16}{:>9}  {}\n", (line.charged ? "* " : "") + line.name, format_bytes(line.bytes),
                        printable(line.note));
  text += fmt::format("\nmemory   {:.1f} GB/s\n", report.memory / 1e9);
  text += report.disk ? fmt::format("disk     {:.2f} GB/s\n", *report.disk / 1e9)
                      : std::string("disk     not measured: the file system has no O_DIRECT\n");
  if (!slotted) {
    const bool fits =
        report.in_device || report.plan.memory.charged() + model.sizes().dense_bytes + model.sizes().expert_bytes <=
                                report.plan.memory.budget;
    text += fits ? fmt::format("answers  at most {:.1f} tokens/s: all of it fits\n", report.tokens_per_s(1))
                 : std::string("answers  slow: a model without experts that does not fit is paged in from disk\n");
    return text;
  }
  const double share = report.share();
  const double favoured = favoured_hit_rate(share);
  text += fmt::format(
      "answers  at most {:.2f} tokens/s if each expert is as likely as any other ({:.0f} % found in memory)\n",
      report.tokens_per_s(share), 100 * share);
  text += fmt::format("         at most {:.2f} tokens/s if some are favoured, as in most models ({:.0f} %)\n",
                      report.tokens_per_s(favoured), 100 * favoured);
  return text;
}

nlohmann::ordered_json fit_json(const FitReport& report) {
  using Json = nlohmann::ordered_json;
  Json plan = Json::array();
  for (const MemoryPlan::Line& line : report.plan.memory.lines)
    plan.push_back({{"name", line.name}, {"bytes", line.bytes}, {"note", line.note}, {"charged", line.charged}});
  const double share = report.share();
  const double favoured = report.plan.residency.slots == 0 ? 1 : favoured_hit_rate(share);
  return {{"model", report.model->file().path().string()},
          {"budget", report.plan.memory.budget},
          {"plan", plan},
          {"slots", report.plan.residency.slots},
          {"experts_in_memory", share},
          {"bandwidth",
           {{"memory_gb_s", report.memory / 1e9}, {"disk_gb_s", report.disk ? Json(*report.disk / 1e9) : Json()}}},
          {"bound",
           {{{"hit_rate", share}, {"tokens_per_s", report.tokens_per_s(share)}},
            {{"hit_rate", favoured}, {"tokens_per_s", report.tokens_per_s(favoured)}}}}};
}

}  // namespace sirocco

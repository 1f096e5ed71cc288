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
// Times that an expert passes through memory on its way from the disk into a slot; and where a device puts it into its
// kernels' layout there: read, written beside the slot, read, written.
constexpr double kArrival = 1;
constexpr double kSharedArrival = 5;

Result<double> host_bandwidth(const EnginePlan& plan, const EngineOptions& options) {
  SIROCCO_TRY(const Kernels* kernels, host_kernels(plan.backend));
  SIROCCO_TRY(ThreadPool pool, ThreadPool::create(options.threads));
  Roofline roofline(*kernels, pool);
  std::array<double, kMemoryPasses> passes = {};
  for (double& pass : passes) pass = roofline.read();
  std::sort(passes.begin(), passes.end());
  return passes.at(kMemoryPasses / 2);
}

std::string answers_text(const FitReport& report, std::string_view found) {
  const double share = report.share();
  const double favoured = favoured_hit_rate(share);
  return fmt::format(
      "answers  at most {:.2f} tokens/s if each expert is as likely as any other ({:.0f} % found {})\n"
      "         at most {:.2f} tokens/s if some are favoured, as in most models ({:.0f} %)\n",
      report.tokens_per_s(share), 100 * share, found, report.tokens_per_s(favoured), 100 * favoured);
}

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
  const std::size_t slots = plan.device_slots != 0 ? plan.device_slots : plan.residency.slots;
  if (!moe || slots == 0) return 1;
  return static_cast<double>(slots) / (static_cast<double>(model->spec().layers) * moe->experts);
}

double FitReport::tokens_per_s(double hit_rate) const {
  const auto& moe = model->spec().moe;
  const double experts =
      moe ? static_cast<double>(model->sizes().expert_bytes) * moe->used / moe->experts : 0;  // of a token
  const double missing = (1 - hit_rate) * experts;
  const auto all = static_cast<double>(model->bytes_per_token());
  if (plan.device_slots != 0) {
    // The host computes what the device has not while that computes the others; behind it there may be a disk.
    const double slots = static_cast<double>(model->spec().layers) * moe->experts;
    const double read = plan.residency.slots == 0 ? 0 : 1 - static_cast<double>(plan.residency.slots) / slots;
    const double on_host = std::max(missing / host_memory, disk ? read * missing / *disk : 0);
    return 1 / ((all - experts) / memory + std::max(hit_rate * experts / memory, on_host));
  }
  const double from_memory = (all + (plan.residency.shared ? kSharedArrival : kArrival) * missing) / memory;
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
  if (!device_memory || report.plan.device_slots != 0) {
    SIROCCO_TRY(report.host_memory, host_bandwidth(report.plan, options));
  }
  report.memory = device_memory.value_or(report.host_memory);
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
  if (report.plan.device_slots != 0)
    text +=
        fmt::format("         {:.1f} GB/s of the host's, which computes the other experts\n", report.host_memory / 1e9);
  text += report.disk ? fmt::format("disk     {:.2f} GB/s\n", *report.disk / 1e9)
                      : std::string("disk     not measured: the file system has no O_DIRECT\n");
  if (report.plan.device_slots != 0) return text + answers_text(report, "on the device");
  if (!slotted) {
    const bool fits =
        report.in_device || report.plan.memory.charged() + model.sizes().dense_bytes + model.sizes().expert_bytes <=
                                report.plan.memory.budget;
    text += fits ? fmt::format("answers  at most {:.1f} tokens/s: all of it fits\n", report.tokens_per_s(1))
                 : std::string("answers  slow: a model without experts that does not fit is paged in from disk\n");
    return text;
  }
  return text + answers_text(report, "in memory");
}

nlohmann::ordered_json fit_json(const FitReport& report) {
  using Json = nlohmann::ordered_json;
  Json plan = Json::array();
  for (const MemoryPlan::Line& line : report.plan.memory.lines)
    plan.push_back({{"name", line.name}, {"bytes", line.bytes}, {"note", line.note}, {"charged", line.charged}});
  const double share = report.share();
  const bool all = report.plan.residency.slots == 0 && report.plan.device_slots == 0;
  const double favoured = all ? 1 : favoured_hit_rate(share);
  return {{"model", report.model->file().path().string()},
          {"budget", report.plan.memory.budget},
          {"plan", plan},
          {"slots", report.plan.residency.slots},
          {"device_slots", report.plan.device_slots},
          {"experts_in_memory", share},
          {"bandwidth",
           {{"memory_gb_s", report.memory / 1e9},
            {"host_memory_gb_s", report.host_memory == 0 ? Json() : Json(report.host_memory / 1e9)},
            {"disk_gb_s", report.disk ? Json(*report.disk / 1e9) : Json()}}},
          {"bound",
           {{{"hit_rate", share}, {"tokens_per_s", report.tokens_per_s(share)}},
            {{"hit_rate", favoured}, {"tokens_per_s", report.tokens_per_s(favoured)}}}}};
}

}  // namespace sirocco

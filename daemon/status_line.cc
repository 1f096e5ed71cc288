#include "daemon/status_line.h"

#include <spdlog/spdlog.h>

#include <cctype>

#include "daemon/log_event.h"
#include "engine/base/printable.h"

namespace sirocco::daemon {
namespace {

constexpr std::size_t kMaxLine = 2000;  // bytes: systemd takes 4096 for a whole notification

std::string line_of(const wire::StatusReport& report) {
  const std::string model = report.model ? report.model->name : "";
  switch (report.state) {
    case wire::State::ready:
      return "Ready: " + model;
    case wire::State::degraded:
      return fmt::format("Degraded: {}: {}", model, fmt::join(report.reasons, "; "));
    case wire::State::draining:
      return fmt::format("Draining: {}", fmt::join(report.reasons, "; "));
    case wire::State::failed:
      return fmt::format("Failed: {}", fmt::join(report.reasons, "; "));
    case wire::State::starting: {
      std::string what = report.reasons.empty() ? "starting" : fmt::format("{}", fmt::join(report.reasons, "; "));
      what.front() = static_cast<char>(std::toupper(static_cast<unsigned char>(what.front())));
      return what;
    }
    case wire::State::no_model:
      break;
  }
  return "No model is configured (model.path)";
}

}  // namespace

// Names come out of model files: a line break in one must not begin another notification, or line of the log.
std::string status_line(const wire::StatusReport& report) {
  return printable(line_of(report), kMaxLine);
}

void log_state(wire::State before, const wire::StatusReport& report) {
  const wire::State now = report.state;
  // Each request that ends, or piece that is read, changes the line.
  if (now == before && (now == wire::State::draining || now == wire::State::starting)) return;
  if (now == wire::State::failed) return;  // the failure itself has been logged, or is when the daemon ends
  const std::string line = status_line(report);
  const std::vector<LogField> fields = {{.name = "SIROCCO_STATE", .value = std::string(wire::state_name(now))},
                                        {.name = "SIROCCO_MODEL", .value = report.model ? report.model->name : ""}};
  if (now == wire::State::degraded) return log_event(spdlog::level::warn, kDegraded, line, fields);
  if (now == wire::State::draining) return log_event(spdlog::level::info, kDraining, line, fields);
  if (now == wire::State::ready && before == wire::State::degraded)
    return log_event(spdlog::level::info, kRecovered, line, fields);
  spdlog::info("{}", line);
}

void log_plan(const Engine& engine) {
  const EngineParts& parts = engine.parts();
  const ModelSpec& spec = parts.model->spec();
  spdlog::info("model: {} ({}), {} layers, {} parameters, tokenizer {}, chat format {}", spec.name, spec.architecture,
               spec.layers, parts.model->sizes().parameters, parts.tokenizer->kind(),
               parts.chat ? parts.chat->name() : "none");
  if (!parts.chat) spdlog::warn("only raw prompts can be answered: {}", parts.chat_error->message());
  for (const std::string& warning : parts.warnings) spdlog::warn("{}", warning);
  const std::string_view device = parts.backend->device();
  spdlog::info("backend: {} ({}{}{}), {} threads", parts.backend->name(), parts.backend->isa(),
               device.empty() ? "" : ", ", device, parts.backend->threads());
  spdlog::info("memory budget: {}", format_bytes(parts.plan.budget));
  for (const MemoryPlan::Line& line : parts.plan.lines)
    spdlog::info("  {}{}: {} ({})", line.charged ? "* " : "  ", line.name, format_bytes(line.bytes), line.note);
}

}  // namespace sirocco::daemon

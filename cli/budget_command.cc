// sirocco budget: how much memory the running daemon may take, seen and changed.
#include <fmt/format.h>

#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "cli/admin_socket.h"
#include "cli/client_commands.h"
#include "cli/option_values.h"
#include "cli/output.h"
#include "engine/base/bytes.h"
#include "ipc/client/client.h"

namespace sirocco {
namespace {

struct BudgetOptions {
  AdminSocketOptions where;
  std::string size;     // empty: only show it; "start": what it was at the start
  bool device = false;  // the GPU's memory
  bool json = false;
};

int print_budget(const wire::BudgetReport& report, const BudgetOptions& options) {
  if (options.json) {
    print_json({{"bytes", report.bytes},
                {"slots", report.slots},
                {"planned_slots", report.planned_slots},
                {"experts", report.experts}});
    return 0;
  }
  std::string text =
      fmt::format("{} {}", options.device ? "the GPU's memory: budget" : "memory budget", format_bytes(report.bytes));
  if (report.experts != 0) text += fmt::format(": {} of {} experts in it", report.slots, report.experts);
  if (report.slots < report.planned_slots)
    text += fmt::format(" ({} planned; others need the memory)", report.planned_slots);
  return show(text + "\n") ? 0 : 1;
}

int show_budget(const BudgetOptions& options) {
  auto client = Client::connect(options.where.socket);
  if (!client) return report_failure(client.error().message);
  const ClientResult<wire::StatusReport> status = client->status();
  if (!status) return report_failure(status.error().message);
  if (options.device) {
    if (!status->device) return report_failure("no GPU computes");
    return print_budget({.bytes = status->device->arena_bytes,
                         .slots = status->device->slots,
                         .planned_slots = status->device->planned_slots,
                         .experts = status->device->experts},
                        options);
  }
  if (status->memory.empty()) return report_failure("the daemon has no model, and so no memory plan");
  wire::BudgetReport report = {.bytes = status->memory.front().bytes};
  if (status->experts) {
    report.slots = status->experts->slots;
    report.planned_slots = status->experts->planned_slots;
    report.experts = status->experts->experts;
  }
  return print_budget(report, options);
}

int set_budget(const BudgetOptions& options) {
  std::uint64_t bytes = 0;
  if (options.size != "start") {
    const Result<std::uint64_t> parsed = parse_bytes(options.size);
    if (!parsed) return report_failure(parsed.error());
    bytes = *parsed;
  }
  auto client = connect_admin(options.where);
  if (!client) return report_failure(client.error().message);
  const ClientResult<wire::BudgetReport> report = client->set_budget(bytes, options.device);
  return report ? print_budget(*report, options) : report_failure(report.error().message);
}

}  // namespace

void add_budget_command(CLI::App& app, CommandContext& context) {
  const auto options = std::make_shared<BudgetOptions>();
  CLI::App* command = app.add_subcommand("budget", "Show the daemon's memory budget, or change it while it runs");
  command
      ->add_option("size", options->size,
                   "Everything together, as 4GiB; start: what it was when the daemon started; nothing: show it")
      ->check(
          CLI::Validator([](std::string& text) { return text == "start" ? std::string() : byte_size()(text); }, ""));
  add_admin_socket_options(*command, options->where);
  command->add_flag("--device", options->device,
                    "The GPU's memory, where it holds some of the experts: what the daemon may take of it");
  command->add_flag("--json", options->json, "Print one JSON document");
  command->callback([options, &context] {
    context.exit_code = options->size.empty() ? show_budget(*options) : set_budget(*options);
  });
}

}  // namespace sirocco

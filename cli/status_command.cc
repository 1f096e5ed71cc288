// sirocco status and sirocco top: how the daemon is.
#include <fmt/format.h>
#include <unistd.h>

#include <chrono>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>

#include "cli/client_commands.h"
#include "cli/output.h"
#include "cli/request_options.h"
#include "cli/status_check.h"
#include "cli/status_text.h"
#include "ipc/client/status_json.h"

namespace sirocco {
namespace {

struct StatusOptions {
  std::string socket;
  bool json = false;
  bool check = false;
  bool layers = false;
};

ClientResult<wire::StatusReport> ask(const std::string& socket) {
  auto client = Client::connect(socket);
  if (!client) return tl::unexpected(client.error());
  return client->status();
}

int status(const StatusOptions& options) {
  const ClientResult<wire::StatusReport> report = ask(options.socket);
  if (options.check) {
    const StatusCheck check = check_status(report);
    if (options.json && report) {
      print_json(status_json(*report));
    } else {
      fmt::print("{}\n", check.line);
    }
    return check.exit_code;
  }
  if (!report) return report_failure(report.error().message);
  if (options.json) {
    print_json(status_json(*report));
  } else {
    fmt::print("{}", status_text(*report, options.layers));
  }
  return 0;
}

// Until the daemon goes away, nobody reads any more, or Ctrl-C.
int top(const std::string& socket, bool layers) {
  auto client = Client::connect(socket);
  if (!client) return report_failure(client.error().message);
  for (;;) {
    const ClientResult<wire::StatusReport> report = client->status();
    if (!report) return report_failure(report.error().message);
    // Home, the new screen, and away with what is left of the old one.
    if (isatty(STDOUT_FILENO) != 0) fmt::print("\033[H\033[2J");
    if (!show(status_text(*report, layers))) return 1;
    std::this_thread::sleep_for(std::chrono::seconds(1));
  }
}

}  // namespace

void add_status_commands(CLI::App& app, CommandContext& context) {
  const auto options = std::make_shared<StatusOptions>();
  CLI::App* command = app.add_subcommand("status", "Show the model, the memory plan, speed and requests");
  add_socket_option(*command, options->socket);
  command->add_flag("--json", options->json, "Print one JSON document");
  command->add_flag("--layers", options->layers, "Show the experts of each layer, too");
  command->add_flag(
      "--check", options->check,
      "For monitoring, print one line and exit with 0: READY; 1: DEGRADED, DRAINING or STARTING; 2: FAILED, "
      "NO_MODEL, or no daemon answers; 3: not known");
  command->callback([options, &context] { context.exit_code = status(*options); });

  const auto top_options = std::make_shared<StatusOptions>();
  CLI::App* top_command = app.add_subcommand("top", "Show the status again each second, until Ctrl-C");
  add_socket_option(*top_command, top_options->socket);
  top_command->add_flag("--layers", top_options->layers, "Show the experts of each layer, too");
  top_command->callback([top_options, &context] { context.exit_code = top(top_options->socket, top_options->layers); });
}

}  // namespace sirocco

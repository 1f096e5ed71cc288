#include "cli/app.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <exception>
#include <string>
#include <vector>

#include "cli/client_commands.h"
#include "cli/command.h"
#include "cli/file_commands.h"
#include "cli/model_commands.h"
#include "cli/output.h"

namespace sirocco {
namespace {

// CLI11 says that a command is required where one was given that does not exist.
bool report_unknown_command(const CLI::App& app) {
  const CLI::App* at = &app;
  std::string name = "sirocco";
  while (!at->get_subcommands().empty()) {
    at = at->get_subcommands().front();
    name += " " + at->get_name();
  }
  const std::vector<std::string> given = at->remaining();
  const std::vector<const CLI::App*> commands = at->get_subcommands([](const CLI::App*) { return true; });
  if (given.empty() || given.front().starts_with('-') || commands.empty()) return false;
  std::vector<std::string> names;
  for (const CLI::App* command : commands) names.push_back(command->get_name());
  fmt::print(stderr, "{}: {:?} is not a command; there are: {}\n", name, given.front(), fmt::join(names, ", "));
  return true;
}

int parse_and_run(int argc, const char* const* argv) {
  CommandContext context;
  CLI::App app("Sirocco keeps a Mixture-of-Experts language model ready; this is its command line.", "sirocco");
  app.set_version_flag("--version", std::string("sirocco ") + SIROCCO_VERSION);
  app.require_subcommand(1);
  app.footer("Exit codes: 0 done, 1 failed, 2 wrong usage. `sirocco COMMAND --help` says more.");
  add_chat_command(app, context);
  add_generate_command(app, context);
  add_session_command(app, context);
  add_status_commands(app, context);
  add_doctor_command(app, context);
  add_setup_command(app, context);
  add_budget_command(app, context);
  add_admin_commands(app, context);
  add_model_commands(app, context);
  add_tokenize_command(app, context);
  add_logits_command(app, context);
  add_bench_command(app, context);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    if (report_unknown_command(app)) return 2;
    return app.exit(error) == 0 ? 0 : 2;  // --help and --version come this way, too
  }
  return context.exit_code;
}

}  // namespace

int run_app(int argc, const char* const* argv) {
  int code = 1;
  try {
    code = parse_and_run(argc, argv);
  } catch (const std::exception& error) {
    return report_failure(error.what());
  }
  // What was buffered may still meet a full disk.
  if (const int error = output_error(); error != 0)
    return report_failure(fmt::format("standard output: {}", errno_message(error)));
  return code;
}

}  // namespace sirocco

// sirocco drain, reload and evict: what an administrator asks of the running daemon beside its budget.
#include <fmt/format.h>

#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "cli/admin_socket.h"
#include "cli/client_commands.h"
#include "cli/output.h"
#include "cli/waiting.h"
#include "engine/base/bytes.h"

namespace sirocco {
namespace {

struct AdminOptions {
  AdminSocketOptions where;
  bool json = false;
  bool stop = false;
  bool undo = false;
  std::string model;
};

int drain(const AdminOptions& options) {
  auto client = connect_admin(options.where);
  if (!client) return report_failure(client.error().message);
  Waiting waiting("waiting for running requests to finish");
  const ClientResult<wire::DrainReport> report = client->drain({.undo = options.undo, .stop = options.stop});
  waiting.done();
  if (!report) return report_failure(report.error().message);
  if (options.json) {
    print_json({{"draining", report->draining}, {"requests", report->requests}});
    return 0;
  }
  const std::string text = !report->draining ? fmt::format("requests are taken; {} are there\n", report->requests)
                           : options.stop    ? "drained: no request is left, the daemon ends\n"
                                             : "drained: no request is left; `sirocco drain --undo` takes them again\n";
  if (!show(text)) return 1;
  // Somebody else has undone it: what was asked for did not happen.
  return !options.undo && !report->draining ? 1 : 0;
}

int reload(const AdminOptions& options) {
  std::string model;
  if (!options.model.empty()) {
    // The daemon has another working directory.
    std::error_code error;
    model = std::filesystem::absolute(options.model, error).string();
    if (error) return report_failure(fmt::format("{}: {}", options.model, error.message()));
  }
  auto client = connect_admin(options.where);
  if (!client) return report_failure(client.error().message);
  Waiting waiting("waiting for the model, and for requests on the old one");
  const ClientResult<wire::ReloadReport> report = client->reload(model);
  waiting.done();
  if (!report) return report_failure(report.error().message);
  if (options.json) {
    print_json({{"model", report->model ? nlohmann::ordered_json(report->model->name) : nullptr},
                {"loaded", report->loaded},
                {"need_restart", report->need_restart}});
    return 0;
  }
  std::string text = "the configuration was read again; ";
  if (report->model) {
    text += fmt::format("{} is served{}\n", report->model->name, report->loaded ? " from here on" : " as before");
  } else {
    text += "there is no model\n";
  }
  for (const std::string& key : report->need_restart)
    text += fmt::format("{} has changed: that takes a restart\n", key);
  return show(text) ? 0 : 1;
}

int evict(const AdminOptions& options) {
  auto client = connect_admin(options.where);
  if (!client) return report_failure(client.error().message);
  const ClientResult<wire::EvictReport> report = client->evict();
  if (!report) return report_failure(report.error().message);
  if (options.json) {
    print_json({{"experts", report->experts}, {"bytes", report->bytes}});
    return 0;
  }
  return show(fmt::format("{} given back, {} experts\n", format_bytes(report->bytes), report->experts)) ? 0 : 1;
}

CLI::App* add_command(CLI::App& app, const std::string& name, const std::string& what, AdminOptions& options) {
  CLI::App* command = app.add_subcommand(name, what);
  add_admin_socket_options(*command, options.where);
  command->add_flag("--json", options.json, "Print one JSON document");
  return command;
}

}  // namespace

void add_admin_commands(CLI::App& app, CommandContext& context) {
  const auto options = std::make_shared<AdminOptions>();
  CLI::App* command =
      add_command(app, "drain", "Let the daemon finish its requests and take no new ones, and wait for that", *options);
  CLI::Option* stop = command->add_flag("--stop", options->stop, "End the daemon when no request is left");
  command->add_flag("--undo", options->undo, "Take requests again")->excludes(stop);
  command->callback([options, &context] { context.exit_code = drain(*options); });

  command = add_command(app, "reload",
                        "Let the daemon read its configuration again, and serve another model or version of its file",
                        *options);
  command
      ->add_option("--model", options->model,
                   "The GGUF file to serve from here on; not given: the one named before, here or in the configuration")
      ->type_name("FILE");
  command->callback([options, &context] { context.exit_code = reload(*options); });

  command =
      add_command(app, "evict", "Let the daemon give the memory of experts back until it is needed again", *options);
  command->callback([options, &context] { context.exit_code = evict(*options); });
}

}  // namespace sirocco

// sirocco setup: which models fit this machine; and with a file, makes the daemon serve it.
#include <fmt/format.h>
#include <unistd.h>

#include <memory>
#include <nlohmann/json.hpp>

#include "cli/admin_socket.h"
#include "cli/client_commands.h"
#include "cli/daemon_config.h"
#include "cli/drop_in_file.h"
#include "cli/model_fit.h"
#include "cli/model_folder.h"
#include "cli/model_import.h"
#include "cli/model_support.h"
#include "cli/model_verify.h"
#include "cli/option_values.h"
#include "cli/output.h"
#include "cli/setup_list.h"
#include "cli/waiting.h"
#include "engine/base/cgroup.h"

namespace sirocco {
namespace {

namespace fs = std::filesystem;

struct SetupOptions {
  std::string file;
  std::vector<std::string> folders;
  std::string models_folder = kModelsFolder;
  std::string config_folder = kConfigFolder;
  bool copy = false;
  bool move = false;
  bool link = false;
  bool json = false;
  AdminSocketOptions where;

  Placing placing() const {
    return copy ? Placing::copy : move ? Placing::move : link ? Placing::link : Placing::automatic;
  }
};

int list(const SetupOptions& options) {
  std::vector<std::string> folders = {options.models_folder};
  folders.insert(folders.end(), options.folders.begin(), options.folders.end());
  const EngineOptions engine;
  std::vector<ModelVerdict> models;
  for (const std::string& folder : folders)
    for (const fs::path& file : model_files_in(folder)) models.push_back(judge_model(file, engine));
  const std::uint64_t free = memory_status().free();
  const std::uint64_t budget = free - std::min(free, engine.memory_headroom);
  const std::vector<SizeVerdict> sizes = judge_sizes(budget);
  if (options.json) {
    print_json(setup_json(models, sizes, budget));
    return 0;
  }
  return show(setup_text(models, sizes, budget)) ? 0 : 1;
}

// Before a long copy: whether what is to be written may be.
Result<void> check_writable(fs::path folder) {
  std::error_code error;
  while (!fs::exists(folder, error) && folder.has_relative_path()) folder = folder.parent_path();
  if (access(folder.c_str(), W_OK | X_OK) == 0) return {};
  return fail(ErrorCode::permission_denied, "{}: may not be written: run this as root (sudo sirocco setup …)",
              folder.string());
}

// Whole, sound, and one that this build can serve.
Result<void> check_model(const std::shared_ptr<const GgufFile>& file) {
  if (const ModelSupport support = model_support(file); !support.problems.empty())
    return fail(ErrorCode::unsupported, "{}: cannot be served: {}", file->path().string(), support.problems.front());
  SIROCCO_TRY(const VerifyReport report, verify_model(file, {}));
  if (report.bad.empty()) return {};
  return fail(ErrorCode::corrupt,
              "{}: {} tensors hold numbers that are infinite or none (the first: {}): fetch the file again",
              file->path().string(), report.bad.size(), report.bad.front().tensor);
}

// What the daemon that runs says to the new configuration.
struct Told {
  bool running = false;
  std::string what;
};

bool serves(const wire::ReloadReport& report, const Model& model) {
  return report.model && report.model->name == model.spec().name &&
         report.model->file_bytes == model.sizes().dense_bytes + model.sizes().expert_bytes;
}

Result<Told> tell_daemon(const SetupOptions& options, const Model& model, const fs::path& served) {
  auto client = connect_admin(options.where);
  if (!client) {
    // Also where there is no socket for administration, or it is not for us: the configuration is right all the same.
    return Told{.running = false,
                .what = "the daemon was not told: systemctl enable sirocco; systemctl restart sirocco"};
  }
  Waiting waiting("waiting for the daemon to load the model; Ctrl-C leaves it to itself");
  auto report = client->reload({});
  // An administrator has named another one since the daemon's start (`sirocco reload --model`), which counts more.
  if (report && !serves(*report, model)) report = client->reload(served.string());
  waiting.done();
  if (!report)
    return fail(ErrorCode::io, "the daemon refuses the model: {}; everything is as it was before",
                report.error().message);
  return Told{.running = true, .what = fmt::format("the daemon serves {}", report->model ? report->model->name : "it")};
}

struct SetUp {
  fs::path model;
  std::string how;
  fs::path drop_in;
  Told told;
  std::string fit;
};

Result<SetUp> set_up(const SetupOptions& options) {
  SIROCCO_TRY(const auto file, GgufFile::open(options.file));
  SIROCCO_TRY(const auto model, Model::bind(file));
  std::vector<fs::path> parts;
  for (const GgufFile::Part& part : file->parts()) parts.push_back(part.path);
  const SystemUser user = user_named(kDaemonUser).value_or(user_of(geteuid()));
  const bool in_place = options.placing() == Placing::automatic && !why_not_in_place(parts, user);
  SIROCCO_CHECK(check_writable(drop_in_folder(options.config_folder)));
  if (!in_place) SIROCCO_CHECK(check_writable(options.models_folder));
  const ModelVerdict verdict = judge_model(options.file, {});
  if (!verdict.runs && !connect_admin(options.where))  // else the daemon judges, whose memory is not free now
    return fail(ErrorCode::out_of_memory, "{}: {}", options.file, verdict.what);
  SIROCCO_CHECK(check_model(file));

  SIROCCO_TRY(ModelImport import, ModelImport::place(parts, options.models_folder, options.placing(), user));
  const fs::path drop_in = model_drop_in(options.config_folder);
  SIROCCO_TRY(DropInFile written, DropInFile::write(drop_in, model_drop_in_text(import.model())));
  const fs::path config = config_file(options.config_folder);
  std::error_code error;
  if (fs::exists(config, error))
    if (const auto checked = check_config_with_daemon(config); checked && checked->code != 0)
      return fail(ErrorCode::invalid_argument, "{}\nthe configuration has these errors: mend them first",
                  checked->output);
  SIROCCO_TRY(const Told told, tell_daemon(options, *model, import.model()));
  written.keep();
  import.keep();
  return SetUp{.model = import.model(), .how = import.how(), .drop_in = drop_in, .told = told, .fit = verdict.what};
}

int setup(const SetupOptions& options) {
  if (options.file.empty()) return list(options);
  const auto done = set_up(options);
  if (!done) return report_failure(done.error());
  if (options.json) {
    print_json({{"model", done->model.string()},
                {"placed", done->how},
                {"fit", done->fit},
                {"configuration", done->drop_in.string()},
                {"daemon_running", done->told.running}});
    return 0;
  }
  return show(fmt::format("model          {}, {}\nfits           {}\nconfiguration  {}\n{}\n", done->model.string(),
                          done->how, done->fit, done->drop_in.string(), done->told.what))
             ? 0
             : 1;
}

}  // namespace

void add_setup_command(CLI::App& app, CommandContext& context) {
  const auto options = std::make_shared<SetupOptions>();
  CLI::App* const command = app.add_subcommand(
      "setup",
      "Without FILE: which models fit this machine.\n"
      "With FILE (as root): check it, put it where the daemon can read it, and let the daemon serve it. It is "
      "used where it is if\nthe daemon can read it there, else copied.");
  CLI::Option* const file =
      command->add_option("FILE", options->file, "A GGUF file, or any part of a split one")->check(not_empty());
  command
      ->add_option("--folder", options->folders, "Without FILE: another folder to look for models in; may be repeated")
      ->type_name("DIR")
      ->excludes(file);
  CLI::Option* const copy =
      command->add_flag("--copy", options->copy, "Copy it, though it can be read where it is")->needs(file);
  CLI::Option* const move =
      command->add_flag("--move", options->move, "Move it, on the same file system; it belongs to root then")
          ->needs(file)
          ->excludes(copy);
  command->add_flag("--link", options->link, "Give the same file a second name, on the same file system")
      ->needs(file)
      ->excludes(copy)
      ->excludes(move);
  command->add_option("--models-dir", options->models_folder, "Where models are put")
      ->type_name("DIR")
      ->check(not_empty())
      ->capture_default_str();
  command->add_option("--config-dir", options->config_folder, "The folder of siroccod.yaml and siroccod.d")
      ->type_name("DIR")
      ->check(not_empty())
      ->capture_default_str();
  add_admin_socket_options(*command, options->where);
  command->add_flag("--json", options->json, "Print one JSON document");
  command->callback([options, &context] { context.exit_code = setup(*options); });
}

}  // namespace sirocco

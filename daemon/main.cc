// siroccod: the daemon, in the foreground. Exit codes: 0 stopped as asked, 1 failed, 2 wrong usage.
#include <CLI/CLI.hpp>
#include <cstdio>
#include <exception>
#include <string>
#include <vector>

#include "daemon/check_config.h"
#include "daemon/config.h"
#include "daemon/daemon.h"
#include "daemon/supervisor.h"
#include "engine/backend/backend.h"
#include "engine/base/heap.h"
#include "engine/base/standard_files.h"
#ifdef SIROCCO_CUDA_BACKEND
#include "engine/backend/cuda/cuda_backend.h"
#endif

namespace {

constexpr const char* kDefaultConfig = "/etc/sirocco/siroccod.yaml";

// The exit code of a failure.
int report(const std::string& message) {
  std::fprintf(stderr, "siroccod: %s\n", message.c_str());
  return 1;
}

// Prints what is wrong with the configuration, or "ok".
int check(const sirocco::Result<sirocco::daemon::Config>& config) {
  if (!config) {
    std::fprintf(stderr, "%s\n", config.error().message().c_str());
    return 1;
  }
  const std::vector<std::string> problems = sirocco::daemon::problems_of(*config);
  for (const std::string& problem : problems) std::fprintf(stderr, "%s\n", problem.c_str());
  if (problems.empty()) std::puts("ok");
  return problems.empty() ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  using namespace sirocco;
  open_standard_files();
  share_heap();
#ifdef SIROCCO_CUDA_BACKEND
  register_device_backend(cuda_backend());
#endif
  auto supervisor = daemon::Supervisor::create();
  if (!supervisor) return report(supervisor.error().message());
  CLI::App app("The Sirocco daemon: keeps one language model ready and serves local programs over a Unix socket.",
               "siroccod");
  std::string config_file;
  std::string socket;
  std::string model;
  bool service = false;
  bool check_config = false;
  // A variable that was not set, as a rule.
  const CLI::Validator not_empty([](const std::string& text) { return std::string(text.empty() ? "is empty" : ""); },
                                 "");
  app.add_option("--config", config_file,
                 "configuration file (YAML); the files *.yaml in the folder beside it (siroccod.d for siroccod.yaml) "
                 "are laid over it")
      ->check(not_empty)
      ->type_name("FILE");
  app.add_option("--socket", socket, "Unix socket to serve, instead of server.socket")
      ->check(not_empty)
      ->type_name("PATH");
  app.add_option("--model", model, "GGUF file to serve, instead of model.path")->check(not_empty)->type_name("FILE");
  app.add_flag("--service", service,
               "for a service manager: with a model that cannot be loaded stay up, in the state FAILED, until a reload "
               "can load one");
  app.add_flag("--check-config", check_config,
               "print \"ok\", or all that is wrong with the configuration and with the users, groups and paths that it "
               "names, and exit with 0 or 1; FILE is /etc/sirocco/siroccod.yaml if not given");
  app.set_version_flag("--version", "siroccod " SIROCCO_VERSION);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  }

  if (check_config && config_file.empty()) config_file = kDefaultConfig;

  // Read again at each reload.
  const daemon::ConfigSource read_config = [&]() -> Result<daemon::Config> {
    daemon::Config config;
    if (!config_file.empty()) {
      const auto backends = backend_names();
      const auto isas = isa_names();
      SIROCCO_TRY(config, daemon::load_config(config_file, {.backends = backends, .isas = isas}));
    }
    if (!socket.empty()) config.server.socket = socket;
    if (!model.empty()) config.model.path = model;
    return config;
  };
  const auto config = read_config();
  if (check_config) return check(config);
  if (!config) {
    std::fprintf(stderr, "%s\n", config.error().message().c_str());  // each line names the file itself
    return 2;
  }

  try {
    const auto ended = daemon::run(*config, read_config, *supervisor, service);
    return ended ? 0 : report(ended.error().message());
  } catch (const std::exception& error) {  // of a library: no memory, no thread
    return report(error.what());
  }
}

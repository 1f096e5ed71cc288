#include "cli/daemon_config.h"

#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <vector>

namespace sirocco {
namespace {

namespace fs = std::filesystem;

constexpr int kWrongUsage = 2;  // the exit code

// Nothing where the file says nothing about it.
Result<std::optional<std::string>> model_path_in(const fs::path& file) {
  try {
    const YAML::Node root = YAML::LoadFile(file.string());
    if (!root.IsMap() || !root["model"] || !root["model"].IsMap() || !root["model"]["path"]) return std::nullopt;
    return root["model"]["path"].as<std::string>();
  } catch (const YAML::Exception& error) {
    return fail(ErrorCode::invalid_argument, "{}: {}", file.string(), error.what());
  }
}

}  // namespace

fs::path config_file(const fs::path& folder) {
  return folder / "siroccod.yaml";
}

fs::path drop_in_folder(const fs::path& folder) {
  return folder / "siroccod.d";
}

fs::path model_drop_in(const fs::path& folder) {
  return drop_in_folder(folder) / "model.yaml";
}

Result<std::string> configured_model(const fs::path& folder) {
  std::vector<fs::path> files;
  std::error_code error;
  for (const fs::directory_entry& entry : fs::directory_iterator(drop_in_folder(folder), error))
    if (entry.path().extension() == ".yaml") files.push_back(entry.path());
  std::sort(files.begin(), files.end());
  if (fs::exists(config_file(folder), error)) files.insert(files.begin(), config_file(folder));
  std::string model;
  for (const fs::path& file : files) {
    SIROCCO_TRY(const std::optional<std::string> named, model_path_in(file));
    if (named) model = *named;
  }
  return model;
}

std::string model_drop_in_text(const fs::path& model) {
  // JSON's strings are YAML's, too.
  return fmt::format(
      "# Written by `sirocco setup`, which replaces it. It lies over siroccod.yaml.\nmodel:\n  path: {}\n",
      nlohmann::json(model.string()).dump());
}

std::optional<Ended> check_config_with_daemon(const fs::path& file) {
  std::error_code error;
  fs::path daemon = fs::read_symlink("/proc/self/exe", error).parent_path() / "siroccod";
  if (error || !fs::exists(daemon, error)) daemon = "siroccod";
  auto ended = run_program({daemon.string(), "--check-config", "--config", file.string()});
  if (!ended || ended->code == kWrongUsage || ended->code == 127) return std::nullopt;
  while (!ended->output.empty() && ended->output.back() == '\n') ended->output.pop_back();
  return ended;
}

}  // namespace sirocco

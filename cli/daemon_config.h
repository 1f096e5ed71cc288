// What the command line knows of the daemon's configuration: where it is, which model it names, and the one file that
// `sirocco setup` writes. The daemon alone judges it (`siroccod --check-config`).
#pragma once

#include <filesystem>
#include <optional>
#include <string>

#include "cli/child_process.h"
#include "engine/base/result.h"

namespace sirocco {

inline constexpr const char* kConfigFolder = "/etc/sirocco";
inline constexpr const char* kStateFolder = "/var/lib/sirocco";
inline constexpr const char* kModelsFolder = "/var/lib/sirocco/models";

// Below a configuration folder.
std::filesystem::path config_file(const std::filesystem::path& folder);
// Later names lie over earlier ones, and all of them over config_file().
std::filesystem::path drop_in_folder(const std::filesystem::path& folder);
// The one that names the model.
std::filesystem::path model_drop_in(const std::filesystem::path& folder);

// model.path as the configuration has it in the end; empty: none is named. Error: a file that cannot be read, or is no
// YAML.
Result<std::string> configured_model(const std::filesystem::path& folder);

// What model_drop_in() has to say for a model.
std::string model_drop_in_text(const std::filesystem::path& model);

// `siroccod --check-config`: the siroccod beside this program, else the one in $PATH. Nothing: there is none, or one
// that does not know it yet.
std::optional<Ended> check_config_with_daemon(const std::filesystem::path& config_file);

}  // namespace sirocco

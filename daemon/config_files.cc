// The configuration's files from disk.
#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <system_error>
#include <utility>
#include <vector>

#include "daemon/config.h"

namespace sirocco::daemon {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kMaxFiles = 64;  // beside the first

// One byte more than is allowed tells that there is more.
Result<ConfigText> read_file(const std::string& path, std::string_view what_to_do) {
  const auto cannot_read = [&](int error) {
    return fail(errno_code(error), "{}: cannot read the configuration: {}; {}", path, errno_message(error), what_to_do);
  };
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(path.c_str(), "re"), std::fclose);
  if (!file) return cannot_read(errno);
  std::string text(kMaxConfigBytes + 1, '\0');
  text.resize(std::fread(text.data(), 1, text.size(), file.get()));
  if (std::ferror(file.get()) != 0) return cannot_read(errno);
  return ConfigText{.name = path, .text = std::move(text)};
}

// In the order of their names; none where there is no such folder.
Result<std::vector<std::string>> files_in(const fs::path& folder) {
  std::vector<std::string> paths;
  std::error_code error;
  fs::directory_iterator entries(folder, error);
  for (; !error && entries != fs::directory_iterator(); entries.increment(error)) {
    // What editors and dpkg leave behind has another ending, or is hidden.
    const fs::path& path = entries->path();
    if (path.extension() == ".yaml" && !path.filename().string().starts_with('.')) paths.push_back(path.string());
  }
  if (error && error != std::errc::no_such_file_or_directory)
    return fail(errno_code(error.value()), "{}: cannot be listed: {}; it holds more of the configuration",
                folder.string(), error.message());
  if (paths.size() > kMaxFiles)
    return fail(ErrorCode::invalid_argument, "{}: has {} files of configuration; allowed: {}", folder.string(),
                paths.size(), kMaxFiles);
  std::sort(paths.begin(), paths.end());
  return paths;
}

}  // namespace

Result<Config> load_config(const std::string& path, const Choices& choices) {
  std::vector<ConfigText> files;
  SIROCCO_TRY(ConfigText first, read_file(path, "name another file with --config"));
  files.push_back(std::move(first));
  SIROCCO_TRY(const std::vector<std::string> others, files_in(fs::path(path).replace_extension(".d")));
  for (const std::string& other : others) {
    SIROCCO_TRY(ConfigText file, read_file(other, "make it readable, or move it away"));
    files.push_back(std::move(file));
  }
  return parse_config(files, choices);
}

}  // namespace sirocco::daemon

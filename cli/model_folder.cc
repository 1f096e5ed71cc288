#include "cli/model_folder.h"

#include <algorithm>
#include <regex>
#include <string>

namespace sirocco {

namespace fs = std::filesystem;

std::vector<fs::path> model_files_in(const fs::path& folder) {
  static const std::regex later_part(R"(.*-(\d{5})-of-\d{5}\.gguf)");
  std::vector<fs::path> files;
  std::error_code error;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder, error)) {
    const std::string name = entry.path().filename().string();
    if (entry.path().extension() != ".gguf" || name.starts_with('.') || !entry.is_regular_file(error)) continue;
    std::smatch part;
    if (std::regex_match(name, part, later_part) && part[1] != "00001") continue;
    files.push_back(entry.path());
  }
  std::sort(files.begin(), files.end());
  return files;
}

}  // namespace sirocco

// Model files in a folder.
#pragma once

#include <filesystem>
#include <vector>

namespace sirocco {

// The GGUF files there, by name, of split ones the first part; not those in folders below. None where it cannot be
// read.
std::vector<std::filesystem::path> model_files_in(const std::filesystem::path& folder);

}  // namespace sirocco

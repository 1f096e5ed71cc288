// Which experts were in memory when the engine closed, kept in a file, so that they are there again soon after the next
// start. What is read from it is a hint: a wrong one costs reads and nothing else.
#pragma once

#include <filesystem>
#include <span>
#include <vector>

#include "engine/base/ids.h"
#include "engine/base/result.h"
#include "engine/model/model.h"

namespace sirocco {

// Writes the file anew: beside it, then renamed. Error: it cannot be written.
Result<void> save_hot_set(const std::filesystem::path& file, const Model& model, std::span<const ExpertId> experts);

// In the order saved, each once; empty if there is no such file. Error: a file of another model, or a damaged one.
Result<std::vector<ExpertId>> load_hot_set(const std::filesystem::path& file, const Model& model);

}  // namespace sirocco

// What `sirocco setup` shows when no file is given: which models that are here fit this machine, and which sizes would.
#pragma once

#include <cstdint>
#include <filesystem>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "engine/engine.h"

namespace sirocco {

// How a model would run here, in a few words.
struct ModelVerdict {
  std::filesystem::path file;
  std::uint64_t bytes = 0;
  bool runs = false;
  std::string what;  // "all of it in memory, at most 12.5 tokens/s", or why it does not run
};

// Measures for about a second.
ModelVerdict judge_model(const std::filesystem::path& file, const EngineOptions& options);

// Of a model at real dimensions.
struct SizeVerdict {
  std::string name;  // of the preset
  std::string type;
  std::uint64_t bytes = 0;
  double share = 0;  // of its experts that would be in memory; 1: all; 0: it would not run well
};
// In `budget` bytes, which is what everything may take.
std::vector<SizeVerdict> judge_sizes(std::uint64_t budget);

std::string setup_text(std::span<const ModelVerdict> models, std::span<const SizeVerdict> sizes, std::uint64_t budget);
nlohmann::ordered_json setup_json(std::span<const ModelVerdict> models, std::span<const SizeVerdict> sizes,
                                  std::uint64_t budget);

}  // namespace sirocco

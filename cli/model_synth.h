// `sirocco model synth`: a model of random, well-scaled weights at given dimensions, written as fast as the disk takes
// it. It says nothing sensible; it is for benchmarks and tests.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "cli/model_presets.h"

namespace sirocco {

// Weights in `type`; the same preset, type and seed give the same file. Errors: the disk is full, Ctrl-C; `output` is
// then as it was before.
Result<void> synth_model(const std::filesystem::path& output, const ModelPreset& preset, TensorType type,
                         std::uint64_t seed);

// One sentence for each kind of matrix that could not be written in `type`.
std::vector<std::string> synth_notes(const ModelPreset& preset, TensorType type);

}  // namespace sirocco

// What computes and with how many threads: the flags of the commands that compute without a daemon.
#pragma once

#include <CLI/CLI.hpp>
#include <cstddef>
#include <string>

#include "engine/model/lossy.h"
#include "kernels/tensor_type.h"

namespace sirocco {

void add_backend_options(CLI::App& command, std::string& backend, std::string& isa, std::size_t& threads);

// --device-memory, as it was written.
void add_device_option(CLI::App& command, std::string& bytes);

// --kv; what `type` is when this is called is the default.
void add_kv_option(CLI::App& command, TensorType& type);

// --lossy-skip-below and --lossy-substitute.
void add_lossy_options(CLI::App& command, LossyOptions& options);

}  // namespace sirocco

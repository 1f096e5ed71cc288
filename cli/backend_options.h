// What computes and with how many threads: the flags of the commands that compute without a daemon.
#pragma once

#include <CLI/CLI.hpp>
#include <cstddef>
#include <string>

namespace sirocco {

void add_backend_options(CLI::App& command, std::string& backend, std::string& isa, std::size_t& threads);

}  // namespace sirocco

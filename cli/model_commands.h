// The commands under `sirocco model`: they look at and make model files, and need no daemon.
#pragma once

#include <CLI/CLI.hpp>

#include "cli/command.h"

namespace sirocco {

// Adds `model inspect | verify | upcycle | synth` to the program. Results go to standard output, everything else to
// standard error; a command that runs sets context.exit_code, which outlives the parsing.
void add_model_commands(CLI::App& app, CommandContext& context);

}  // namespace sirocco

// The commands that work on a model file without a daemon, for tests and measurements: tokenize, logits and bench.
#pragma once

#include <CLI/CLI.hpp>

#include "cli/command.h"

namespace sirocco {

void add_tokenize_command(CLI::App& app, CommandContext& context);
void add_logits_command(CLI::App& app, CommandContext& context);
void add_bench_command(CLI::App& app, CommandContext& context);

}  // namespace sirocco

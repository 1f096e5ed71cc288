// The commands that talk to a daemon: chat, generate, session, budget, drain, reload, evict, status and top;
// doctor and setup, which get along without one.
#pragma once

#include <CLI/CLI.hpp>

#include "cli/command.h"

namespace sirocco {

void add_chat_command(CLI::App& app, CommandContext& context);
void add_generate_command(CLI::App& app, CommandContext& context);
void add_session_command(CLI::App& app, CommandContext& context);
void add_budget_command(CLI::App& app, CommandContext& context);
void add_admin_commands(CLI::App& app, CommandContext& context);
void add_status_commands(CLI::App& app, CommandContext& context);
void add_doctor_command(CLI::App& app, CommandContext& context);
void add_setup_command(CLI::App& app, CommandContext& context);

}  // namespace sirocco

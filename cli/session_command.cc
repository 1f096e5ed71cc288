// sirocco session: the conversations that the daemon keeps, and what can be done with them.
#include "cli/session_command.h"

#include <fmt/format.h>

#include <fstream>
#include <iterator>
#include <limits>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "cli/answer.h"
#include "cli/client_commands.h"
#include "cli/interrupt.h"
#include "cli/option_values.h"
#include "cli/output.h"
#include "cli/request_options.h"
#include "engine/base/bytes.h"

namespace sirocco {
namespace {

struct SessionOptions {
  std::string socket;
  std::string name;
  std::string to;
  std::uint32_t turns = 1;
  bool drop_oldest = false;
  std::string system;
  std::string tools;  // a file
  bool save = false;
  bool json = false;
};

nlohmann::ordered_json session_json(const wire::SessionState& session) {
  return {{"name", session.name},
          {"uid", session.uid},
          {"turns", session.turns},
          {"tokens", session.tokens},
          {"overflow", wire::overflow_name(session.overflow)},
          {"busy", session.busy},
          {"idle_ms", session.idle_ms},
          {"saved_bytes", session.saved_bytes}};
}

int print_sessions(const wire::SessionReport& report, bool json) {
  if (json) {
    auto list = nlohmann::ordered_json::array();
    for (const wire::SessionState& session : report.sessions) list.push_back(session_json(session));
    print_json(list);
    return 0;
  }
  std::string text = fmt::format("{:<24}  {:>6}  {:>6}  {:>8}  {:>10}  {:>10}\n", "session", "uid", "turns", "tokens",
                                 "idle", "on disk");
  for (const wire::SessionState& session : report.sessions)
    text +=
        fmt::format("{:<24}  {:>6}  {:>6}  {:>8}  {:>8} s  {:>10}{}\n", session.name, session.uid, session.turns,
                    session.tokens, session.idle_ms / 1000,
                    session.saved_bytes == 0 ? "-" : format_bytes(session.saved_bytes), session.busy ? "  busy" : "");
  return show(text) ? 0 : 1;
}

// What every conversation of the session begins with is computed now, so that its first question need not wait for it.
int prepare(Client& client, const SessionOptions& options) {
  wire::ChatPrompt prompt;
  if (!options.tools.empty()) {
    std::ifstream file(options.tools);
    prompt.tools.assign(std::istreambuf_iterator<char>(file), {});
    if (!file) return report_failure(options.tools + ": the tools cannot be read");
  }
  prompt.messages.push_back(
      {.role = wire::Role::system, .content = options.system, .tool_calls = {}, .tool_call_id = {}});
  wire::Generate request;
  request.prompt = std::move(prompt);
  request.session = options.name;
  request.prefill_only = true;
  const Interrupt interrupt(Interrupt::Again::ends);
  const auto answer = ask(client, request);
  return answer ? 0 : report_failure(answer.error().message);
}

int change(const SessionOptions& options, const wire::Session& request) {
  auto client = Client::connect(options.socket);
  if (!client) return report_failure(client.error().message);
  auto report = client->session(request);
  if (!report) return report_failure(report.error().message);
  if (request.action == wire::SessionAction::close) return 0;
  if (!options.system.empty()) {
    if (const int failed = prepare(*client, options); failed != 0) return failed;
    report = client->session(request);  // as it is now
    if (!report) return report_failure(report.error().message);
  }
  return print_sessions(*report, options.json);
}

CLI::App* add(CLI::App& parent, const std::string& name, const std::string& what,
              const std::shared_ptr<SessionOptions>& options) {
  CLI::App* const command = parent.add_subcommand(name, what);
  add_socket_option(*command, options->socket);
  if (name != "list") command->add_option("name", options->name, "The session")->required()->check(not_empty());
  if (name != "close") command->add_flag("--json", options->json, "Print one JSON document");
  return command;
}

}  // namespace

ClientResult<wire::SessionState> find_or_open(Client& client, const std::string& name, wire::SessionOverflow overflow) {
  const auto all = client.session({.action = wire::SessionAction::list});
  if (!all) return tl::unexpected<ClientError>(all.error());
  for (const wire::SessionState& session : all->sessions)
    if (session.name == name) return session;
  auto opened = client.session({.action = wire::SessionAction::open, .name = name, .overflow = overflow});
  if (!opened) return tl::unexpected<ClientError>(opened.error());
  return opened->sessions.empty() ? wire::SessionState{.name = name} : opened->sessions.front();
}

void add_session_command(CLI::App& app, CommandContext& context) {
  using Action = wire::SessionAction;
  CLI::App* const command = app.add_subcommand("session", "Conversations that the daemon keeps under a name");
  command->require_subcommand(1);
  const auto options = std::make_shared<SessionOptions>();
  const auto does = [&context, options](Action action) {
    return [&context, options, action] {
      wire::Session request = {.action = action, .name = options->name, .to = options->to, .save = options->save};
      if (action == Action::rewind) request.turns = options->turns;
      if (options->drop_oldest) request.overflow = wire::SessionOverflow::drop_oldest;
      context.exit_code = change(*options, request);
    };
  };
  add(*command, "list", "Show them", options)->callback(does(Action::list));

  CLI::App* const open = add(*command, "open", "Begin one, or find the one that there is", options);
  open->add_flag("--drop-oldest", options->drop_oldest,
                 "When the context is full, forget the oldest turns instead of failing");
  CLI::Option* const system =
      open->add_option("--system", options->system, "An instruction that it begins with; it is computed at once");
  open->add_option("--tools", options->tools, "A file with the OpenAI \"tools\" array, for the same")
      ->check(not_empty())
      ->needs(system);
  open->callback(does(Action::open));

  CLI::App* const fork = add(*command, "fork", "Begin another one with all that was said in this one", options);
  fork->add_option("to", options->to, "Name of the other one")->required()->check(not_empty());
  fork->callback(does(Action::fork));

  CLI::App* const rewind = add(*command, "rewind", "Forget the last turns", options);
  rewind->add_option("turns", options->turns, "How many")
      ->check(whole_number(0, std::numeric_limits<std::uint32_t>::max()))
      ->capture_default_str();
  rewind->callback(does(Action::rewind));

  CLI::App* const close = add(*command, "close", "Forget one, or put it away on the disk", options);
  close->add_flag("--save", options->save, "Write it to disk, where its name finds it again");
  close->callback(does(Action::close));
}

}  // namespace sirocco

// sirocco generate: one prompt, one answer, as it comes.
#include <fmt/format.h>
#include <unistd.h>

#include <iostream>
#include <iterator>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "cli/answer.h"
#include "cli/client_commands.h"
#include "cli/interrupt.h"
#include "cli/output.h"
#include "cli/request_options.h"
#include "cli/session_command.h"

namespace sirocco {
namespace {

struct GenerateOptions {
  std::string socket;
  std::string prompt;
  bool prompt_given = false;
  bool raw = false;
  bool special = false;
  bool json = false;
  RequestOptions request;
};

// The prompt of the flag, or all of standard input. A shell's `echo` ends with a newline that nobody meant, so one is
// dropped, except where the text is continued exactly as it is.
std::string prompt_of(const GenerateOptions& options) {
  if (options.prompt_given) return options.prompt;
  std::string text((std::istreambuf_iterator<char>(std::cin)), std::istreambuf_iterator<char>());
  if (!options.raw && !text.empty() && text.back() == '\n') text.pop_back();
  return text;
}

// Why the answer is shorter than the model would have it, for a person who watches.
void explain_end(const wire::Done& done) {
  if (done.reason == wire::DoneReason::max_tokens)
    fmt::print(stderr, "sirocco: stopped after {} tokens (--max-tokens)\n", done.generated_tokens);
  if (done.reason == wire::DoneReason::context_full)
    fmt::print(stderr, "sirocco: stopped, the model's context is full\n");
  if (done.reason == wire::DoneReason::deadline)
    fmt::print(stderr, "sirocco: stopped at the deadline (--deadline-ms)\n");
  if (done.reason == wire::DoneReason::superseded)
    fmt::print(stderr, "sirocco: stopped, a newer request has the same key (--latest-wins-key)\n");
}

int generate(const GenerateOptions& options) {
  wire::Generate request =
      make_request(options.request, wire::TextPrompt{.text = prompt_of(options), .special = options.special});
  request.raw = options.raw;
  auto client = Client::connect(options.socket);
  if (!client) return report_failure(client.error().message);
  if (!options.request.session.empty()) {
    const auto session = find_or_open(*client, options.request.session, wire::SessionOverflow::fail);
    if (!session) return report_failure(session.error().message);
  }
  bool shown = false;
  bool newline = false;                               // at the end of what was shown
  const Interrupt interrupt(Interrupt::Again::ends);  // a daemon that is stuck must not hold us
  const auto show_text = [&](std::string_view text) {
    shown = true;
    newline = text.back() == '\n';
    return show(text);
  };
  const auto answer = options.json ? ask(*client, request) : ask(*client, request, show_text);
  if (output_error() != 0) return 1;  // nobody reads: the rest was not asked for
  if (shown && !newline) show("\n");
  if (!answer) {
    report_failure(answer.error().message);
    const std::optional<wire::ModelCard>& model = client->welcome().model;
    if (!options.raw && model && model->chat_format.empty())
      report_failure("the model has no chat format that is known; with --raw it continues the text as it is");
    return 1;
  }
  if (options.json) {
    print_json(answer_json(*answer));
  } else {
    explain_end(answer->done);
    warn_if_lossy(answer->done);
  }
  if (answer->done.reason == wire::DoneReason::cancelled) return report_failure("cancelled");
  return 0;
}

}  // namespace

void add_generate_command(CLI::App& app, CommandContext& context) {
  CLI::App* command = app.add_subcommand("generate", "Answer one prompt");
  const auto options = std::make_shared<GenerateOptions>();
  add_socket_option(*command, options->socket);
  const CLI::Option* prompt =
      command->add_option("--prompt", options->prompt, "The prompt; standard input if not given and not a terminal");
  CLI::Option* raw = command->add_flag("--raw", options->raw, "No chat format: the model continues the text as it is");
  command->add_flag("--special", options->special, "With --raw: control tokens written in the text are control tokens")
      ->needs(raw);
  command->add_flag("--json", options->json, "Print one JSON document when the answer is complete");
  add_request_options(*command, options->request);
  command->callback([options, prompt, &context] {
    options->prompt_given = prompt->count() > 0;
    if (!options->prompt_given && isatty(STDIN_FILENO) != 0)
      throw CLI::RequiredError("--prompt (or a prompt on standard input)");
    context.exit_code = generate(*options);
  });
}

}  // namespace sirocco

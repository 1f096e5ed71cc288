// sirocco chat: the conversation is kept here and sent whole with each line, so the daemon may go away and come back;
// or, with --session, by the daemon under a name, which finds it again another day.
#include <fmt/format.h>
#include <unistd.h>

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "cli/answer.h"
#include "cli/client_commands.h"
#include "cli/interrupt.h"
#include "cli/line_history.h"
#include "cli/line_reader.h"
#include "cli/output.h"
#include "cli/request_options.h"
#include "cli/session_command.h"
#include "ipc/wire/limits.h"

namespace sirocco {
namespace {

constexpr std::string_view kHelp =
    "  /system TEXT   begin anew with this instruction (none if TEXT is empty)\n"
    "  /clear         begin anew: the model forgets the conversation\n"
    "  /stats         tokens and speed of the last answer\n"
    "  /help          this\n"
    "  /exit          leave, as Ctrl-D does\n"
    "Ctrl-C stops an answer, or clears the line; once more leaves a daemon that does not answer.\n";

struct ChatOptions {
  std::string socket;
  std::string system;
  RequestOptions request;
};

class Chat {
 public:
  explicit Chat(const ChatOptions& options) : options_(options), system_(options.system) { clear(); }

  int run() {
    // A daemon that is not there is told at once, not after the first question.
    if (!connect()) return 1;
    if (isatty(STDOUT_FILENO) != 0) greet();
    const auto lines = make_line_reader("> ", history_path());
    for (Line line = lines->read(); line.kind != Line::Kind::end && output_error() == 0; line = lines->read()) {
      const std::size_t begin = line.text.find_first_not_of(" \t");
      if (begin == std::string::npos) continue;  // nothing, or Ctrl-C
      if (line.text[begin] != '/') {
        answer(std::move(line.text));
      } else if (!command(std::string_view(line.text).substr(begin))) {
        break;
      }
    }
    return failed_ ? 1 : 0;
  }

 private:
  bool connect() {
    auto connected = Client::connect(options_.socket);
    if (!connected) {
      failed_ = true;
      report_failure(connected.error().message);
      return false;
    }
    client_ = std::move(*connected);
    return !in_session() || find_session();
  }

  bool in_session() const { return !options_.request.session.empty(); }

  // One that has turns goes on with what it began with.
  bool find_session() {
    const auto session = find_or_open(*client_, options_.request.session, wire::SessionOverflow::drop_oldest);
    if (!session) {
      fail(session.error());
      client_.reset();
      return false;
    }
    if (session->turns == 0 && session->saved_bytes == 0) return true;
    if (!messages_.empty()) show("The conversation goes on; its own instruction stays.\n");
    messages_.clear();
    return true;
  }

  // It begins anew, too.
  void clear_session() {
    if (!in_session() || !client_) return;
    const auto closed = client_->session({.action = wire::SessionAction::close, .name = options_.request.session});
    if (!closed) return fail(closed.error());
    find_session();
  }

  void greet() const {
    const std::optional<wire::ModelCard>& model = client_->welcome().model;
    show(fmt::format("{}. /help for help, Ctrl-D to leave.\n", model ? model->name : "No model is loaded yet"));
  }

  void clear() {
    messages_.clear();
    if (!system_.empty())
      messages_.push_back({.role = wire::Role::system, .content = system_, .tool_calls = {}, .tool_call_id = {}});
  }

  // False: leave.
  bool command(std::string_view line) {
    const std::size_t space = line.find(' ');
    const std::string_view name = line.substr(0, space);
    if (name == "/exit" || name == "/quit") return false;
    if (name == "/help") {
      show(kHelp);
    } else if (name == "/clear") {
      clear();
      clear_session();
      show("The conversation begins anew.\n");
    } else if (name == "/system") {
      system_ = space == std::string_view::npos ? "" : line.substr(space + 1);
      clear();
      clear_session();
      show("The conversation begins anew, with the instruction given.\n");
    } else if (name == "/stats") {
      show(last_ ? answer_speed(*last_) + "\n" : "No answer yet.\n");
    } else {
      show(fmt::format("{}: no such command; /help lists them\n", name));
    }
    return true;
  }

  void answer(std::string line) {
    if (!client_ && !connect()) return;
    messages_.push_back({.role = wire::Role::user, .content = std::move(line), .tool_calls = {}, .tool_call_id = {}});
    const wire::Generate request = make_request(options_.request, wire::ChatPrompt{.messages = messages_, .tools = {}});
    bool shown = false;
    auto answer = ask(*client_, request, [&shown](std::string_view text) {
      shown = true;
      return show(text);
    });
    if (answer || shown) show("\n");
    if (!answer) {
      messages_.pop_back();  // what was not answered is not part of the conversation
      fail(answer.error());
      return;
    }
    failed_ = false;
    last_ = answer->done;
    explain_end(answer->done);
    warn_if_lossy(answer->done);
    // The daemon keeps a session's conversation, if it has any answer.
    if (in_session()) return answer->text.empty() ? messages_.pop_back() : messages_.clear();
    // A stopped answer stays as far as it came: the conversation goes on from what was read.
    messages_.push_back(
        {.role = wire::Role::assistant, .content = std::move(answer->text), .tool_calls = {}, .tool_call_id = {}});
  }

  void fail(const ClientError& error) {
    failed_ = true;
    if (error.kind == ClientError::Kind::gave_up) show("[stopped]\n");
    report_failure(error.message);
    if (error.code == wire::ErrorCode::context_overflow)
      report_failure("the conversation has grown longer than the model's context; /clear begins anew");
    if (messages_.size() >= wire::kMaxChatMessages)
      report_failure("the conversation has as many messages as the protocol allows; /clear begins anew");
    // What was never sent, and of what the daemon refuses all but its own end, leaves the connection as it was.
    const bool stays = error.kind == ClientError::Kind::invalid ||
                       (error.kind == ClientError::Kind::refused && error.code != wire::ErrorCode::shutting_down);
    if (stays) return;
    client_.reset();
    report_failure("the next line connects again");
  }

  static void explain_end(const wire::Done& done) {
    if (done.reason == wire::DoneReason::cancelled) show("[stopped]\n");
    if (done.reason == wire::DoneReason::max_tokens)
      show(fmt::format("[stopped after {} tokens: --max-tokens]\n", done.generated_tokens));
    if (done.reason == wire::DoneReason::context_full) show("[the model's context is full: /clear begins anew]\n");
    if (done.dropped_turns != 0)
      show(fmt::format("[the context was full: the oldest {} turns are forgotten]\n", done.dropped_turns));
  }

  const ChatOptions& options_;
  Interrupt interrupt_{Interrupt::Again::handled};
  std::optional<Client> client_;
  std::string system_;
  std::vector<wire::ChatMessage> messages_;
  std::optional<wire::Done> last_;
  bool failed_ = false;  // the last thing asked
};

}  // namespace

void add_chat_command(CLI::App& app, CommandContext& context) {
  CLI::App* command = app.add_subcommand("chat", "Talk with the model");
  const auto options = std::make_shared<ChatOptions>();
  options->request.sampling.temperature = 0.6F;
  options->request.sampling.top_p = 0.95F;
  add_socket_option(*command, options->socket);
  command->add_option("--system", options->system, "An instruction that the conversation begins with");
  add_request_options(*command, options->request);
  command->callback([options, &context] { context.exit_code = Chat(*options).run(); });
}

}  // namespace sirocco

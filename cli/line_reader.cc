#include "cli/line_reader.h"

#include <fmt/format.h>
#include <histedit.h>
#include <langinfo.h>
#include <poll.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <clocale>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <cwchar>
#include <system_error>
#include <utility>

#include "cli/line_history.h"

namespace sirocco {
namespace {

class PipedLines final : public LineReader {
 public:
  Line read() override {
    char* buffer = nullptr;
    std::size_t capacity = 0;
    const ssize_t length = getline(&buffer, &capacity, stdin);
    Line line;
    if (length >= 0) line = {.kind = Line::Kind::text, .text = std::string(buffer, static_cast<std::size_t>(length))};
    free(buffer);  // getline's, by malloc
    if (!line.text.empty() && line.text.back() == '\n') line.text.pop_back();
    return line;
  }
};

volatile std::sig_atomic_t end_signal = 0;  // that came at the prompt

void on_end_signal(int signal) {
  end_signal = signal;
}

// While it lives, signals that end the program wait, and those that would end it at once only leave a note.
class SignalsHeld {
 public:
  SignalsHeld() {
    sigset_t held;
    sigemptyset(&held);
    for (const int signal : kHeld) sigaddset(&held, signal);
    sigprocmask(SIG_BLOCK, &held, &mask_before_);
    struct sigaction action = {};
    action.sa_handler = on_end_signal;
    sigaction(SIGTERM, &action, &term_before_);
    sigaction(SIGHUP, &action, &hangup_before_);
  }
  ~SignalsHeld() {
    sigaction(SIGTERM, &term_before_, nullptr);
    sigaction(SIGHUP, &hangup_before_, nullptr);
    sigprocmask(SIG_SETMASK, &mask_before_, nullptr);
  }
  SignalsHeld(const SignalsHeld&) = delete;
  SignalsHeld& operator=(const SignalsHeld&) = delete;

  // The present mask without the signals held.
  static sigset_t let_in() {
    sigset_t mask;
    sigprocmask(SIG_SETMASK, nullptr, &mask);
    for (const int signal : kHeld) sigdelset(&mask, signal);
    return mask;
  }

 private:
  static constexpr std::array kHeld = {SIGINT, SIGTERM, SIGHUP};
  sigset_t mask_before_ = {};
  struct sigaction term_before_ = {};
  struct sigaction hangup_before_ = {};
};

class TerminalLines final : public LineReader {
 public:
  TerminalLines(std::string prompt, std::filesystem::path path)
      : prompt_(std::move(prompt)), path_(std::move(path)), history_(history_init()) {
    // libedit reads characters of the locale; a terminal of today is UTF-8 even where LANG says nothing.
    std::setlocale(LC_CTYPE, "");
    if (std::strcmp(nl_langinfo(CODESET), "UTF-8") != 0) std::setlocale(LC_CTYPE, "C.UTF-8");
    edit_ = el_init("sirocco", stdin, stdout, stderr);
    // Signals stay with the caller: libedit would pass them on to the whole process group.
    el_set(edit_, EL_SIGNAL, 0);
    el_set(edit_, EL_CLIENTDATA, this);
    el_set(edit_, EL_GETCFN, &TerminalLines::read_character);
    el_set(edit_, EL_PROMPT, &TerminalLines::prompt);
    el_set(edit_, EL_EDITOR, "emacs");
    HistEvent event;
    history(history_, &event, H_SETSIZE, static_cast<int>(kHistoryLines));
    history(history_, &event, H_SETUNIQUE, 1);
    for (const std::string& line : load_history(path_)) history(history_, &event, H_ENTER, line.c_str());
    el_set(edit_, EL_HIST, ::history, history_);
    el_source(edit_, nullptr);  // ~/.editrc
  }

  ~TerminalLines() override {
    history_end(history_);
    el_end(edit_);
  }

  TerminalLines(const TerminalLines&) = delete;
  TerminalLines& operator=(const TerminalLines&) = delete;

  Line read() override {
    Line line;
    {
      const SignalsHeld held;
      line = edit();
    }
    // Once more, now that the terminal is as it was: the end that was asked for.
    if (const int signal = std::exchange(end_signal, 0); signal != 0) raise(signal);
    return line;
  }

 private:
  Line edit() {
    // Before the prompt shows: what is typed at it, Ctrl-D above all, is for the editor and not for the terminal's own.
    el_set(edit_, EL_PREP_TERM, 1);
    el_resize(edit_);  // the window may have another size by now
    int count = 0;
    errno = 0;
    const char* const typed = el_gets(edit_, &count);
    if (typed == nullptr) {
      const bool interrupted = count < 0 && errno == EINTR;
      el_reset(edit_);
      std::fputc('\n', stdout);
      return {.kind = interrupted ? Line::Kind::interrupted : Line::Kind::end, .text = {}};
    }
    Line line = {.kind = Line::Kind::text, .text = typed};
    if (!line.text.empty() && line.text.back() == '\n') line.text.pop_back();
    if (line.text.find_first_not_of(" \t") != std::string::npos) remember(line.text);
    return line;
  }

  void remember(const std::string& line) {
    HistEvent event;
    history(history_, &event, H_ENTER, line.c_str());
    if (path_.empty() || append_history(path_, line)) return;
    fmt::print(stderr, "sirocco: the history cannot be saved in {}: {}\n", path_.string(),
               std::generic_category().message(errno));
    path_.clear();  // once is enough
  }

  static char* prompt(EditLine* edit) {
    void* self = nullptr;
    el_get(edit, EL_CLIENTDATA, &self);
    return static_cast<TerminalLines*>(self)->prompt_.data();
  }

  // A character of the locale from standard input: 1, 0 at its end, -1 with errno EINTR after a signal. Signals are let
  // in only while this waits: wherever libedit was when one came, it ends the next wait and cannot be lost.
  static int read_character(EditLine*, wchar_t* character) {
    const sigset_t while_waiting = SignalsHeld::let_in();
    std::mbstate_t state = {};
    for (;;) {
      pollfd input = {.fd = STDIN_FILENO, .events = POLLIN, .revents = 0};
      if (ppoll(&input, 1, nullptr, &while_waiting) < 0) return -1;
      char byte = 0;
      const ssize_t count = ::read(STDIN_FILENO, &byte, 1);
      if (count <= 0) return static_cast<int>(count);
      const std::size_t length = std::mbrtowc(character, &byte, 1, &state);
      if (length <= 1) return 1;
      if (length == static_cast<std::size_t>(-1)) state = {};  // no character of the locale: passed over
    }
  }

  std::string prompt_;
  std::filesystem::path path_;
  History* history_;
  EditLine* edit_ = nullptr;
};

}  // namespace

std::unique_ptr<LineReader> make_line_reader(const std::string& prompt, const std::filesystem::path& history) {
  if (isatty(STDIN_FILENO) == 0 || isatty(STDOUT_FILENO) == 0) return std::make_unique<PipedLines>();
  return std::make_unique<TerminalLines>(prompt, history);
}

}  // namespace sirocco
